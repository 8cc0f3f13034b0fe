"""What hypothesis makes of the seeds of the fuzzers: a reader refuses or reads, in bounded memory, inside its folder.

A property test finds less than the fuzzers beside it, and shrinks what it finds; it needs no namespaces and runs on
any machine.
"""

from __future__ import annotations

import importlib
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.executor.scratch import empty_folder
from tests.fuzz.campaign import NAMES
from tests.fuzz.target import Target

MEMORY = 24 << 20  # bytes, for texts of at most 8 kB; the readers' own buffers have a megabyte or so
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "double", "flip", "number"]),
        st.integers(0, 1 << 16),
        st.integers(0, 255),
    ),
    max_size=6,
)


def target_of(name: str) -> Target:
    found: Target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    return found


def edited(text: bytes, edits: list[tuple[str, int, int]], target: Target) -> bytes:
    for edit, place, value in edits:
        at = place % (len(text) + 1)
        end = at + value % 64
        match edit:
            case "insert":
                word = target.tokens[value % len(target.tokens)]
                text = text[:at] + word + text[at:]
            case "delete":
                text = text[:at] + text[end:]
            case "double":
                text = text[:end] + text[at:]
            case "flip":
                text = text[:at] + bytes([value]) + text[at + 1 :]
            case _:
                text = text[:at] + b"\xff" * 7 + bytes([value]) + text[at + 8 :]
    return target.mend(text[: target.max_size])


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_read(name: str, tmp_path: Path) -> None:
    """Or the fuzzers would begin behind the first check of the format."""
    target = target_of(name)
    read = 0
    for text in target.seeds.values():
        read += target.run(text, tmp_path)
        empty_folder(tmp_path)
    assert read >= len(target.seeds) // 2


@pytest.mark.parametrize("name", NAMES)
def test_readers_keep_to_their_folder_and_their_memory(name: str) -> None:
    target = target_of(name)

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.sampled_from(sorted(target.seeds)), EDITS)
    def holds(seed: str, edits: list[tuple[str, int, int]]) -> None:
        with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
            work = Path(folder) / "inside"
            work.mkdir()
            text = edited(target.seeds[seed], edits, target)
            tracemalloc.reset_peak()
            target.run(text, work)
            assert tracemalloc.get_traced_memory()[1] < MEMORY
            assert [each.name for each in Path(folder).iterdir()] == ["inside"]
            empty_folder(work)

    tracemalloc.start()
    try:
        holds()
    finally:
        tracemalloc.stop()
