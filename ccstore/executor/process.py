"""One run of `enter`, seen from ccstore.

`enter` gets its instructions through an anonymous file and reports through a status pipe; what the build prints
goes to a pipe that reaches its end when, and only when, every process of the sandbox is gone. SIGTERM to the
process ends the sandbox; it exits after everything in it is dead. The thread that makes a Process must outlive
it: the kernel ends the sandbox when that thread ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Any, Literal

from ccstore.errors import CcError
from ccstore.executor import enter
from ccstore.executor.refusal import Refusal

Reason = Literal["timeout", "cancelled"]


def interpreter() -> str:
    """The Python that runs `enter`: ours, or else one that this user may run. Raises `tool-missing`."""
    if sys.executable and os.access(sys.executable, os.X_OK):
        return sys.executable
    found = shutil.which("python3")
    if not found:
        raise CcError(
            "tool-missing", "there is no python3 to make a sandbox with", hint="put python3 on PATH"
        )
    return found


class Process:
    """A running sandbox. `spec` is what `enter.Spec` says, less its parent, status pipe and terminal.

    A command that reads what the caller does writes where the caller does too. One with a terminal of its own gives
    its other end to `receive_terminal`.
    """

    def __init__(self, spec: dict[str, Any], stdout: int | None = None) -> None:
        self.reason: Reason | None = None
        self.exit_status = 0
        self.cpu_seconds = 0.0
        self.ended = 0.0
        self._ended = False
        self._lock = threading.Lock()
        self._line: socket.socket | None
        self._line, line = socket.socketpair() if spec["input"] == "terminal" else (None, None)
        self._status, writer = os.pipe()
        text = {**spec, "parent": os.getpid(), "status": writer, "terminal": line and line.fileno()}
        try:
            self._popen = _start(text, stdout)
        except BaseException:
            os.close(self._status)
            raise
        finally:
            os.close(writer)
            if line is not None:
                line.close()

    def receive_terminal(self) -> int | None:
        """The other end of the command's own terminal, when there is one; None if the sandbox did not come up."""
        assert self._line is not None
        with self._line:
            _, descriptors, _, _ = socket.recv_fds(self._line, 100, 1)
        return descriptors[0] if descriptors else None

    @property
    def output(self) -> IO[bytes]:
        """Stdout and stderr of the build, when `stdout` was a pipe."""
        assert self._popen.stdout is not None
        return self._popen.stdout

    def end(self, reason: Reason) -> None:
        """Ends everything in the sandbox; may be called from any thread, at any time."""
        with self._lock:
            if not self._ended:
                self.reason = self.reason or reason
                os.kill(self._popen.pid, signal.SIGTERM)

    def join(self) -> None:
        """Returns when nothing of the sandbox is left, and takes no notice of it; may be interrupted."""
        os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOWAIT)

    def wait(self) -> None:
        """Returns when nothing of the sandbox is left; `exit_status`, `cpu_seconds` and `ended` are known then."""
        self.join()
        self.ended = time.monotonic()
        with self._lock:
            self._ended = True
            _, status, usage = os.wait4(self._popen.pid, 0)
        self._popen.returncode = os.waitstatus_to_exitcode(status)
        self.exit_status = enter.exit_status(status)
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        with os.fdopen(self._status, "rb") as file:
            self._messages: list[dict[str, Any]] = [json.loads(line) for line in file]

    @property
    def ready(self) -> bool:
        """After `wait`: whether the sandbox was complete, so that what followed is the command's doing."""
        return self.began is not None

    @property
    def began(self) -> float | None:
        """After `wait`: when the command began, in monotonic seconds."""
        return next((message["ready"] for message in self._messages if "ready" in message), None)

    @property
    def seen(self) -> dict[str, str]:
        """After `wait`: what the builder could see of where it ran."""
        seen = [message["seen"] for message in self._messages if "seen" in message]
        return {name: str(value) for each in seen for name, value in each.items()}

    def refusal(self) -> Refusal | None:
        """After `wait`: what the system refused."""
        for message in self._messages:
            if "stage" in message:
                return Refusal(message["stage"], message["step"], message["errno"])
        return None


def _descriptors(text: dict[str, Any]) -> list[int]:
    """Those of this process that `enter` is told of."""
    found = (text["status"], text["terminal"], *(text["jobserver"] or ()))
    return [each for each in found if each is not None]


def _start(text: dict[str, Any], stdout: int | None) -> subprocess.Popen[bytes]:
    """Starts `enter`, which reads `text` through an anonymous file."""
    shared = text["input"] == "caller"
    source = os.memfd_create("ccstore-sandbox")
    try:
        with os.fdopen(os.dup(source), "w", encoding="utf-8") as file:
            json.dump(text, file)
        os.lseek(source, 0, os.SEEK_SET)
        return subprocess.Popen(
            [interpreter(), "-I", "-S", enter.__file__, str(source)],
            stdin=None if shared else subprocess.DEVNULL,
            stdout=None if shared else stdout or subprocess.DEVNULL,
            stderr=None if shared else subprocess.STDOUT,
            bufsize=0,
            pass_fds=[source, *_descriptors(text)],
            start_new_session=True,
        )
    finally:
        os.close(source)
