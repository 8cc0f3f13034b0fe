"""Connections that a test can cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Line:
    """A TCP port of loopback behind which a socket (by its path) or another port is, as a daemon elsewhere."""

    def __init__(self, behind: str | int) -> None:
        self._behind = behind
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # it is cut
            while True:
                outside, _ = self._server.accept()
                inside = self._connected()
                self._open += [outside, inside]
                for ends in ((outside, inside), (inside, outside)):
                    threading.Thread(target=self._copy, args=ends, daemon=True).start()

    def _connected(self) -> socket.socket:
        if isinstance(self._behind, int):
            return socket.create_connection(("127.0.0.1", self._behind))
        inside = socket.socket(socket.AF_UNIX)
        inside.connect(self._behind)
        return inside

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def drop(self) -> None:
        """Ends the connections that there are; new ones can be made."""
        while self._open:
            _close(self._open.pop())

    def cut(self) -> None:
        """Nothing goes through any more."""
        _close(self._server)
        self.drop()


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
