"""A gRPC server in front of a real one: passes every call on, counts them, and lets a test change them or answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

Change = Callable[[str, bytes], bytes]
Ask = Callable[[Iterable[bytes]], Iterator[bytes]]
Respond = Callable[[str, Iterator[bytes], Ask], Iterable[bytes]]


class Refusal(grpc.RpcError):  # type: ignore[misc]
    """What a `Respond` raises to end a call with an error of the service."""

    def __init__(self, code: grpc.StatusCode, details: str = "as the test wants it") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


def unchanged(method: str, answer: bytes) -> bytes:
    return answer


def asked(method: str, requests: Iterator[bytes], ask: Ask) -> Iterator[bytes]:
    """What the service itself answers."""
    return ask(requests)


@dataclass
class Traffic:
    """What has gone through: calls by method (`FindMissingBlobs`), and bytes of messages to and from the server."""

    calls: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    received: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, method: str) -> None:
        with self._lock:
            self.calls[method] += 1

    def count(self, sent: int, received: int) -> None:
        with self._lock:
            self.sent += sent
            self.received += received


class _Forward(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, channel: Any, change: Change, respond: Respond, traffic: Traffic) -> None:
        self._channel, self._change, self._respond, self._traffic = channel, change, respond, traffic

    def service(self, details: Any) -> Any:
        method = details.method
        call = self._channel.stream_stream(method)
        name = method.rpartition("/")[2]

        def forward(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            self._traffic.call(name)

            def ask(sent: Iterable[bytes]) -> Any:
                answers = call(iter(sent), metadata=context.invocation_metadata())
                context.add_callback(answers.cancel)
                return answers

            try:
                for answer in self._respond(name, self._counted(requests), ask):
                    self._traffic.count(0, len(answer))
                    yield self._change(name, answer)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(forward)

    def _counted(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        for request in requests:
            self._traffic.count(len(request), 0)
            yield request


@contextmanager
def proxy(url: str, change: Change = unchanged, respond: Respond = asked) -> Iterator[tuple[str, Traffic]]:
    """The URL of a server in front of the one at `url` (grpc:// or unix:), and what goes through it.

    `respond` stands for the service, which it can ask; `change` has the last word on each of its answers.
    """
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    traffic = Traffic()
    with grpc.insecure_channel(url.removeprefix("grpc://"), options) as channel:
        server = grpc.server(ThreadPoolExecutor(64), options=options)
        server.add_generic_rpc_handlers((_Forward(channel, change, respond, traffic),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}", traffic
        finally:
            server.stop(1).wait()
