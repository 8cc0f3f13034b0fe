"""A real HTTP server that misbehaves on request."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from types import TracebackType


@dataclass(frozen=True)
class Answer:
    """How one request is answered. Counts are in bytes of the body."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    ranges: bool = True
    etag: str = '"one"'
    cut_after: int | None = None
    hang_after: int | None = None
    with_length: bool = True
    range_shift: int = 0


@dataclass(frozen=True)
class Request:
    path: str
    headers: Mapping[str, str]


class Server:
    """Serves `content` at every path; request i gets answer i, the last one for ever. A context manager."""

    def __init__(self, content: bytes, answers: Sequence[Answer] = (Answer(),)) -> None:
        self.content = content
        self.answers = answers
        self.requests: list[Request] = []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._server = _Listening(self)
        self._scheme = "http"

    def use_tls(self, certificate: Path, key: Path) -> Server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "https"
        return self

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/file"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [each.headers.get("Range") for each in self.requests]

    def next_answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            return self.answers[min(len(self.requests), len(self.answers)) - 1]

    def __enter__(self) -> Server:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own also looks up the host's name, which takes time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listening

    def do_GET(self) -> None:
        answer = self.server.owner.next_answer(Request(self.path, dict(self.headers)))
        body = self.server.owner.content if answer.body is None else answer.body
        start = self._start(answer, len(body)) if answer.status == 200 else 0
        if start > len(body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        ranged = start > 0
        self.send_response(206 if ranged else answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.etag:
            self.send_header("ETag", answer.etag)
        if ranged:
            start += answer.range_shift
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if answer.with_length:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self._send(answer, memoryview(body)[start:])
        self.close_connection = True

    def _start(self, answer: Answer, size: int) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        current = self.headers.get("If-Range", answer.etag) == answer.etag
        return int(match[1]) if match and answer.ranges and current else 0

    def _send(self, answer: Answer, body: memoryview) -> None:
        stops = [stop for stop in (answer.cut_after, answer.hang_after) if stop is not None]
        try:
            self.wfile.write(body[: min(stops)] if stops else body)
            self.wfile.flush()
        except OSError:
            return  # the client refused the rest, which is what many tests want
        if answer.hang_after is not None:
            self.server.owner.over.wait(30)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `requests`."""


@contextmanager
def dumb_http(folder: Path) -> Iterator[str]:
    """A web server that knows nothing of git, and so of no shallow clones, filters or wishes."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
