"""A binary cache behind a web server or an object store: GET and HEAD to read, PUT to write.

What fails for reasons that pass (a lost connection, 503, …) is tried again with growing pauses; a download goes on
where it ended. A PUT is trusted to show a file at once, as nginx, Apache and object stores do. Names and passwords
come from the URL or from ~/.netrc. 404, 410 and 403 all mean that a file is not there: an object store that does not
list its files answers 403.
"""

from __future__ import annotations

import netrc
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit

from ccstore.cache.problems import KEPT, absent, invalid
from ccstore.errors import CcError
from ccstore.ports import Cancel, Fault, RemoteFile, no_fault
from ccstore.transfer.attempt import (
    Line,
    Meter,
    TransferError,
    Wanted,
    check_status,
    failures,
    open_client,
    open_response,
    redacted,
)
from ccstore.transfer.download import Download, persist
from ccstore.transfer.partial import Partial, disk_errors, forget
from ccstore.transfer.patience import Patience, check

if TYPE_CHECKING:
    import httpx

PATIENT = Patience(attempts=4, longest_pause=10.0, connect_timeout=5.0)
STALL_TIMEOUT = 30.0
_ABSENT = frozenset({403, 404, 410})
_CHANGED = 412
_REPLACED = 5  # times that somebody else may be quicker
_PIECE = 1 << 20
_PLAIN = {"Accept-Encoding": "identity"}
T = TypeVar("T")


class WebCache:
    """A cache at the http(s) URL `base`."""

    def __init__(self, base: str, cancel: Cancel, patience: Patience = PATIENT) -> None:
        self._base = base.rstrip("/")
        self.url = redacted(self._base)
        self._cancel = cancel
        self._patience = patience
        self._open = ExitStack()
        self._lock = RLock()
        self._made: tuple[httpx.Client, Line] | None = None

    def _connection(self) -> tuple[httpx.Client, Line]:
        """The client for all requests, and what ends them; made when the first one is."""
        with self._lock:
            if self._made is None:
                line = self._open.enter_context(Line(self._cancel))
                timeouts = (self._patience.connect_timeout, STALL_TIMEOUT)
                client = self._open.enter_context(open_client(*timeouts, auth=_credentials(self._base)))
                self._made = (client, line)
            return self._made

    def read(self, name: str, limit: int) -> bytes | None:
        found = self._read(name, limit)
        return found[0] if found else None

    def _read(self, name: str, limit: int) -> tuple[bytes, str | None] | None:
        """The content and its ETag."""

        def attempt() -> tuple[bytes, str | None] | None:
            with self._answer("GET", name) as answer:
                if answer is None:
                    return None
                data = b""
                for chunk in answer.iter_raw():
                    data += chunk
                    if len(data) > limit:
                        raise TransferError("mismatch", f"it has more than {limit} bytes")
                return data, answer.headers.get("ETag")

        return self._persist(name, attempt)

    def holds(self, name: str, size: int) -> bool:
        def attempt() -> bool:
            with self._answer("HEAD", name) as answer:
                return answer is not None and answer.headers.get("Content-Length") == str(size)

        return self._persist(name, attempt)

    @contextmanager
    def _answer(self, method: str, name: str) -> Iterator[httpx.Response | None]:
        """A good answer, or None where there is no such file; raises TransferError."""
        check(self._cancel, self.url)
        url = self._url(name)
        client, line = self._connection()
        with failures(self._cancel, url), open_response(client, url, _PLAIN, line, method) as answer:
            if answer.status_code in _ABSENT:
                yield None
                return
            check_status(answer)
            yield answer

    def _url(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _persist(self, name: str, attempt: Callable[[], T]) -> T:
        try:
            return persist(attempt, self._patience, self._cancel)
        except TransferError as failure:
            raise self._error(name, failure) from failure

    def _error(self, name: str, failure: TransferError) -> CcError:
        if failure.kind in ("mismatch", "too-large"):
            return invalid(self.url, name, failure.reason)
        if failure.status in _ABSENT:
            return absent(self.url, name)
        if failure.status in (401, 407):
            return CcError(
                "auth-needed",
                f"the cache wants to know who asks: {failure.reason}",
                where=self.url,
                hint="give name and password in ~/.netrc (`machine HOST login NAME password PASSWORD`)",
            )
        return CcError(
            "unreachable",
            f"the cache cannot be reached: {failure.reason}",
            where=self.url,
            hint="check the network and the proxy; --no-substitute does without caches",
        )

    @contextmanager
    def download(
        self, file: RemoteFile, partial: Path, report: Callable[[int, int | None], None]
    ) -> Iterator[BinaryIO]:
        self._arrive(file, partial, report)
        try:
            with partial.open("rb", buffering=0) as opened:
                yield opened
        except CcError as error:
            if error.code not in KEPT:
                forget(partial)
            raise
        forget(partial)

    def _arrive(self, file: RemoteFile, partial: Path, report: Callable[[int, int | None], None]) -> None:
        """Brings the whole file to `partial`."""
        wanted = Wanted(file.sha256, file.size, file.most)
        with Partial(partial, self._cancel) as content:
            if file.size is not None and content.size > file.size:
                content.restart()
            if content.size and content.size == file.size and content.sha256 == file.sha256:
                return
            client, line = self._connection()
            meter = Meter(report, self._patience.clock)
            download = Download(client, content, wanted, meter, line, self._patience)
            failure = download.get(self._url(file.name))
            if failure:
                raise self._error(file.name, failure)

    @contextmanager
    def incoming(self, scratch: Path) -> Iterator[_Incoming]:
        with disk_errors(scratch), tempfile.TemporaryFile(dir=scratch) as file:
            yield _Incoming(self, file)

    def send(self, name: str, content: Callable[[], Iterator[bytes]], size: int, fault: Fault) -> None:
        """PUTs a file; `content` gives it from its beginning, each time that it is asked."""
        fault("temporary")
        self._persist_put(name, partial(self._put, name, content, size, {}))

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], limit: int, fault: Fault = no_fault
    ) -> bool:
        for _ in range(_REPLACED):
            found = self._read(name, limit)
            data = change(found[0] if found else None)
            if data is None:
                return False
            fault("temporary")
            put = partial(self._put, name, partial(_pieces, data), len(data), _condition(found))
            if self._persist_put(name, put):
                return True
        raise invalid(self.url, name, "others replace it all the time")

    def _put(
        self, name: str, content: Callable[[], Iterator[bytes]], size: int, more: Mapping[str, str]
    ) -> bool:
        """One PUT; False if the file is not what the condition in `more` says. Raises TransferError."""
        check(self._cancel, self.url)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream", **more}
        url = self._url(name)
        client, line = self._connection()
        with failures(self._cancel, url):
            answer = client.put(url, content=content(), headers=headers, extensions={"trace": line.trace})
        if answer.status_code == _CHANGED:
            return False
        check_status(answer)
        return True

    def _persist_put(self, name: str, attempt: Callable[[], bool]) -> bool:
        try:
            return persist(attempt, self._patience, self._cancel)
        except TransferError as failure:
            if failure.kind != "refused" or failure.status in (None, 401, 407):
                raise self._error(name, failure) from failure
            raise _refused(self.url, name, failure) from failure

    def close(self) -> None:
        self._open.close()


