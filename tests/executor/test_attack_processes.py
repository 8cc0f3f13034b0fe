"""A build that wants to do something to other processes, or to outlive itself."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

import pytest

from .attacking import Attacks, ended
from .conftest import alive, marker


@contextlib.contextmanager
def victim() -> Iterator[int]:
    """A process of the host, of the same user."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process.pid
            assert process.poll() is None
        finally:
            process.kill()


def test_processes_of_the_host_cannot_be_touched(attacks: Attacks) -> None:
    with victim() as theirs:
        attacks.all_fail("processes.touches_others", theirs, wanted=13)
        assert os.getpriority(os.PRIO_PROCESS, theirs) == os.getpriority(os.PRIO_PROCESS, 0) < 19


def test_killing_all_kills_its_own(attacks: Attacks) -> None:
    with victim():
        done = attacks.run("processes.kills_all")
        assert done.result.outcome == "built", done.log
        assert done.log.endswith("alive\n")
        assert len(ended(done.log.splitlines())) == 1


@pytest.mark.parametrize("end", ["well", "cancelled"])
def test_nothing_outlives_a_build(attacks: Attacks, end: str) -> None:
    """Daemons, the deaf, the stopped, the traced and those that breed."""
    mark = marker()
    done = attacks.run("processes.outlives", mark, end, until="" if end == "well" else "left")
    assert done.result.outcome == ("built" if end == "well" else "cancelled"), done.log
    assert "left" in done.log
    assert not alive(mark)
