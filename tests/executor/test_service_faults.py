"""What a service may answer when something goes wrong, said in the place of a real buildbox-casd."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import ATTEMPTS
from ccstore.errors import CcError
from ccstore.executor.remote import RemoteExecutor
from ccstore.ports import Cancel
from tests.cluster.proxy import Ask, Refusal, proxy

from .conftest import Builds

EXECUTORS = ("remote",)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
INVALID, PERMISSION, PRECONDITION, ABORTED, GONE = 3, 7, 9, 10, 14  # of google.rpc.Status


class Unwell:
    """A `Respond`: the first `times` calls of `method` are refused."""

    def __init__(self, method: str, times: int) -> None:
        self._method, self._left = method, times
        self.asked: list[float] = []

    def __call__(self, method: str, requests: Iterator[bytes], ask: Ask) -> Iterable[bytes]:
        if method == self._method:
            self.asked.append(time.monotonic())
            if self._left:
                self._left -= 1
                raise Refusal(UNAVAILABLE)
        return ask(requests)


@pytest.mark.parametrize(
    "method",
    ["GetCapabilities", "FindMissingBlobs", "BatchUpdateBlobs", "Write", "Execute", "BatchReadBlobs", "Read"],
)
def test_what_is_out_of_reach_is_asked_again_after_longer_and_longer_pauses(
    builds: Builds, casd: str, method: str
) -> None:
    files = {"small": f"{builds.place}\n", "large": f"{builds.place}\n" * 100_000}
    unwell = Unwell(method, 3)
    with proxy(casd, respond=unwell) as (url, _):
        builds.executor = RemoteExecutor(Remote(url))
        done = builds.run("cp -r /in/source $out", inputs={"source": builds.tree("source", files)})
    assert done.tree() == {"": "/", **files}
    pauses = [after - before for before, after in pairwise(unwell.asked[:4])]
    assert len(pauses) == 3
    assert all(pause > 0.15 * 2**number for number, pause in enumerate(pauses))


@pytest.mark.parametrize("method", ["FindMissingBlobs", "Execute"])
def test_what_stays_out_of_reach_is_given_up(builds: Builds, casd: str, method: str) -> None:
    with proxy(casd, respond=Unwell(method, 1000)) as (url, traffic):
        builds.executor = RemoteExecutor(Remote(url))
        with pytest.raises(CcError) as caught:
            builds.run("echo x > $out")
    assert (caught.value.code, caught.value.exit_status) == ("unreachable", 6)
    assert traffic.calls[method] == ATTEMPTS


def executed(change: Callable[[Any], None]) -> Callable[[str, bytes], bytes]:
    """Changes what is answered at the end of an execution."""

    def changed(method: str, answer: bytes) -> bytes:
        operation = (
            message("google.longrunning.Operation").FromString(answer) if method == "Execute" else None
        )
        if operation is None or not operation.done:
            return answer
        response = message("ExecuteResponse")()
        operation.response.Unpack(response)
        change(response)
        operation.response.Pack(response)
        return bytes(operation.SerializeToString())

    return changed


@pytest.mark.parametrize("status", [INVALID, PERMISSION])
def test_the_status_counts_before_the_exit_code(builds: Builds, casd: str, status: int) -> None:
    """The result is there, and says that all went well."""
    seen: list[int] = []

    def fail(response: Any) -> None:
        seen.append(response.result.exit_code)
        response.status.code, response.status.message = status, "the worker says no"

    with proxy(casd, executed(fail)) as (url, traffic):
        builds.executor = RemoteExecutor(Remote(url))
        request = builds.request(f"echo {builds.place} > $out")
        with pytest.raises(CcError) as caught:
            builds.executor.build(request, lambda data: None, Cancel())
    assert (caught.value.code, caught.value.exit_status) == ("remote-failed", 6)
    assert "the worker says no" in caught.value.message
    assert (seen, traffic.calls["Execute"]) == ([0], 1)
    assert list(request.staging.iterdir()) == list(request.scratch.iterdir()) == []


def missing(digest: Digest) -> Any:
    """The status of an action of which a blob is not there."""
    violation = message("google.rpc.Violation")(type="MISSING", subject=f"blobs/{digest.hash}/{digest.size}")
    status = message("google.rpc.Status")(code=PRECONDITION, message="a blob is missing")
    status.details.add().Pack(message("google.rpc.PreconditionFailure")(violations=[violation]))
    return status


def refused(status: Any) -> Iterable[bytes]:
    raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, status.message)


def failed(status: Any) -> Iterable[bytes]:
    operation = message("google.longrunning.Operation")(name="one", done=True)
    operation.response.Pack(message("ExecuteResponse")(status=status))
    return [bytes(operation.SerializeToString())]


def ended(status: Any) -> Iterable[bytes]:
    return [
        bytes(
            message("google.longrunning.Operation")(name="one", done=True, error=status).SerializeToString()
        )
    ]


@pytest.mark.parametrize("answer", [refused, failed, ended])
def test_an_input_that_is_evicted_after_it_was_sent_is_sent_again(
    builds: Builds, casd: str, blob: Callable[[str], Path], answer: Callable[[Any], Iterable[bytes]]
) -> None:
    """The service finds out at once, or as it gets the action ready; it has really lost it."""
    text = f"evicted from {builds.place}\n"
    digest = Digest.of(text.encode())
    evicted: list[Path] = []

    def evict(method: str, requests: Iterator[bytes], ask: Ask) -> Iterable[bytes]:
        if method != "Execute" or evicted:
            return ask(requests)
        evicted.append(blob(digest.hash))
        evicted[0].unlink()
        return answer(missing(digest))

    with proxy(casd, respond=evict) as (url, traffic):
        builds.executor = RemoteExecutor(Remote(url))
        done = builds.run("cat /in/source/a > $out", inputs={"source": builds.tree("source", {"a": text})})
    assert (done.out(), evicted[0].exists()) == (text, True)
    assert (traffic.calls["Execute"], traffic.calls["FindMissingBlobs"]) == (2, 2)
    assert traffic.calls["BatchUpdateBlobs"] == 2


@pytest.mark.parametrize("status", [GONE, ABORTED])
def test_an_action_whose_worker_is_lost_is_run_again(builds: Builds, casd: str, status: int) -> None:
    """What the lost one had made is not taken."""
    lost: list[Any] = []

    def lose(response: Any) -> None:
        if not lost:
            lost.append(response.result)
            response.Clear()
            response.status.code, response.status.message = status, "the worker went away"

    with proxy(casd, executed(lose)) as (url, traffic):
        builds.executor = RemoteExecutor(Remote(url))
        done = builds.run(f"echo {builds.place} > $out")
    assert done.out() == f"{builds.place}\n"
    assert (len(lost), traffic.calls["Execute"]) == (1, 2)
