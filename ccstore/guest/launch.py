"""Runs a virtual machine monitor, so that it ends when ccstore does, however that happens, and leaves nothing behind.

Nothing is made in the file system: the guest's console is a socket pair on the monitor's stdin and stdout, each of
the agent's channels is another that the monitor inherits, and a container's root lives in the monitor's own mount
namespace (`enter`). The thread that starts a Guest must outlive it: the kernel kills the monitor when that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ccstore.guest import child
from ccstore.guest.child import FILE_SERVER, Program

if TYPE_CHECKING:  # few runs need them
    from pathlib import Path

    from ccstore.guest.virtiofs import FileServer

STOP_SECONDS = 3.0
STDERR_KEPT = 8 << 10


class Channel:
    """A socket pair: ours is used here, theirs is inherited by every monitor that is tried."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()

    def character_device(self) -> str:
        """How QEMU is told of it."""
        return f"socket,fd={self.theirs.fileno()}"

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


class Guest:
    """A monitor and its guest. `console` is our end of the guest's console.

    Their ends stay open here until `ended`, so that a second monitor can take the place of one that did not start.
    """

    def __init__(self, channels: int = 0) -> None:
        self._console = Channel()
        self.console = self._console.ours
        self.channels = [Channel() for _ in range(channels)]
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = -1
        self._said = b""
        self._servers: list[FileServer] = []
        self.pidfd = -1
        self._stopped = False
        self._lock = threading.Lock()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._forget()
        for channel in (self._console, *self.channels):
            channel.close()

    def start(self, program: Program) -> None:
        """Starts the monitor. Raises `vmm-failed`, `no-userns` when that cannot be done."""
        with self._lock:
            if not self._stopped:
                self._start(program)

    def _start(self, program: Program) -> None:
        self._forget()
        self._said = b""
        self._errors, stderr = os.pipe()
        os.set_blocking(self._errors, False)
        keep = [each.theirs.fileno() for each in self.channels]
        argv = list(program.argv)
        try:
            for number, folder in enumerate(program.served):
                connection = self._serve(folder, stderr)
                keep.append(connection)
                argv = [word.replace(FILE_SERVER.format(number), str(connection)) for word in argv]
            stdio = (self._console.theirs.fileno(), stderr)
            self._process = child.start(replace(program, argv=argv), keep, stdio)
        finally:
            os.close(stderr)
            for server in self._servers:
                server.connection.close()
        self.pidfd = os.pidfd_open(self._process.pid)

    def _serve(self, folder: Path, stderr: int) -> int:
        from ccstore.guest.virtiofs import FileServer

        self._servers.append(FileServer(folder, stderr))
        return self._servers[-1].connection.fileno()

    def stop(self) -> None:
        """Ends the monitor, gently at first, so that what it holds of a volume is written; no other can start."""
        with self._lock:
            self._stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wait(self) -> int:
        """The exit status of a monitor that ended, as subprocess gives it."""
        assert self._process is not None
        return self._process.wait()

    def hang_up(self) -> None:
        """No other monitor will be started: what is read here comes to its end, even if one still runs."""
        for channel in (self._console, *self.channels):
            with contextlib.suppress(OSError):  # it was hung up before
                channel.theirs.shutdown(socket.SHUT_RDWR)
            channel.theirs.close()

    def said(self) -> tuple[str, ...]:
        """The last lines that the monitor itself wrote to its stderr."""
        self.read_errors()
        return tuple(self._said.decode(errors="replace").splitlines()[-10:])

    def read_errors(self, word: bytes = b"") -> bool:
        """Takes what the monitor wrote to its stderr, so that it never waits; whether `word` was said."""
        with contextlib.suppress(BlockingIOError):
            while self._errors >= 0 and (data := os.read(self._errors, 1 << 16)):
                self._said = (self._said + data)[-STDERR_KEPT:]
        return word in self._said

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    @property
    def errors(self) -> int:
        """A descriptor that is readable when the monitor wrote to its stderr."""
        return self._errors

    def _forget(self) -> None:
        while self._servers:
            self._servers.pop().stop()
        self.read_errors()
        for descriptor in (self.pidfd, self._errors):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self._errors = -1


def exit_text(status: int) -> str:
    """What a wait status means, in words."""
    if status >= 0:
        return f"status {status}"
    return f"signal {signal.Signals(-status).name}"
