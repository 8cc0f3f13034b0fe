"""Builds in the sandbox that lose their parent or fill the disk; other ends are in test_contract.py."""

from __future__ import annotations

import os
import signal

import pytest

from ccstore.errors import CcError
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Cancel

from .conftest import Builds, alive, marker, unheard, wait_until
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
