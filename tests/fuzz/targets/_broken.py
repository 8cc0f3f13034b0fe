"""A reader that does everything wrong, for the test of the fuzzers themselves."""

from __future__ import annotations

import time
from pathlib import Path

from tests.fuzz.target import Target


def run(data: bytes, work: Path) -> bool:
    if data == b"beside":
        (work.parent / "beside").touch()
    elif data == b"outside":
        Path(__file__).with_suffix(".outside").touch()
    elif data == b"memory":
        bytes(4 << 30)
    elif data == b"growth":
        kept = [b"x" * (1 << 20) for _ in range(1500)]
        time.sleep(5)  # the fuzzer looks at its size once a second
        assert kept
    elif data == b"hang":
        while True:
            pass
    elif data == b"crash":
        raise KeyError(data)
    return True


TARGET = Target(run, {}, (b"crash",))
