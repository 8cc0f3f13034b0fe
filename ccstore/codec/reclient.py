"""A client of the Remote Execution API over gRPC: retries, and failures as ours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ccstore.codec.reapi import stub
from ccstore.codec.rechannel import Remote, metadata, open_channel
from ccstore.errors import CcError

T = TypeVar("T")
ATTEMPTS = 5
_FIRST_PAUSE = 0.2  # seconds; each is twice the one before
_DEADLINE = 120.0  # seconds for a call that is no build
_HINT = "is the address right, and does the service run? `remote:` (of a cache `caches:`) of the configuration has it"
_UNFIT = "the service does not take this: a `timeout:` longer than it allows, or an `instance:` that it does not know"
_WHO = "say who we are: `token: FILE` in `remote:`, or `cert: FILE` and `key: FILE`"
# what gRPC says of a connection that will not come about, however often it is tried: our code, and the remedy
_HOPELESS = {
    "CERTIFICATE_VERIFY_FAILED": (
        "unreachable",
        "if its certificate is right, name who signed it: `ca: FILE` in `remote:`, in PEM",
    ),
    "Hostname Verification Check failed": (
        "unreachable",
        "the certificate is for another name: use that name in `url:` of `remote:`",
    ),
    "WRONG_VERSION_NUMBER": (
        "unreachable",
        "the service speaks no TLS there: is it grpc:// and not grpcs://?",
    ),
    "http1.x server": (
        "unreachable",
        "does it want TLS: grpcs:// and not grpc://? is it such a service at all?",
    ),
    "CERTIFICATE_REQUIRED": ("auth-needed", _WHO),
    "UNKNOWN_CA": ("auth-needed", _WHO),
    "http2 header with status: 400": ("auth-needed", _WHO),
}


class Client:
    """An open connection; a context manager, safe to share between threads."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.instance = remote.instance
        self._channel = open_channel(remote)
        self._metadata = metadata(remote)
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

    def passed_on(self, method: str, requests: Iterator[bytes]) -> Any:
        """The answers to `requests`, messages of any method as they travel; raises grpc.RpcError in the middle."""
        return self._channel.stream_stream(method)(requests, metadata=self._metadata)

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

        code, details, url = error.code(), error.details(), self.remote.url
        if hopeless := _hopeless(error):
            return CcError(hopeless[0], f"{url} cannot be used: {details}", hint=hopeless[1])
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return CcError("auth-needed", f"{url} wants credentials: {details}", hint=_WHO)
        if passes(error):
            return CcError("unreachable", f"{url} does not answer: {details}", hint=_HINT)
        hint = _UNFIT if code == grpc.StatusCode.INVALID_ARGUMENT else _HINT
        return CcError("remote-failed", f"{url} refuses: {details} ({code.name})", hint=hint)


def _hopeless(error: Any) -> tuple[str, str] | None:
    return next((found for text, found in _HOPELESS.items() if text in (error.details() or "")), None)


def passes(error: Any) -> bool:
    """Whether the same call may go well in a moment."""
    import grpc

    code = grpc.StatusCode
    if _hopeless(error):
        return False
    return error.code() in (code.UNAVAILABLE, code.DEADLINE_EXCEEDED, code.ABORTED, code.RESOURCE_EXHAUSTED)
