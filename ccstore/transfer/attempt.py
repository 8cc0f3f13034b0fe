"""One attempt to get one URL into a partial file: HTTP with ranges (RFC 9110, section 14), or a local file.

An attempt ends with the right content in the partial file, or with a TransferError that says why not and whether
trying the same URL again makes sense. A server that ignores the range starts the file anew; one whose file
changed since (If-Range) does too.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.partial import Partial
from ccstore.transfer.patience import check

if TYPE_CHECKING:
    import httpx

_CHUNK = 1 << 20
_REDIRECTS = 10
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

_TRUST_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")

Kind = Literal["refused", "transient", "stalled", "mismatch", "too-large"]


class TransferError(Exception):
    """Why an attempt failed.

    `retry_after` is what the server asked for, in seconds; `got` a wrong hash; `status` a refusing answer's.
    """

    def __init__(
        self,
        kind: Kind,
        reason: str,
        *,
        retry_after: float | None = None,
        got: Sha256 | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.retry_after = retry_after
        self.got = got
        self.status = status


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download must be: its hash and its size in bytes if known, at most `max_size` bytes if not."""

    sha256: Sha256 | None
    size: int | None
    max_size: int

    def check_size(self, offered: int | None) -> None:
        """Refuses a file of `offered` bytes when it cannot be the one; raises TransferError."""
        if offered is None:
            return
        if self.size is not None and offered != self.size:
            raise TransferError("mismatch", f"it has {offered} bytes, {self.size} are wanted")
        if offered > self.max_size:
            raise TransferError("too-large", f"it has {offered} bytes, more than {self.max_size} are refused")

    def check_growth(self, partial: Partial) -> None:
        """Refuses a file as soon as it is longer than it may be; raises TransferError."""
        limit = self.max_size if self.size is None else self.size
        if partial.size > limit:
            partial.restart()
            kind: Kind = "too-large" if self.size is None else "mismatch"
            raise TransferError(kind, f"it has more than {limit} bytes")

    def check_content(self, partial: Partial) -> None:
        """Raises TransferError unless the content is the wanted one."""
        if self.size is not None and partial.size < self.size:
            raise TransferError("transient", f"it ended after {partial.size} of {self.size} bytes")
        if self.sha256 and partial.sha256 != self.sha256:
            raise TransferError("mismatch", "its hash is another one", got=partial.sha256)


Report = Callable[[int, int | None], None]  # bytes that are done, and of how many, where that is known


