"""A registry that takes pushes and can be made to fail, which Debian's cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

OTHER = f"sha256:{'0' * 64}"


@dataclass
class Receiver:
    """`first` are the statuses of the first answers (0: as usual); of chunk `drop_chunk` only `keep` bytes arrive.

    `converts` says of a manifest that it has another digest here. `ranges` are what its answers to chunks say of
    the bytes that are here, in place of the truth (None: nothing).
    """

    first: list[int] = field(default_factory=list)
    drop_chunk: int = 0
    keep: int = 0
    converts: bool = False
    ranges: Iterator[str | None] | None = None
    whole: dict[str, bytes] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    chunks: int = 0
    port: int = 0

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own also looks up the host's name, which takes time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.receiver = self.server.receiver

    def _goes_on(self) -> bool:
        """Whether the request may go on; answers it with a failure if not."""
        status = self.receiver.first.pop(0) if self.receiver.first else 0
        if status:
            self._answer(status, body=b"" if self.command == "HEAD" else b"not today")
        return not status

    def do_HEAD(self) -> None:
        if self._goes_on():
            self._answer(404)

    def do_POST(self) -> None:
        if self._goes_on():
            place = f"/upload/{len(self.receiver.uploads)}"
            self.receiver.uploads[place] = b""
            self._answer(202, headers={"Location": place})

    def do_GET(self) -> None:
        place = urlsplit(self.path).path
        last = max(0, len(self.receiver.uploads[place]) - 1)
        self._answer(204, headers={"Location": place, "Range": f"0-{last}"})

    def do_PATCH(self) -> None:
        place = urlsplit(self.path).path
        start = int(self.headers["Content-Range"].partition("-")[0])
        assert start == len(self.receiver.uploads[place])
        data = self._body()
        self.receiver.chunks += 1
        if self.receiver.chunks == self.receiver.drop_chunk:
            self.receiver.uploads[place] += data[: self.receiver.keep]
            self.close_connection = True
            return
        self.receiver.uploads[place] += data
        last = len(self.receiver.uploads[place]) - 1
        said = f"0-{last}" if self.receiver.ranges is None else next(self.receiver.ranges)
        if said == "0-0":
            self.receiver.uploads[place] = b""
        self._answer(202, headers={"Location": place} | ({"Range": said} if said else {}))

    def do_PUT(self) -> None:
        data = self._body()
        if not self._goes_on():
            return
        url = urlsplit(self.path)
        if "/manifests/" in url.path:
            self.receiver.tags.append(url.path.rpartition("/")[2])
            named = {"Docker-Content-Digest": OTHER} if self.receiver.converts else {}
            self._answer(201, headers=named)
        else:
            [digest] = parse_qs(url.query)["digest"]
            self.receiver.whole[digest.removeprefix("sha256:")] = self.receiver.uploads[url.path] + data
            self._answer(201)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at what was received."""


@contextmanager
def receiving(receiver: Receiver) -> Iterator[Receiver]:
    with _Server(receiver) as server:
        receiver.port = int(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield receiver
        finally:
            server.shutdown()
