"""A client of the Remote Execution API over gRPC: retries, and failures as ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ccstore.codec.reapi import stub
from ccstore.errors import CcError

T = TypeVar("T")
ATTEMPTS = 5
_FIRST_PAUSE = 0.2  # seconds; each is twice the one before
_DEADLINE = 120.0  # seconds for a call that is no build
_HINT = "is the address right, and does the service run? `remote:` in the configuration says where it is"


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a service is, and how to speak to it. `url` is grpc://HOST:PORT, grpcs://HOST:PORT or unix:/PATH.

    `token` is a file whose content goes into each call as `authorization: Bearer …`; `ca`, `cert` and `key` are PEM
    files: whom to trust, and who we are.
    """

    url: str
    instance: str = ""
    headers: Mapping[str, str] | None = None
    token: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class Client:
    """An open connection; a context manager, safe to share between threads."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.instance = remote.instance
        self._channel = _channel(remote)
        self._metadata = _metadata(remote)
        self._stubs: dict[str, Any] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, name: str, request: Any) -> Any:
        """One question, one answer; asked again while the service is out of reach."""
        return self.retried(lambda: self._stub(name)(request, timeout=_DEADLINE, metadata=self._metadata))

    def stream(self, name: str, request: Any) -> Any:
        """One question, many answers, once: raises grpc.RpcError also in the middle."""
        return self._stub(name)(request, metadata=self._metadata)

    def send(self, name: str, requests: Iterator[Any]) -> Any:
        return self._stub(name)(requests, timeout=_DEADLINE, metadata=self._metadata)

    def _stub(self, name: str) -> Any:
        if name not in self._stubs:
            self._stubs[name] = stub(self._channel, name)
        return self._stubs[name]

    def retried(self, action: Callable[[], T]) -> T:
        """What `action` gives, tried ATTEMPTS times while the service cannot be reached. Raises CcError."""
        import grpc

        pause = _FIRST_PAUSE
        for attempt in range(ATTEMPTS):
            try:
                return action()
            except grpc.RpcError as error:
                if not passes(error) or attempt == ATTEMPTS - 1:
                    raise self.failure(error) from error
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable")

    def failure(self, error: Any) -> CcError:
        """What went wrong, for a person."""
        import grpc

        code, details = error.code(), error.details()
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            hint = "give it with `remote: {token: FILE}`, or `cert:` and `key:`"
            return CcError("auth-needed", f"{self.remote.url} wants credentials: {details}", hint=hint)
        if passes(error):
            return CcError("unreachable", f"{self.remote.url} does not answer: {details}", hint=_HINT)
        return CcError("remote-failed", f"{self.remote.url} refuses: {details} ({code.name})", hint=_HINT)


def passes(error: Any) -> bool:
    """Whether the same call may go well in a moment."""
    import grpc

    code = grpc.StatusCode
    return error.code() in (code.UNAVAILABLE, code.DEADLINE_EXCEEDED, code.ABORTED, code.RESOURCE_EXHAUSTED)


def _channel(remote: Remote) -> Any:
    try:
        import grpc
    except ImportError as error:
        message = "remote execution needs gRPC, which is not installed"
        raise CcError("tool-missing", message, hint="pip install 'ccstore[remote]'") from error
    # with fork in the same process gRPC would warn on the terminal
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    scheme, _, place = remote.url.partition("://")
    options = [("grpc.max_receive_message_length", -1)]
    if remote.url.startswith("unix:"):
        return grpc.insecure_channel(remote.url, options)
    if scheme == "grpc":
        return grpc.insecure_channel(place, options)
    if scheme != "grpcs":
        hint = "grpc://HOST:PORT, grpcs://HOST:PORT (TLS) or unix:/PATH"
        raise CcError("usage", f"{remote.url!r} is no address of a remote execution service", hint=hint)
    credentials = grpc.ssl_channel_credentials(_pem(remote.ca), _pem(remote.key), _pem(remote.cert))
    return grpc.secure_channel(place, credentials, options)


def _pem(file: Path | None) -> bytes | None:
    return _content(file) if file else None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise CcError("config-invalid", message, hint="correct `remote:` in the configuration") from error


def _metadata(remote: Remote) -> list[tuple[str, str]]:
    found = [(name.lower(), value) for name, value in (remote.headers or {}).items()]
    if remote.token:
        found.append(("authorization", f"Bearer {_content(remote.token).decode().strip()}"))
    return found


def chunks(data: Iterable[bytes], size: int) -> Iterator[bytes]:
    """`data` anew, in pieces of at most `size` bytes."""
    for piece in data:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]
