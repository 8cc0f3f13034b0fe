"""What only the sandbox promises of a build's beginning; the rest is in test_contract.py."""

from __future__ import annotations

import os
import signal

from .conftest import Builds


def test_it_is_the_second_process(builds: Builds) -> None:
    assert builds.run("echo $$").log == "2\n"


def test_the_callers_umask_does_not_matter(builds: Builds) -> None:
    before = os.umask(0o077)
    try:
        done = builds.run("stat -c %a /build /tmp /out /in /in/.builder", files={"x": ""})
    finally:
        os.umask(before)
    assert done.log.split() == ["755"] * 5


def test_the_callers_signals_do_not_matter(builds: Builds) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = builds.run("", argv=("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert done.log.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]
