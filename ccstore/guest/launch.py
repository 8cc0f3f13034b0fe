"""Runs a virtual machine monitor, so that it ends when ccstore does, however that happens, and leaves nothing behind.

Nothing is made in the file system: the guest's console is a socket pair on the monitor's stdin and stdout, each of
the agent's channels is another that the monitor inherits, and a container's root lives in the monitor's own mount
namespace (`enter`). The thread that starts a Guest must outlive it: the kernel kills the monitor when that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.errors import CcError
from ccstore.guest import enter

SHARE = enter.SHARE
STOP_SECONDS = 3.0
STDERR_KEPT = 8 << 10


@dataclass(frozen=True, slots=True)
class ContainerRoot:
    """What a container shall see as `/`: a folder of this host, or a descriptor of a tar archive."""

    folder: Path | None = None
    archive: int | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A command to run. The guest gets a private writable view of `root`, at `root_at` below SHARE.

    `keep` are descriptors that the command inherits under their numbers.
    """

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: ContainerRoot | None = None
    root_at: str = ""
    keep: tuple[int, ...] = ()


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
        status, report = os.pipe()
        os.set_blocking(self._errors, False)
        theirs = self._console.theirs.fileno()
        keep = [*program.keep, *(each.theirs.fileno() for each in self.channels)]
        text = json.dumps(_spec(program, report, keep))
        try:
            with memory_file(text) as source:
                self._process = subprocess.Popen(
                    [_interpreter(), "-I", "-S", enter.__file__, str(source)],
                    stdin=theirs,
                    stdout=theirs,
                    stderr=stderr,
                    pass_fds=(source, report, *keep, *_archives(program)),
                    start_new_session=True,
                )
        finally:
            os.close(stderr)
            os.close(report)
        self.pidfd = os.pidfd_open(self._process.pid)
        with os.fdopen(status, "rb") as file:
            refusal = file.read()
        if refusal:
            self._process.wait()
            self._forget()
            raise _refused(json.loads(refusal), program)

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
        """No other monitor will be started: what is read here comes to its end."""
        for channel in (self._console, *self.channels):
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
        self.read_errors()
        for descriptor in (self.pidfd, self._errors):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self._errors = -1


def _archives(program: Program) -> tuple[int, ...]:
    archive = None if program.root is None else program.root.archive
    return () if archive is None else (archive,)


def _spec(program: Program, status: int, keep: list[int]) -> enter.Spec:
    root: enter.Root | None = None
    if program.root is not None:
        folder = program.root.folder
        root = {
            "folder": None if folder is None else str(folder),
            "archive": program.root.archive,
            "at": program.root_at,
        }
    return {
        "parent": os.getpid(),
        "status": status,
        "keep": keep,
        "root": root,
        "argv": list(program.argv),
        "env": dict(program.env),
    }


@contextlib.contextmanager
def memory_file(text: str) -> Iterator[int]:
    """A descriptor of a file that holds `text` and has no name."""
    source = os.memfd_create("ccstore-guest")
    try:
        os.write(source, text.encode())
        os.lseek(source, 0, os.SEEK_SET)
        yield source
    finally:
        os.close(source)


def _interpreter() -> str:
    return sys.executable or "/usr/bin/python3"


def _refused(message: dict[str, object], program: Program) -> CcError:
    text = f"{message['step']}: {message['text']}"
    if message["step"] == "make namespaces":
        hint = "`ccstore doctor` says what this host can do"
        return CcError("no-userns", f"the container's root could not be made: {text}", hint=hint)
    return CcError("vmm-failed", f"{Path(program.argv[0]).name} could not be started: {text}")


def exit_text(status: int) -> str:
    """What a wait status means, in words."""
    if status >= 0:
        return f"status {status}"
    return f"signal {signal.Signals(-status).name}"
