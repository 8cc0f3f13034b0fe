"""Runs the host's `git` for us alone: in a process group of its own, never asking anybody, watched for silence.

The user's configuration is read, because `url.<base>.insteadOf`, proxies, certificates and credential helpers are
there; what in it could change what we get is overridden on the command line or by the environment.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ccstore.errors import CcError
from ccstore.events import Noted, Progressed, Sink
from ccstore.ports import Cancel
from ccstore.transfer.patience import PATIENT, Patience, check, wait

_SETTINGS = (
    ("color.ui", "false"),
    ("core.askPass", ""),
    ("core.fsmonitor", "false"),
    ("core.hooksPath", os.devnull),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("protocol.version", "2"),
)
# what may reach git from the environment: where its configuration is, and how it talks to servers
_PASSED = re.compile(
    r"GIT_(CONFIG_.*|CONFIG|SSL_.*|SSH|SSH_COMMAND|SSH_VARIANT|HTTP_.*|PROXY_.*|ALLOW_PROTOCOL|PROTOCOL_FROM_USER"
    r"|EXEC_PATH|TRACE.*|CURL_.*)"
)
_FIXED_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS_REQUIRE": "never",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "LC_ALL": "C",
}
_PROGRESS = re.compile(r"Receiving objects: +\d+% \((\d+)/(\d+)\)")
_TRANSIENT = re.compile(
    r"Could not resolve host|Failed to connect|[Cc]onnection (?:refused|reset|timed out|closed)|early EOF"
    r"|unexpected disconnect|RPC failed|returned error: (?:5\d\d|429)|[Oo]peration timed out|Network is unreachable"
)
_TAIL = 40
_TICK = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds without a sign of life after which git is ended, and seconds that one command may take at all.

    `patience` says how often a failed connection is tried again.
    """

    stall: float = 120.0
    total: float = 3600.0
    patience: Patience = PATIENT


DEFAULT_LIMITS = Limits()


class GitError(Exception):
    """git ended with a status other than 0; the message is what it said."""

    @property
    def transient(self) -> bool:
        """Whether the connection failed, so that the same request may succeed later."""
        return bool(_TRANSIENT.search(str(self))) and "on the remote side" not in str(self)


class Git:
    """git in one repository. Its methods raise `interrupted`, `fetch-stalled` and GitError."""

    def __init__(
        self,
        repository: Path,
        environ: Mapping[str, str],
        label: str,
        sink: Sink,
        cancel: Cancel,
        limits: Limits,
    ) -> None:
        """Raises `tool-missing` when there is no git on PATH."""
        program = shutil.which("git", path=environ.get("PATH", os.defpath))
        if program is None:
            raise CcError(
                "tool-missing",
                f"{label} comes from a git repository, and there is no git on this machine",
                hint="install git (on Debian: apt install git), or use a `url` source",
            )
        settings = [word for key, value in _SETTINGS for word in ("-c", f"{key}={value}")]
        self._command = [program, *settings, f"--git-dir={repository}"]
        self._environ = _environment(environ)
        self._label, self._sink, self._cancel = label, sink, cancel
        self._limits, self._patience = limits, limits.patience

    def request(self, *arguments: str, given: bytes = b"", answer: Path | None = None) -> None:
        """Runs a command that talks to a server, again after a pause when the connection fails.

        What it prints goes to the file `answer`.
        """
        for failures in range(1, self._patience.attempts):
            try:
                return self.run(*arguments, given=given, answer=answer)
            except GitError as error:
                if not error.transient:
                    raise
                self._sink(Noted(f"git is tried again: {error}", self._label, warning=True))
            wait(self._cancel, self._patience.pause(failures))
        return self.run(*arguments, given=given, answer=answer)

    def run(self, *arguments: str, given: bytes = b"", answer: Path | None = None) -> None:
        """Runs a command that reports on stderr, with `given` as its input, and what it prints in `answer`."""
        with Path(answer or os.devnull).open("wb") as out, self._process(arguments, stdout=out) as process:
            assert process.stdin
            assert process.stderr
            listener = _Listener(process.stderr, self._label, self._sink, self._patience.clock)
            feeder = threading.Thread(target=_feed, args=(process.stdin, given), daemon=True)
            feeder.start()
            self._watch(process, listener)
            feeder.join()
            listener.join()
        check(self._cancel, self._label)
        if process.returncode:
            raise GitError(listener.said())

    def output(self, *arguments: str) -> bytes:
        """What a command that needs no network prints."""
        with self._process(arguments, stdout=subprocess.PIPE) as process:
            out, said = process.communicate()
        check(self._cancel, self._label)
        if process.returncode:
            raise GitError(said.decode(errors="replace").strip())
        return out

    @contextmanager
    def batch(self, *arguments: str) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """A command that is asked and answers: its standard input and output."""
        with self._process(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdin
            assert process.stdout
            try:
                yield process.stdin, process.stdout
            except (EOFError, BrokenPipeError) as error:
                check(self._cancel, self._label)
                raise GitError(str(error)) from error

    @contextmanager
    def _process(
        self, arguments: tuple[str, ...], stdout: int | IO[bytes], stderr: int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A git process whose whole group is gone when the block is left."""
        check(self._cancel, self._label)
        process = subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=self._environ,
            start_new_session=True,
        )
        forget = self._cancel.on_cancel(lambda: _kill(process))
        try:
            yield process
        finally:
            forget()
            _kill(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with suppress(BrokenPipeError):
                        stream.close()
            process.wait()

    def _watch(self, process: subprocess.Popen[bytes], listener: _Listener) -> None:
        start = self._patience.clock()
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TICK)
                return
            now = self._patience.clock()
            silent, taken = now - listener.heard, now - start
            if silent > self._limits.stall or taken > self._limits.total:
                _kill(process)
                raise CcError(
                    "fetch-stalled",
                    f"{self._label}: git was ended after {taken:.0f} s, the last {silent:.0f} s of them silent",
                    hint="try again, or set a mirror with git's url.<base>.insteadOf",
                    details=tuple(listener.said().splitlines()),
                )


class _Listener(threading.Thread):
    """Reads git's stderr: progress goes to the sink, the last lines are kept, `heard` is when something came."""

    def __init__(self, stream: IO[bytes], label: str, sink: Sink, clock: Callable[[], float]) -> None:
        super().__init__(daemon=True)
        self._stream, self._label, self._sink, self._clock = stream, label, sink, clock
        self._lines: list[str] = []
        self.heard = clock()
        self.start()

    def run(self) -> None:
        rest = b""
        while data := os.read(self._stream.fileno(), 65536):
            self.heard = self._clock()
            *lines, rest = re.split(rb"[\r\n]", rest + data)
            self._take(lines)
        self._take([rest])

    def said(self) -> str:
        return "\n".join(self._lines)

    def _take(self, lines: list[bytes]) -> None:
        texts = [line.decode(errors="replace").strip() for line in lines if line.strip()]
        found = [match for text in texts if (match := _PROGRESS.match(text))]
        if found:
            self._sink(Progressed(self._label, int(found[-1][1]), int(found[-1][2]), "objects"))
        self._lines = [*self._lines, *(text for text in texts if "% (" not in text)][-_TAIL:]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {
        key: value for key, value in environ.items() if not key.startswith("GIT_") or _PASSED.fullmatch(key)
    }
    return {**kept, **_FIXED_ENVIRONMENT}


def _feed(stream: IO[bytes], data: bytes) -> None:
    with suppress(BrokenPipeError, ValueError):  # git may end before it has read everything
        stream.write(data)
        stream.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends git and what it started (the group lives on while any of its members does)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
