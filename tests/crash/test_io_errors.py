"""EIO from any one call that changes the store, and from the reading of any file: words for it, and a whole store.

No file system of this host can be told to fail, so a library that is preloaded (shim.c) does it in its place.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CCSTORE
from tests.crash.test_disk import goes_on
from tests.crash.tiny import TARGETS, Tiny

COUNT = 12  # of each command in a normal run
COMMANDS = {"realize": ("realize", *TARGETS), "gc": ("gc",)}


@pytest.fixture
def shim(memory: Path, tool: Callable[[str], str]) -> Path:
    library = memory / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run([tool("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-o", library, source], check=True)
    return library


def run(tiny: Tiny, shim: Path, words: tuple[str, ...], **faults: object) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(shim),
        "FAULT_BELOW": f"{tiny.store}/",
        **{name: str(value) for name, value in faults.items()},
    }
    argv = [str(CCSTORE), *words, "--store", str(tiny.store)]
    return subprocess.run(argv, cwd=tiny.root, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_one_call_fails(name: str, tiny: Tiny, shim: Path, memory: Path, full: bool) -> None:
    tiny.realize()
    tiny.edit("another\n")
    if name == "gc":
        tiny.realize()
    counted = run(tiny.with_store(memory / "counted"), shim, COMMANDS[name], FAULT_COUNT=memory / "count")
    assert counted.returncode == 0, counted.stderr
    [calls] = struct.unpack("i", (memory / "count").read_bytes())
    failed = 0
    numbers = range(1, calls + 1, 1 if full else max(1, calls // COUNT))
    for number in numbers:
        hurt = tiny.with_store(memory / str(number))
        done = run(hurt, shim, COMMANDS[name], FAULT_AT=number)
        assert done.returncode in (0, 6), (number, done.stderr)
        if done.returncode:
            failed += 1
            assert "[disk-failed]" in done.stderr or os.strerror(errno.EIO) in done.stderr, done.stderr
        goes_on(hurt, number)
    print(f"{name}: {len(numbers)} of {calls} calls, {failed} failures")
    assert failed


def test_a_file_that_cannot_be_read_is_named_and_hides_nothing(tiny: Tiny, shim: Path) -> None:
    tiny.realize()
    objects = tiny.store / "objects"
    [unreadable], [other] = objects.glob("*-made/text"), objects.glob("*-made-dev")
    other.chmod(0o700)
    for words in (("verify",), ("verify", "--full")):
        found = run(tiny, shim, words, FAULT_FILE=unreadable)
        assert found.returncode == 4, found.stderr
        assert f"content  {unreadable}  it cannot be read: Input/output error" in found.stdout
        assert f"metadata  {other}  " in found.stdout
