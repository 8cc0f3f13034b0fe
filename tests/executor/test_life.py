"""Builds in the sandbox that lose their parent, fill the disk or are asked to end.

Other ends are in test_contract.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from ccstore.errors import CcError
from ccstore.executor import layout
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Assistance, Cancel

from .conftest import Builds, Done, alive, marker, unheard, wait_until
from .nested import in_namespaces, mount_tmpfs


def void(_: object) -> None:
    """Takes the place of a result that nobody wants."""


def test_a_killed_parent_takes_the_build_with_it(builds: Builds) -> None:
    mark = marker()
    request = builds.request(f"(setsid sleep {mark} &); echo begun; sleep {mark}")
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            Sandbox().build(request, lambda data: void(pipe.write(data)), Cancel())
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 6) == b"begun\n"
    os.close(reader)
    assert alive(mark)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: not alive(mark))


def test_a_full_disk_fails_the_build_only(builds: Builds) -> None:
    def action() -> None:
        mount_tmpfs(builds.place, "size=1m")
        done = builds.run("dd if=/dev/zero of=/build/big bs=1k count=4000")
        assert (done.result.outcome, done.result.exit_status) == ("failed", 1)
        assert "No space left on device" in done.log
        assert builds.run("head -c 500000 /dev/zero > $out").result.outcome == "built"

    in_namespaces(action)


def test_a_disk_that_is_full_before_the_build(builds: Builds) -> None:
    def action() -> None:
        mount_tmpfs(builds.place, "nr_inodes=4")
        request = builds.request("true")
        with pytest.raises(CcError) as caught:
            Sandbox().build(request, unheard, Cancel())
        assert caught.value.code == "disk-full"
        assert list(request.scratch.iterdir()) == []

    in_namespaces(action)


def kept(builds: Builds) -> Assistance:
    folder = builds.place / "kept"
    folder.mkdir(exist_ok=True)
    return Assistance(build=folder)


def cancelled(builds: Builds, script: str) -> Done:
    """Cancelled once its `$sleep` runs."""
    mark, cancel = marker(), Cancel()

    def cancel_when_it_runs() -> None:
        wait_until(lambda: alive(mark))
        cancel.cancel()

    watch = threading.Thread(target=cancel_when_it_runs)
    watch.start()
    # the script itself has no such words
    sleep = f"sleep='sleep {mark[:2]}''{mark[2:]}'; {script}"
    done = builds.run(sleep, cancel=cancel, assistance=kept(builds))
    watch.join()
    assert done.result.outcome == "cancelled"
    wait_until(lambda: not alive(mark))
    return done


def test_in_a_folder_that_is_kept_all_are_asked_to_end(builds: Builds) -> None:
    """And waited for: also who is no child of the command's any more, and the command's own end ends none."""
    slow = 'trap "sleep 1; echo tidy > /build/tidy; exit" TERM; $sleep & wait'
    done = cancelled(builds, f"export sleep; (setsid sh -c '{slow}' &); sleep 60")
    assert done.result.in_order
    assert (builds.place / "kept/tidy").read_text() == "tidy\n"


@pytest.mark.parametrize("deaf", ["trap '' TERM;", "kill -STOP $$;"])
def test_who_does_not_end_is_killed(builds: Builds, monkeypatch: pytest.MonkeyPatch, deaf: str) -> None:
    monkeypatch.setattr(layout, "GRACE", 1)
    began = time.monotonic()
    done = cancelled(builds, f"(sleep 0.3; exec $sleep) & {deaf} while :; do sleep 0.1; done")
    assert not done.result.in_order
    assert time.monotonic() - began > 1


def test_asked_before_it_runs(builds: Builds) -> None:
    """The signal waits for the command, or finds it."""
    for delay in (0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2):
        cancel = Cancel()
        timer = threading.Timer(delay, cancel.cancel)
        timer.start()
        began = time.monotonic()
        done = builds.run("sleep 60", cancel=cancel, assistance=kept(builds))
        timer.join()
        assert (done.result.outcome, done.result.in_order) == ("cancelled", True)
        assert time.monotonic() - began < layout.GRACE


@pytest.mark.parametrize(
    ("script", "in_order"),
    [("true", True), ("exit 2", True), ("kill -9 $$", False), ("sh -c 'kill -9 $$'; exit $?", False)],
)
def test_who_ends_by_a_signal_does_not_end_in_order(builds: Builds, script: str, in_order: bool) -> None:
    """Others may have been waited for."""
    assert builds.run(script, assistance=kept(builds)).result.in_order is in_order


def test_a_time_limit_asks_too(builds: Builds) -> None:
    done = builds.run("trap 'echo tidy; exit' TERM; sleep 60 & wait", timeout=1, assistance=kept(builds))
    assert (done.result.outcome, done.result.in_order, done.log) == ("timeout", True, "tidy\n")


def test_a_build_cannot_end_the_first_process(builds: Builds) -> None:
    assert builds.run("kill 1; kill -HUP 1; kill -ALRM 1; sleep 0.2; echo still here").log == "still here\n"
