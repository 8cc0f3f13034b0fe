"""Builds on a cluster that speaks the Remote Execution API v2.

The request becomes an input root (remote_tree.py), which goes into the service's storage as far as that lacks it
(ccstore.codec.recas); a worker runs the command there; what it wrote comes back by digest. Supported are workers that
root the action at its input root, as buildbox does. No network is ever asked for. The log comes at the end.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, LostError, Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import ATTEMPTS, Client, passes
from ccstore.errors import CcError
from ccstore.events import Placed, Sink, ignore
from ccstore.executor import launch, layout
from ccstore.executor.outputs import Output
from ccstore.executor.remote_tree import Blobs, input_root
from ccstore.executor.scratch import empty_folder, read_report
from ccstore.ports import BuildRequest, BuildResult, Cancel

Log = Callable[[bytes], None]
PLATFORM = {"ISA": "x86-64", "OSFamily": "linux", "unixGID": "1000", "unixUID": "1000"}
_NAMED = 5.0  # seconds that a service may take to say what an operation is called
_OK, _DEADLINE, _PRECONDITION = 0, 4, 9  # of google.rpc.Status
_QUEUED, _EXECUTING = 2, 3  # of ExecutionStage
_AGAIN = (8, 10, 13, 14)  # the service, or a worker, went away


class CancelledError(Exception):
    """The build was cancelled."""


class RemoteExecutor:
    """Executor `remote`. Thread-safe; a build holds the thread that called it.

    With `fresh` no result of an earlier run is taken, nor kept. `sink` hears where a build is. Raises `unreachable`,
    `auth-needed`, `remote-failed`, `remote-unfit`, and `hash-mismatch` for a service that returns something else than
    it promised.
    """

    name = "remote"

    def __init__(self, remote: Remote, fresh: bool = False, sink: Sink = ignore) -> None:
        self._remote = remote
        self._fresh = fresh
        self._sink = sink

    def build(self, request: BuildRequest, log: Log, cancel: Cancel) -> BuildResult:
        layout.check(request)
        command = launch.command(request)
        if request.network:
            raise ValueError(f"{request.label}: no network is ever asked for of a cluster")
        result = BuildResult("cancelled", 128 + signal.SIGTERM, 0.0)
        try:
            with Client(self._remote) as client:
                result = _Action(client, request, log, cancel, self._fresh, self._sink).run(command)
        except CancelledError:
            pass
        finally:
            if not (request.keep_failed and result.outcome in ("failed", "timeout")):
                empty_folder(request.scratch)
                if result.outcome != "built":
                    empty_folder(request.staging)
        return result


class _Action:
    def __init__(
        self, client: Client, request: BuildRequest, log: Log, cancel: Cancel, fresh: bool, sink: Sink
    ) -> None:
        self._client = client
        self._request = request
        self._log = log
        self._cancel = cancel
        self._fresh = fresh
        self._skip_lookup = fresh
        self._sink = sink
        self._place: str | None = None

    def run(self, command: list[str]) -> BuildResult:
        self._check()
        storage, blobs = Storage(self._client), Blobs()
        action = self._describe(command, blobs)
        for attempt in range(ATTEMPTS):
            storage.upload(blobs.sources, self._check)
            response = self._execute(action)
            code = response.status.code
            if code in (_OK, _DEADLINE):
                try:
                    return self._result(storage, response)
                except LostError:
                    if attempt == ATTEMPTS - 1:
                        raise
                    self._forget()
            elif code != _PRECONDITION and code not in _AGAIN:
                break
            time.sleep(0.2 * 2**attempt)  # an input was evicted: the next round sends it again
        raise CcError(
            "remote-failed",
            f"{self._client.remote.url} could not run it: {response.status.message or response.message}",
            where=self._request.label,
            hint="look at the log of the service and of its workers",
        )

    def _forget(self) -> None:
        """The result is worth nothing, as an output of it was evicted; only a build brings it back."""
        self._skip_lookup = True
        empty_folder(self._request.staging)
        empty_folder(self._request.scratch)

    def _check(self) -> None:
        if self._cancel.cancelled:
            raise CancelledError

    def _describe(self, command: list[str], blobs: Blobs) -> Digest:
        described = message("Command")(arguments=command)
        paths = ["out", f"build/{layout.REPORT}", *(("build", "tmp") if self._request.keep_failed else ())]
        described.output_paths.extend(sorted(paths))
        action = message("Action")(do_not_cache=self._fresh)
        image = self._client.remote.image
        platform = {**PLATFORM, "container-image": image} if image else PLATFORM
        for owner in (described, action):
            for name, value in sorted(platform.items()):
                owner.platform.properties.add(name=name, value=value)
        blobs.message(described).write(action.command_digest)
        input_root(self._request, blobs).write(action.input_root_digest)
        if self._request.timeout is not None:
            action.timeout.FromSeconds(ceil(self._request.timeout))  # workers take half a second for none
        return blobs.message(action)

    def _execute(self, action: Digest) -> Any:
        """The service's answer, waited for as often as the line breaks."""
        operation = ""
        for attempt in range(ATTEMPTS):
            if operation:
                call, asked = "wait", message("WaitExecutionRequest")(name=operation)
            else:
                call = "execute"
                asked = message("ExecuteRequest")(
                    instance_name=self._client.instance, skip_cache_lookup=self._skip_lookup
                )
                action.write(asked.action_digest)
            operation, done, error = self._follow(call, asked, operation)
            if done is not None:
                return done
            self._check()
            if error is not None and not passes(error) and call == "execute":
                raise self._client.failure(error)
            if error is not None and call == "wait" and not passes(error):
                operation = ""  # the service has forgotten it
            time.sleep(0.2 * 2**attempt)
        if error is not None:
            raise self._client.failure(error)
        raise CcError(
            "unreachable", f"{self._client.remote.url} ends every answer too early", hint="look at its log"
        )

    def _follow(self, call: str, asked: Any, operation: str) -> tuple[str, Any, Any]:
        """Reads one stream of operations: the name, the response if it came, the error if there was one."""
        import grpc

        stream = self._client.stream(call, asked)
        named = threading.Event()
        if operation:
            named.set()

        def end() -> None:  # only what has a name can be ended on the other side
            named.wait(_NAMED)
            stream.cancel()

        forget = self._cancel.on_cancel(lambda: threading.Thread(target=end, daemon=True).start())
        try:
            for each in stream:
                operation = each.name or operation
                named.set()
                self._placed(each)
                if each.done:
                    return operation, self._response(each), None
        except grpc.RpcError as error:
            if self._cancel.cancelled:
                self._end(operation)
                raise CancelledError from error
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:  # said before there is an operation
                return operation, _unready(error), None
            return operation, None, error
        finally:
            forget()
        return operation, None, None

    def _placed(self, operation: Any) -> None:
        """Tells where the build is when that has changed."""
        known = message("ExecuteOperationMetadata")()
        if not operation.metadata.Unpack(known) or known.stage not in (_QUEUED, _EXECUTING):
            return
        worker = known.partial_execution_metadata.worker if known.stage == _EXECUTING else ""
        if worker != self._place and (worker or known.stage == _QUEUED):
            self._place = worker
            self._sink(Placed(self._request.label, worker))

    def _response(self, operation: Any) -> Any:
        response = message("ExecuteResponse")()
        if operation.HasField("error") and operation.error.code:
            response.status.CopyFrom(operation.error)
        else:
            operation.response.Unpack(response)
        return response

    def _end(self, operation: str) -> None:
        """Asks the service to end what nobody waits for any more; not every one knows how."""
        if operation:
            with suppress(CcError):
                self._client.call(
                    "cancel", message("google.longrunning.CancelOperationRequest")(name=operation)
                )

    def _result(self, storage: Storage, response: Any) -> BuildResult:
        request, found = self._request, response.result
        log = found.stdout_raw or storage.read(Digest.read(found.stdout_digest))
        said = found.stderr_raw or storage.read(Digest.read(found.stderr_digest))
        outcome: Literal["built", "failed", "timeout"] = "failed"
        if response.status.code == _DEADLINE:
            outcome = "timeout"
        elif found.exit_code == 0:
            outcome = "built"
        kept = request.keep_failed and outcome != "built"
        places = {
            "out": request.staging,
            **({"build": request.scratch, "tmp": request.scratch} if kept else {}),
        }
        report = self._report(storage, found)
        if outcome == "built" or kept:
            fetched = _Fetched(storage, request, self._check)
            for each in found.output_directories:
                if each.path in places:
                    place = places[each.path] / ("" if each.path == "out" else each.path)
                    fetched.folder(Digest.read(each.tree_digest), str(place), each.path == "out")
            fetched.finish()
        if log:
            self._log(log)
        return BuildResult(
            outcome=outcome,
            exit_status=found.exit_code or (137 if outcome == "timeout" else 0),
            cpu_seconds=launch.cpu_seconds(said),
            report=report,
            overlays={output: request.staging / output for output in request.overlays},
            seen={"jobs": str(request.cores)},
        )

    def _report(self, storage: Storage, found: Any) -> Mapping[str, Any] | None:
        path = f"build/{layout.REPORT}"
        for each in found.output_files:
            if each.path == path:
                copy = self._request.scratch / "report"
                copy.write_bytes(each.contents or storage.read(Digest.read(each.digest)))
                try:
                    return read_report(copy)
                except ValueError as error:
                    self._log(f"ccstore: the build's report is ignored: {error}\n".encode())
                finally:
                    copy.unlink()
        return None


