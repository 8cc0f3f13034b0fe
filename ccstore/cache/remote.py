"""A binary cache in a service that speaks the Remote Execution API: content-addressed storage and action cache.

A file of the cache is a blob; its name is an action that nobody runs, whose result is the blob:

    Action { command: ["ccstore-cache", name], input root: empty, salt: "ccstore-cache-1" }
        → ActionResult { output_files: [ { path: "file", digest } ] }

so that any such service is a cache as it is, beside the builds that it runs. A service forgets what was not used for
long; whatever it has not got is a miss. Of two pushes that change the same small file at once the last one's word
stands, as an action cache cannot compare: a signature that is lost so is added by the next push.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import RLock
from typing import Any, BinaryIO

from ccstore.cache.entries import INFO, OWN_INFO
from ccstore.cache.problems import KEPT, absent, invalid
from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, LostError, Source, Storage
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.ports import Cancel, Fault, RemoteFile, no_fault
from ccstore.transfer.partial import Partial, disk_errors, forget

_SALT = b"ccstore-cache-1"
_FILE = "file"
_PIECE = 1 << 20
_OTHER = "its content is not what the service says"
_REFUSALS = frozenset({"remote-failed", "auth-needed"})


class RemoteCache:
    """A cache in the service `remote`. Connects when it is first asked."""

    def __init__(self, remote: Remote, cancel: Cancel) -> None:
        self._remote = remote
        self.url = f"{remote.url}/{remote.instance}" if remote.instance else remote.url
        self._cancel = cancel
        self._open = ExitStack()
        self._lock = RLock()
        self._made: tuple[Client, Storage] | None = None

    def _connection(self) -> tuple[Client, Storage]:
        with self._lock:
            if self._made is None:
                client = self._open.enter_context(Client(self._remote))
                self._made = (client, Storage(client))
            return self._made

    def _check(self) -> None:
        if self._cancel.cancelled:
            raise CcError("interrupted", "interrupted", where=self.url, hint="run the same command again")

    def read(self, name: str, limit: int) -> bytes | None:
        if name == INFO:  # every such service is a cache, if it answers
            self._connection()
            return OWN_INFO
        found = self._result(name)
        if found is None:
            return None
        digest = Digest.read(found.digest)
        if digest.size > limit:
            raise invalid(self.url, name, f"it has more than {limit} bytes")
        if found.contents and Digest.of(found.contents) == digest:
            return bytes(found.contents)
        try:
            return self._connection()[1].read(digest)
        except LostError:
            return None
        except CcError as error:
            if error.code != "hash-mismatch":
                raise
            raise invalid(self.url, name, _OTHER) from error

    def holds(self, name: str, size: int) -> bool:
        found = self._result(name)
        if found is None or found.digest.size_bytes != size:
            return False
        return not list(self._connection()[1].missing([Digest.read(found.digest)]))

    def _result(self, name: str) -> Any | None:
        """The service's word on a file: its digest, and its content where that is small."""
        import grpc

        self._check()
        client, _ = self._connection()
        asked = message("GetActionResultRequest")(instance_name=client.instance, inline_output_files=[_FILE])
        _action(name)[0].write(asked.action_digest)
        try:
            answer = client.call("get_result", asked)
        except CcError as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise
        return next((each for each in answer.output_files if each.path == _FILE), None)

    @contextmanager
    def download(
        self, file: RemoteFile, partial: Path, report: Callable[[int, int | None], None]
    ) -> Iterator[BinaryIO]:
        found = self._result(file.name)
        if found is None:
            raise absent(self.url, file.name)
        digest = Digest.read(found.digest)
        if digest.size > file.most or (file.size is not None and file.size != digest.size):
            wanted = file.most if file.size is None else file.size
            raise invalid(self.url, file.name, f"it has {digest.size} bytes, {wanted} are wanted")
        self._arrive(file.name, digest, partial, report)
        try:
            with partial.open("rb", buffering=0) as opened:
                yield opened
        except CcError as error:
            if error.code not in KEPT:
                forget(partial)
            raise
        forget(partial)

    def _arrive(
        self, name: str, digest: Digest, partial: Path, report: Callable[[int, int | None], None]
    ) -> None:
        """Brings all of a blob to `partial`, which may have the beginning of it."""
        client, storage = self._connection()

        def attempt() -> None:
            if content.size > digest.size:
                content.restart()
            if content.size < digest.size:
                for chunk in storage.read_from(digest, content.size):
                    self._check()
                    content.append(chunk)
                    report(content.size, digest.size)
                    if content.size > digest.size:
                        break
            if (content.sha256.hex, content.size) != (digest.hash, digest.size):
                content.restart()
                raise invalid(self.url, name, _OTHER)

        with Partial(partial, self._cancel) as content:
            try:
                client.retried(attempt)
            except LostError as error:
                raise absent(self.url, name) from error

    @contextmanager
    def incoming(self, scratch: Path) -> Iterator[_Incoming]:
        with disk_errors(scratch), tempfile.TemporaryFile(dir=scratch) as file:
            yield _Incoming(self, file)

    def place(self, name: str, digest: Digest, source: Source, fault: Fault) -> None:
        """Sends a blob and gives it its name. Raises `push-refused`."""
        fault("temporary")
        client, storage = self._connection()
        action, behind = _action(name)
        update = message("UpdateActionResultRequest")(instance_name=client.instance)
        action.write(update.action_digest)
        digest.write(update.action_result.output_files.add(path=_FILE).digest)
        try:
            storage.upload({**behind, digest: source}, self._check)
            client.call("update_result", update)
        except CcError as error:
            if error.code not in _REFUSALS:
                raise
            hint = "whoever pushes must be allowed to write to its storage and to update its action cache"
            raise CcError(
                "push-refused",
                f"the service does not take {name}: {error.message}",
                where=self.url,
                hint=hint,
            ) from error

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], limit: int, fault: Fault = no_fault
    ) -> bool:
        data = change(self.read(name, limit))
        if data is None:
            return False
        self.place(name, Digest.of(data), data, fault)
        return True

    def close(self) -> None:
        self._open.close()


class _Incoming:
    """A file that waits here until all of it is there, because only then its digest is known."""

    def __init__(self, cache: RemoteCache, file: BinaryIO) -> None:
        self._cache, self._file = cache, file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def place(self, name: str, fault: Fault = no_fault) -> None:
        self._file.flush()
        found, size = _hashed(self._file)
        self._cache.place(name, Digest(found.hexdigest(), size), self._again, fault)

    def _again(self) -> BinaryIO:
        """The file from its beginning, with a place of its own."""
        return open(f"/proc/self/fd/{self._file.fileno()}", "rb")  # noqa: PTH123 (whoever asked closes it)


def _hashed(file: BinaryIO) -> tuple[Any, int]:
    """SHA-256 so far, and size, of a file."""
    file.seek(0)
    found, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE):
        found.update(piece)
        size += len(piece)
    return found, size


def _action(name: str) -> tuple[Digest, dict[Digest, Source]]:
    """The action that stands for a file's name, and the blobs that describe it, which some services want to see."""
    blobs: dict[Digest, Source] = {}

    def kept(value: Any) -> Digest:
        data = value.SerializeToString(deterministic=True)
        digest = Digest.of(data)
        blobs[digest] = data
        return digest

    command = message("Command")(arguments=["ccstore-cache", name], output_paths=[_FILE])
    action = message("Action")(salt=_SALT)
    kept(command).write(action.command_digest)
    kept(message("Directory")()).write(action.input_root_digest)
    return kept(action), blobs
