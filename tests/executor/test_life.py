"""Builds that hang, are cancelled, lose their parent, leave daemons or fill the disk: nothing survives them."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel

from .conftest import Builds, unheard
from .nested import in_namespaces, mount_tmpfs


def marker() -> str:
    """An argument of `sleep` that no other process on this machine has."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6):06}"


def alive(mark: str) -> bool:
    """Whether a process of the host has `mark` in its command line."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    return True
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    return False


def void(_: object) -> None:
    """Takes the place of a result that nobody wants."""


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def test_a_build_that_hangs_is_ended(builds: Builds) -> None:
    mark = marker()
    start = time.monotonic()
    done = builds.run(f"echo x > $out; echo begun; sleep {mark}", timeout=0.5)
    assert done.result.outcome == "timeout"
    assert done.log == "begun\n"
    assert 0.5 <= time.monotonic() - start < 20
    assert not alive(mark)


def test_a_build_that_prints_for_ever_is_ended(builds: Builds) -> None:
    assert builds.run("yes", timeout=0.3).result.outcome == "timeout"


def test_a_timeout_that_is_not_reached(builds: Builds) -> None:
    assert builds.run("sleep 0.1", timeout=60).result.outcome == "built"


def test_cancelled_from_another_thread(builds: Builds) -> None:
    mark, cancel = marker(), Cancel()

    def cancel_when_it_runs() -> None:
        wait_until(lambda: alive(mark))
        cancel.cancel()

    watch = threading.Thread(target=cancel_when_it_runs)
    watch.start()
    # the trap and the background process would outlive anything but the end of their namespace
    done = builds.run(
        f"trap '' TERM INT HUP; echo x > $out; (setsid sleep {mark} &); sleep {mark}", cancel=cancel
    )
    watch.join()
    assert done.result.outcome == "cancelled"
    assert not alive(mark)


def test_cancelled_before_it_began(builds: Builds) -> None:
    cancel = Cancel()
    cancel.cancel()
    done = builds.run("echo ran", cancel=cancel)
    assert (done.result.outcome, done.log) == ("cancelled", "")


def test_cancelled_at_any_moment(builds: Builds) -> None:
    """Also while the sandbox is being made, where the signal meets each process in turn."""
    mark = marker()
    for delay in (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06):
        cancel = Cancel()
        timer = threading.Timer(delay, cancel.cancel)
        timer.start()
        assert builds.run(f"sleep {mark}", cancel=cancel).result.outcome == "cancelled"
        timer.join()
        wait_until(lambda: not alive(mark))


def test_cancelling_later_does_no_harm(builds: Builds) -> None:
    cancel = Cancel()
    assert builds.run("true", cancel=cancel).result.outcome == "built"
    cancel.cancel()


def test_daemons_die_and_do_not_hold_the_build_up(builds: Builds) -> None:
    mark = marker()
    start = time.monotonic()
    done = builds.run(f"(setsid sleep {mark} &); (sleep {mark} >/dev/null 2>&1 &); echo x > $out")
    assert done.result.outcome == "built"
    assert time.monotonic() - start < 20
    assert not alive(mark)


def test_a_build_that_closes_its_output_is_waited_for(builds: Builds) -> None:
    assert builds.run("exec >&- 2>&-; sleep 0.3; exit 4").result.exit_status == 4


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


def test_a_log_that_fails_ends_the_build(builds: Builds) -> None:
    mark = marker()
    request = builds.request(f"echo x; sleep {mark}")

    def full(data: bytes) -> None:
        raise OSError("the log cannot be written")

    with pytest.raises(OSError, match="the log cannot be written"):
        Sandbox().build(request, full, Cancel())
    assert not alive(mark)
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []


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


def test_read_only_and_deep_folders_are_removed(builds: Builds) -> None:
    script = """
        mkdir -p $out/a/b /tmp/c; touch $out/a/b/x /tmp/c/x; chmod 0 $out/a/b /tmp/c; chmod 555 $out/a
        i=0; while [ $i -lt 600 ]; do mkdir deeeeeeeeep; cd deeeeeeeeep; i=$((i+1)); done
        mkdir -p /build/.0 && ln -s / /build/link && mkfifo /build/fifo && exit 1
    """
    assert builds.run(script).result.exit_status == 1