def _unready(error: Any) -> Any:
    """The response that says the same as a refusal for want of an input."""
    response = message("ExecuteResponse")()
    response.status.code, response.status.message = _PRECONDITION, error.details() or ""
    return response


class _Fetched:
    """Folders that come back, put where the sandbox would have left them."""

    def __init__(self, storage: Storage, request: BuildRequest, check: Callable[[], None]) -> None:
        self._storage = storage
        self._request = request
        self._check = check
        self._outputs: list[Output] = []
        self._wanted: dict[Digest, list[Callable[[], BinaryIO]]] = {}

    def folder(self, tree: Digest, place: str, of_outputs: bool) -> None:
        """Tells `place`, which may be there, all that `tree` has; its files are fetched later."""
        Path(place).mkdir(exist_ok=True)
        root, children = _folders(self._storage.read(tree))
        top = _parsed(root)
        for node in (*top.directories, *top.files, *top.symlinks):
            base = self._request.overlays.get(node.name) if of_outputs else None
            if node.name in ("", ".", "..") or "/" in node.name:
                raise CcError(
                    "output-invalid", f"{node.name!r} cannot be in an output", hint="use another service"
                )
            output = Output(Path(place, node.name), self._request.inputs[base] if base else None)
            self._outputs.append(output)
            self._node(output, "", node, children)

    def _node(self, output: Output, path: str, node: Any, children: Mapping[str, Any]) -> None:
        kind = type(node).DESCRIPTOR.name
        if kind == "SymlinkNode":
            output.symlink(path, node.target)
        elif kind == "FileNode":
            self._file(output, path, Digest.read(node.digest), node.is_executable)
        else:
            output.folder(path)
            inside = _parsed(children[node.digest.hash])
            for each in (*inside.files, *inside.directories, *inside.symlinks):
                self._node(output, f"{path}/{each.name}" if path else each.name, each, children)

    def _file(self, output: Output, path: str, digest: Digest, executable: bool) -> None:
        known = output.candidate(path, executable, digest.size)
        if known is not None and known.sha256.hex() == digest.hash:
            output.unchanged(path)
        elif digest.size == 0:
            output.file(path, executable).close()
        else:
            output.file(path, executable).close()
            self._wanted.setdefault(digest, []).append(partial(_reopened, output.place(path)))

    def finish(self) -> None:
        self._storage.read_many(self._wanted, self._check)
        for output in self._outputs:
            output.finish()


def _parsed(folder: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message("Directory").FromString(folder)
    except DecodeError as error:
        raise CcError(
            "output-invalid",
            "a name in an output is not UTF-8, which remote execution cannot carry",
            hint="build it with --executor sandbox or docker",
        ) from error


def _reopened(path: str) -> BinaryIO:
    return open(path, "r+b")  # noqa: PTH123 (whoever asked closes it)


def _folders(tree: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The root of a Tree, and its other folders by their digest, which is that of the bytes as they were sent."""
    root, children = b"", {}
    for field, data in _fields(tree):
        if field == 1:
            root = data
        elif field == 2:
            children[Digest.of(data).hash] = data
    return root, children


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Fields of a protobuf message that has only messages in it (Protocol Buffers, "Encoding")."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        tag = number()
        size = number()
        yield tag >> 3, data[place : place + size]
        place += size
