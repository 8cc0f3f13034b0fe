"""A registry that wants tokens, sends blobs elsewhere, or misbehaves: what Debian's cannot be made to do."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import parse_qs, urlsplit

TOKEN = "good-token"


@dataclass
class Hub:
    """Serves `blobs` by digest, whatever the repository.

    `users` lets these in (user name to password) with basic authentication or, with `tokens`, by a realm at
    /token; `blobs_at` is another server that blobs are redirected to. `cut` sends that many bytes of a blob the
    first time it is asked for, `hang` that many and then nothing.
    """

    blobs: Mapping[str, bytes]
    users: Mapping[str, str] | None = None
    tokens: bool = False
    anonymous: bool = False
    blobs_at: str = ""
    cut: Mapping[str, int] = field(default_factory=dict)
    hang: Mapping[str, int] = field(default_factory=dict)
    status: Mapping[str, int] = field(default_factory=dict)
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self, part: str) -> list[Mapping[str, str]]:
        """The headers of each request whose path has `part` in it."""
        return [headers for path, headers in self.requests if part in path]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        self.hub, self.over = hub, threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own also looks up the host's name, which takes time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        seen = sum(path == self.path for path, _ in self.server.hub.requests)
        self.server.hub.requests.append((self.path, dict(self.headers)))
        if self.path.startswith("/token"):
            self._token()
        elif not self._allowed():
            kind = (
                f'Bearer realm="http://{self.server.hub.name}/token",service="hub",scope="repository:x:pull"'
            )
            self._send(
                401, b"{}", {"WWW-Authenticate": kind if self.server.hub.tokens else 'Basic realm="hub"'}
            )
        else:
            self._blob(self.path.rpartition("/")[2], seen)

    def _blob(self, name: str, seen: int) -> None:
        if self.server.hub.blobs_at and "/blobs/" in self.path:
            self._send(307, b"", {"Location": f"http://{self.server.hub.blobs_at}{self.path}"})
        elif name in self.server.hub.status or name not in self.server.hub.blobs:
            self._send(self.server.hub.status.get(name, 404), b"{}", {})
        else:
            self._content(name, self.server.hub.blobs[name], seen)

    def _content(self, name: str, data: bytes, seen: int) -> None:
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        stop = self.server.hub.hang.get(name, self.server.hub.cut.get(name) if not seen else None)
        self.wfile.write(data[start:stop])
        self.wfile.flush()
        if name in self.server.hub.hang:
            self.server.over.wait(30)
        self.close_connection = True

    def _token(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        assert (query["service"], query["scope"]) == (["hub"], ["repository:x:pull"])
        if self.server.hub.anonymous or self._basic():
            self._send(200, json.dumps({"token": TOKEN}).encode(), {})
        else:
            self._send(401, b"{}", {})

    def _allowed(self) -> bool:
        if self.server.hub.users is None and not self.server.hub.tokens:
            return True
        given = self.headers.get("Authorization", "")
        return given == f"Bearer {TOKEN}" if self.server.hub.tokens else self._basic()

    def _basic(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        user, _, password = base64.b64decode(given).decode().partition(":")
        return (self.server.hub.users or {}).get(user, "") == password != ""

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `requests`."""


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    with _Server(hub) as server:
        hub.port = int(server.server_address[1])
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield hub
        finally:
            server.over.set()
            server.shutdown()
