"""Builds on a cluster of which parts die, forget, or lie."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ccstore.codec.reapi import message
from ccstore.codec.rechannel import Remote
from ccstore.errors import CcError
from ccstore.executor.remote import RemoteExecutor
from tests.cluster.grid import Grid
from tests.cluster.proxy import proxy

from .conftest import Builds, Done, alive, marker, processes, wait_until

EXECUTORS = ("cluster",)
SERVICES = pytest.mark.executors("remote", "cluster")


def meanwhile(build: Callable[[], Done], action: Callable[[], None]) -> Done:
    """What `build` gives while `action` goes on beside it, which must end well, too."""
    failures: list[BaseException] = []

    def watched() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    watch = threading.Thread(target=watched)
    watch.start()
    done = build()
    watch.join()
    assert failures == []
    return done


def test_a_worker_that_dies_in_the_middle(builds: Builds, grid: Grid) -> None:
    """Another one builds it again, from the beginning."""
    mark = f"3.{marker().replace('.', '')}"
    killed: list[int] = []

    def kill() -> None:
        wait_until(lambda: alive(mark))
        killed.append(grid.worker_of(processes(mark)[0]))
        grid.kill_worker(killed[0])
        wait_until(lambda: not alive(mark))

    try:
        done = meanwhile(lambda: builds.run(f"sleep {mark}; echo x > $out", timeout=60), kill)
        assert (done.result.outcome, done.out()) == ("built", "x\n")
    finally:
        for number in killed:
            grid.start_worker(number)
    assert len(killed) == 1


def test_the_only_worker_dies_and_another_one_comes(builds: Builds, grid: Grid) -> None:
    mark = f"3.{marker().replace('.', '')}"
    grid.kill_worker(2)

    def replace() -> None:
        wait_until(lambda: alive(mark))
        grid.kill_worker(1)
        grid.start_worker(2)

    try:
        done = meanwhile(lambda: builds.run(f"sleep {mark}; echo x > $out", timeout=60), replace)
        assert (done.result.outcome, done.out()) == ("built", "x\n")
    finally:
        for number in {1, 2} - set(grid.workers):
            grid.start_worker(number)


def test_an_input_that_is_evicted_is_uploaded_again(
    builds: Builds, grid: Grid, blob: Callable[[str], Path]
) -> None:
    """When the service has got it, and before a worker takes it."""
    text = f"evicted from {builds.place}\n"
    tree = builds.tree("source", {"a": text})
    kept = blob(hashlib.sha256(text.encode()).hexdigest())
    for number in (1, 2):
        grid.kill_worker(number)

    def evict() -> None:
        wait_until(kept.exists)
        kept.unlink()
        for number in (1, 2):
            grid.start_worker(number)

    done = meanwhile(lambda: builds.run("cat /in/source/a > $out", inputs={"source": tree}), evict)
    assert (done.out(), kept.exists()) == (text, True)


@SERVICES
def test_an_output_that_is_evicted_is_built_again(builds: Builds, blob: Callable[[str], Path]) -> None:
    text = f"made in {builds.place}\n"
    script = f"echo made in {builds.place} > $out"
    assert builds.run(script).out() == text
    blob(hashlib.sha256(text.encode()).hexdigest()).unlink()
    assert builds.run(script).out() == text


@SERVICES
@pytest.mark.parametrize("size", [100, 5_000_000])
def test_a_service_that_lies(builds: Builds, url: str, size: int) -> None:
    """Small blobs come many at once, large ones as a stream."""
    script = f"head -c {size} /dev/zero > $out; echo {builds.place} >> $out"

    def lie(method: str, answer: bytes) -> bytes:
        if method == "BatchReadBlobs":
            changed = message("BatchReadBlobsResponse").FromString(answer)
            for each in changed.responses:
                each.data = each.data[:-1] + b"!"
            return bytes(changed.SerializeToString())
        if method == "Read":
            part = message("google.bytestream.ReadResponse").FromString(answer)
            part.data = bytes(each ^ 1 for each in part.data)
            return bytes(part.SerializeToString())
        return answer

    with proxy(url, lie) as (place, traffic):
        builds.executor = RemoteExecutor(Remote(place))
        with pytest.raises(CcError) as caught:
            builds.run(script)
        assert (caught.value.code, caught.value.exit_status) == ("hash-mismatch", 4)
        assert traffic.calls["Execute"] == 1
    builds.executor = RemoteExecutor(Remote(url))
    assert builds.run(script).out().endswith(f"{builds.place}\n")
