"""The filter between xz and tar: what it passes on is safe to unpack, and nothing else is passed on."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccstore.builders import archive, tarfilter
from tests.builders.tars import Memory, Written, entry, file, folder, hardlink, symlink, tar

FILTER = Path(tarfilter.__file__)


def run_filter(data: bytes, *options: str, report: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **({"CCSTORE_REPORT": str(report)} if report else {})}
    return subprocess.run(
        [sys.executable, "-I", str(FILTER), *options],
        input=data,
        capture_output=True,
        env=environment,
        check=False,
    )


def test_honest_archive_passes_unchanged() -> None:
    big = random.Random(1).randbytes(3 << 20)
    data = tar([folder("d"), file("d/big", big), file("d/" + "n" * 200, b"1"), symlink("d/l", "big")])
    done = run_filter(data)
    assert done.returncode == 0
    assert done.stdout == data


def test_refused_entry_is_not_passed_on(tmp_path: Path) -> None:
    report = tmp_path / "report"
    done = run_filter(tar([file("fine", b"1" * 1000), file("../evil", b"SECRET")]), report=report)
    assert done.returncode == 1
    assert done.stdout == tar([file("fine", b"1" * 1000)])[: 512 + 1024]
    found = json.loads(report.read_text())
    assert found["code"] == "archive-refused"
    assert "../evil" in found["message"]
    assert found["hint"]


def test_long_name_of_a_refused_entry_is_not_passed_on() -> None:
    done = run_filter(tar([file("fine"), symlink("l" * 200, "/" + "t" * 200)]))
    assert done.returncode == 1
    assert len(done.stdout) == 1024


def test_limits_are_options() -> None:
    data = tar([file(f"f{number}", bytes(10)) for number in range(5)])
    assert run_filter(data, "--max-entries", "5", "--max-bytes", "50").returncode == 0
    assert run_filter(data, "--max-entries", "4").returncode == 1
    assert run_filter(data, "--max-bytes", "49").returncode == 1


def test_vanished_tar_is_told_apart() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-I", str(FILTER)], input=tar([file("a")]), stdout=gone, check=False
        )
    assert done.returncode == 2


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 4096])
def test_pieces_of_any_size(size: int, tmp_path: Path) -> None:
    """Reads that end in the middle of a header or of a body change nothing."""
    data = tar([folder("d"), file("d/a", b"1" * 700), file("d/" + "n" * 150, b""), file("b", b"2" * 512)])
    source, sink = os.pipe()
    out = tmp_path / "out"
    original = tarfilter.CHUNK
    tarfilter.CHUNK = size
    try:
        os.write(sink, data)
        os.close(sink)
        with out.open("wb") as file_out:
            tarfilter.pass_archive(source, file_out.fileno(), archive.TreeCheck())
    finally:
        tarfilter.CHUNK = original
        os.close(source)
    assert out.read_bytes() == data


names = st.lists(st.sampled_from(["a", "b", "c", ".", "..", ""]), min_size=1, max_size=4).map("/".join)
makers: list[Callable[[str, str], Written]] = [
    lambda name, _: file(name, b"content"),
    lambda name, _: folder(name),
    symlink,
    hardlink,
    lambda name, _: entry(name, type=tarfile.FIFOTYPE),
]
entries = st.lists(st.builds(lambda make, name, to: make(name, to), st.sampled_from(makers), names, names))
formats = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@settings(max_examples=100, deadline=None)
@given(entries, formats)
def test_what_passes_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, written: list[Written], format: int
) -> None:
    data = tar(written, format)
    if _listing(data) is None:
        return
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        _check_unpacked(data, Path(folder))


def _check_unpacked(data: bytes, base: Path) -> None:
    target = base / "one/two"
    target.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", target], input=data, check=True, capture_output=True)
    assert [each.name for each in base.iterdir()] == ["one"]
    assert [each.name for each in (base / "one").iterdir()] == ["two"]
    for path in target.rglob("*"):
        assert path.is_symlink() or path.is_dir() or path.is_file()
        assert _inside(path, target)


def _inside(path: Path, target: Path) -> bool:
    try:
        return path.resolve(strict=False).is_relative_to(target.resolve())
    except (OSError, RuntimeError):  # a link that leads to itself leads nowhere
        return True


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_bytes_are_read_as_tar_reads_them(data: st.DataObject) -> None:
    """A damaged header is refused, or it means the same to us as to another reader."""
    whole = bytearray(tar([folder("d"), file("d/a", b"1" * 600), symlink("d/l", "a"), hardlink("h", "d/a")]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, 2047))] = data.draw(st.integers(0, 255))
    found = _listing(bytes(whole))
    if found is not None:
        with tarfile.open(fileobj=io.BytesIO(bytes(whole))) as other:
            assert found == [(archive.normalise(each.name.encode()), each.size) for each in other]


def _listing(data: bytes) -> list[tuple[bytes, int]] | None:
    source, check = Memory(data), archive.TreeCheck()
    found = []
    try:
        for member in archive.members(source):
            check.add(member)
            found.append((member.path, member.size))
    except archive.ArchiveRefused:
        return None
    return found