class Meter:
    """Reports bytes about ten times a second."""

    def __init__(self, tell: Report, clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._last = -1.0
        self._reported = -1

    def report(self, done: int, total: int | None, *, final: bool = False) -> None:
        now = self._clock()
        if done != self._reported and (final or now - self._last >= 0.1 or done < self._reported):
            self._last, self._reported = now, done
            self._tell(done, total)


class Line:
    """What another thread needs to end a transfer: its sockets.

    The sockets are duplicates: TLS replaces the original object while the handshake runs, and shutting a
    duplicate down wakes whoever reads the connection.
    """

    def __init__(self, cancel: Cancel) -> None:
        self.cancel = cancel
        self._lock = threading.RLock()  # cancelled from a signal handler, it may be its own
        self._sockets: list[socket.socket] = []
        self._forget = cancel.on_cancel(self._end)

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """The trace extension of httpcore: called for each step of a request."""
        if not event.endswith("connect_tcp.complete"):
            return
        original = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(original.fileno())))
        if self.cancel.cancelled:
            self._end()

    def _end(self) -> None:
        with self._lock:
            for each in self._sockets:
                with suppress(OSError):  # the other side may have closed it already
                    each.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_client(
    connect_timeout: float,
    stall_timeout: float,
    *,
    auth: httpx.Auth | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[httpx.Client]:
    """An HTTP client with the environment's proxies and certificate authorities (SSL_CERT_FILE, SSL_CERT_DIR)."""
    import httpx

    timeout = httpx.Timeout(stall_timeout, connect=connect_timeout)
    trust = _trust(*map(os.environ.get, _TRUST_VARIABLES))
    with httpx.Client(verify=trust, timeout=timeout, auth=auth, headers=headers) as client:
        yield client


@functools.lru_cache
def _trust(*_variables: str | None) -> ssl.SSLContext:
    """The certificate authorities; reading them takes 0.1 s, and a toolchain has a hundred downloads."""
    return ssl.create_default_context()


def transfer_http(
    client: httpx.Client, url: str, partial: Partial, wanted: Wanted, meter: Meter, line: Line
) -> None:
    """Continues (or starts) `partial` from `url` until it is whole and right; raises TransferError."""
    headers = {"Accept-Encoding": "identity"}
    if partial.size:
        headers["Range"] = f"bytes={partial.size}-"
        if validator := partial.validator(url):
            headers["If-Range"] = validator
    with failures(line.cancel, url), open_response(client, url, headers, line) as response:
        total = _place(response, url, partial, wanted)
        for chunk in response.iter_raw():
            check(line.cancel, url)
            partial.append(chunk)
            wanted.check_growth(partial)
            meter.report(partial.size, total)
    wanted.check_content(partial)
    meter.report(partial.size, total, final=True)


def transfer_file(url: str, partial: Partial, wanted: Wanted, meter: Meter, line: Line) -> None:
    """Copies the file that a `file:` URL names; raises TransferError."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise TransferError("refused", f"a file: URL names a file of this host, not of {parts.netloc!r}")
    partial.restart()
    with os.fdopen(open_regular(unquote(parts.path)), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        wanted.check_size(size)
        while chunk := file.read(_CHUNK):
            check(line.cancel, url)
            partial.append(chunk)
            wanted.check_growth(partial)
            meter.report(partial.size, size)
    wanted.check_content(partial)
    meter.report(partial.size, partial.size, final=True)


def open_regular(path: str) -> int:
    """A descriptor of the regular file at `path`; raises TransferError."""
    try:
        # without O_NONBLOCK a FIFO would be waited for
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise TransferError("refused", f"it cannot be opened: {error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TransferError("refused", "it is not a regular file")
    return descriptor


def redacted(url: str) -> str:
    """`url` without the name and password that it may carry."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _place(response: httpx.Response, url: str, partial: Partial, wanted: Wanted) -> int | None:
    """Puts `partial` where the answer begins; the whole file's size if the server tells it."""
    if response.status_code == 206:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not partial.size or not match or int(match[1]) != partial.size:
            partial.restart()
            raise TransferError("transient", "it answered with another range than the one asked for")
        total = None if match[3] == "*" else int(match[3])
        wanted.check_size(total)
        partial.joined(url)
        return total if total is not None else wanted.size
    if response.status_code == 416:
        partial.restart()
        raise TransferError("transient", "it cannot go on where the last attempt ended")
    check_status(response)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    wanted.check_size(total)
    partial.restart()
    partial.began(url, _validator(response))
    return total if total is not None else wanted.size


def check_status(response: httpx.Response) -> None:
    """Raises TransferError unless the answer is a plain success."""
    status = response.status_code
    if status == 200 or (status in (201, 204) and response.request.method == "PUT"):
        return
    reason = f"HTTP {status} {response.reason_phrase}".rstrip()
    if status in _TRANSIENT_STATUS:
        raise TransferError(
            "transient", reason, retry_after=_retry_after(response.headers.get("Retry-After", ""))
        )
    raise TransferError("refused", reason, status=status)


def _retry_after(text: str) -> float | None:
    """Seconds from a Retry-After header: a number, or a date."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _validator(response: httpx.Response) -> str | None:
    """What If-Range may carry: a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return str(tag)
    date = response.headers.get("Last-Modified")
    return str(date) if date else None


@contextmanager
def open_response(
    client: httpx.Client, url: str, headers: Mapping[str, str], line: Line, method: str = "GET"
) -> Iterator[httpx.Response]:
    """The answer to a GET (or HEAD) after redirects; none leads from https to http. Its body is still to be read."""
    request = client.build_request(method, url, headers=headers, extensions={"trace": line.trace})
    for _ in range(_REDIRECTS):
        response = client.send(request, stream=True)
        try:
            following = response.next_request
            if following is None:
                yield response
                return
        finally:
            response.close()
        if following.url.scheme not in ("http", "https"):
            raise TransferError("refused", f"it redirects to {following.url.scheme}:")
        if request.url.scheme == "https" and following.url.scheme == "http":
            raise TransferError("refused", f"it redirects from https to {redacted(str(following.url))}")
        request = following
    raise TransferError("refused", f"it redirects more than {_REDIRECTS} times")


@contextmanager
def failures(cancel: Cancel, url: str) -> Iterator[None]:
    """Turns what httpx raises into a TransferError (or into `interrupted`)."""
    import httpx

    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        check(cancel, redacted(url))
        raise _failure(error) from error


def _failure(error: Exception) -> TransferError:
    import httpx

    reason = str(error) or type(error).__name__
    if isinstance(error, httpx.ReadTimeout):
        return TransferError("stalled", "nothing came any more")
    if isinstance(error, httpx.ConnectTimeout):
        return TransferError("transient", "it does not answer")
    if isinstance(error, httpx.TransportError) and not _is_final(error):
        return TransferError("transient", reason)
    return TransferError("refused", reason)


def _is_final(error: BaseException) -> bool:
    """A wrong certificate or a wrong URL stays wrong."""
    import httpx

    cause: BaseException | None = error
    while cause:
        if isinstance(cause, (ssl.SSLCertVerificationError, httpx.UnsupportedProtocol)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
