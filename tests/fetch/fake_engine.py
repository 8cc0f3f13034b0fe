"""The three requests of Docker's API that fetching an image takes, so that the archive can be any at all.

The daemon of the tests is of one version; newer ones write their archives otherwise, and none writes broken ones.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, archive: bytes, cut: int, silent: bool) -> None:
        self.archive, self.cut = archive, cut
        self.silent, self.over = silent, threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own also looks up the host's name, which takes time


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        if self.path.endswith("/get"):
            if self.server.silent:
                self.server.over.wait(30)
            self._send(self.server.archive[: len(self.server.archive) - self.server.cut])
        elif self.path.endswith("/json"):
            self._send(json.dumps({"Id": self.path.split("/")[-2]}).encode())
        elif self.path.endswith("/version"):
            self._send(b'{"ApiVersion": "1.50", "MinAPIVersion": "1.24"}')
        else:
            self._send(b"OK")

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at what was fetched."""


@contextmanager
def serving(archive: bytes, cut: int = 0, *, silent: bool = False) -> Iterator[str]:
    """DOCKER_HOST of a daemon that saves every image as `archive`, less its last `cut` bytes, or `silent`ly never."""
    with _Server(archive, cut, silent) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.over.set()
            server.shutdown()