class _Incoming:
    """A file that waits here until all of it is there, because only then its name is known."""

    def __init__(self, cache: WebCache, file: BinaryIO) -> None:
        self._cache, self._file = cache, file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def place(self, name: str, fault: Fault = no_fault) -> None:
        self._file.flush()
        self._cache.send(name, self._content, os.fstat(self._file.fileno()).st_size, fault)

    def _content(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece


def _condition(found: tuple[bytes, str | None] | None) -> dict[str, str]:
    """Nobody else has replaced the file since it was read; servers that know ETags hold us to it."""
    if found is None:
        return {"If-None-Match": "*"}
    return {"If-Match": found[1]} if found[1] else {}


def _pieces(data: bytes) -> Iterator[bytes]:
    yield data


def _credentials(base: str) -> httpx.Auth | None:
    """What ~/.netrc says; a name and password in the URL are used by the client itself."""
    import httpx

    if "@" in urlsplit(base).netloc:
        return None
    try:
        return httpx.NetRCAuth(os.environ.get("NETRC") or str(Path("~/.netrc").expanduser()))
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return None  # a server that wants to know says so


def _refused(url: str, name: str, failure: TransferError) -> CcError:
    hints = {
        403: "whoever pushes must be allowed to PUT there",
        405: "the server does not take files: nginx needs `dav_methods PUT` (README, on caches)",
        409: "the server does not make folders: nginx needs `create_full_put_path on`",
        413: "the server does not take files of that size: nginx needs `client_max_body_size 0`",
        507: "the server's disk is full",
    }
    return CcError(
        "push-refused",
        f"the cache does not take {name}: {failure.reason}",
        where=url,
        hint=hints.get(failure.status or 0, "look at the server's log, and at what it allows"),
    )
