"""The namespace sandbox: runs a build request on this machine, needing neither root nor a daemon.

`layout` says what a build sees, `enter` makes it so, `process` runs that; this module decides how a build ended
and leaves nothing behind.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ccstore.errors import CcError
from ccstore.executor import layout
from ccstore.executor.process import Process, interpreter
from ccstore.executor.refusal import Refusal
from ccstore.executor.scratch import empty_folder, read_report
from ccstore.ports import BuildRequest, BuildResult, Cancel
from ccstore.terminal import relay

Log = Callable[[bytes], None]
Outcome = Literal["built", "failed", "timeout", "cancelled"]
CHUNK = 1 << 16
TAIL = 2000  # bytes of output that explain a sandbox that did not come up


class Sandbox:
    """Executor `sandbox`. Thread-safe; a build holds the thread that called it until everything is gone.

    Outputs are left in `staging` of a build that succeeded. An overlay output must have scratch and staging on
    one mount; its upper folder is `staging/<output>` itself, with overlayfs's marks in it: a character device 0:0
    for what was removed, the attribute `user.overlay.opaque` on a folder that hides the one below. Folders of the
    input appear in it, with mode 0755, whether or not something in them changed.

    A builder may explain its failure in `$CCSTORE_REPORT`. A command that cannot be started is a failed build.
    Raises `no-userns`, `sandbox-failed`, `disk-full` or `tool-missing` when there was no sandbox to build in.
    """

    name = "sandbox"

    def build(self, request: BuildRequest, log: Log, cancel: Cancel) -> BuildResult:
        layout.check(request)
        kept = False
        outcome: Outcome = "cancelled"
        try:
            if cancel.cancelled:
                return BuildResult("cancelled", 128 + signal.SIGTERM, 0.0, in_order=True)
            process = self._run(request, log, cancel)
            outcome = _outcome(process)
            kept = request.keep_failed and outcome in ("failed", "timeout")
            return BuildResult(
                outcome=outcome,
                exit_status=process.exit_status,
                cpu_seconds=process.cpu_seconds,
                report=_report(request, log),
                overlays={output: request.staging / output for output in request.overlays},
                command=layout.command(interpreter(), request),
                seen=process.seen,
                began=process.began,
                ended=process.ended,
                in_order=_in_order(process),
            )
        finally:
            if not kept:
                empty_folder(request.scratch)
                if outcome != "built":
                    empty_folder(request.staging)

    def interact(self, request: BuildRequest, *, terminal: bool) -> int:
        """Runs `argv` of the request here, in the sandbox that a build would have; gives its exit status.

        With `terminal` it has one of its own, which is joined to this one; else it reads and writes what this process
        does. Scratch and staging may hold what a failed build left, and stay as they are afterwards.
        """
        layout.check(request)
        _prepare(request)
        process = Process(layout.spec(request, "terminal" if terminal else "caller"))
        try:
            other = process.receive_terminal() if terminal else None
            if other is not None:
                with os.fdopen(other, "rb", buffering=0):
                    relay(other)
            else:
                process.join()
        except BaseException:
            process.end("cancelled")
            raise
        finally:
            process.wait()
            _open_again(request)
        _explain(request, process, b"", lambda text: print(text.decode(), end="", file=sys.stderr))
        return process.exit_status

    def _run(self, request: BuildRequest, log: Log, cancel: Cancel) -> Process:
        _prepare(request)
        process = Process(layout.spec(request), stdout=subprocess.PIPE)
        forget = cancel.on_cancel(lambda: process.end("cancelled"))
        tail = b""

        def watch(data: bytes) -> None:
            nonlocal tail
            tail = (tail + data)[-TAIL:]
            log(data)

        try:
            _pump(process, watch, request.timeout)
        except BaseException:
            process.end("cancelled")
            raise
        finally:
            forget()
            process.wait()
            _open_again(request)
        _explain(request, process, tail, log)
        return process


def _open_again(request: BuildRequest) -> None:
    """The build owned its folders, and may have closed them to their own user."""
    for folder in layout.host_folders(request):
        folder.chmod(0o755)


def _prepare(request: BuildRequest) -> None:
    """Makes the folders that the sandbox is put together from. Raises `disk-full`, `sandbox-failed`."""
    try:
        for folder in layout.host_folders(request):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # whatever the umask was
        layout.report_file(request).unlink(missing_ok=True)  # of an earlier build in the same folder
        if request.network:
            _copy_network_files(layout.network_folder(request))
    except OSError as error:
        raise Refusal("operation", f"preparing {error.filename}", error.errno).error(request.label) from error


def _copy_network_files(folder: Path) -> None:
    """What name resolution and TLS need of this host; a copy, as some of them are links to elsewhere."""
    for name in layout.NETWORK_FILES:
        source, target = Path("/", name), folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.exists():
            target.write_bytes(source.read_bytes())


def _pump(process: Process, log: Log, timeout: float | None) -> None:
    """Hands on the output until its end; ends the sandbox when the time is up."""
    deadline = None if timeout is None else time.monotonic() + timeout
    output = process.output.fileno()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while True:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            process.end("timeout")
            deadline = left = None
        if poll.poll(None if left is None else left * 1000 + 1):
            data = os.read(output, CHUNK)
            if not data:
                return
            log(data)


def _outcome(process: Process) -> Outcome:
    if process.exit_status == 0:
        return "built"
    return process.reason or "failed"


def _in_order(process: Process) -> bool:
    """Whether no process of the build was killed that others wait for: what ends by a signal takes all with it."""
    if process.reason is not None and process.exit_status == 128 + signal.SIGTERM:
        return True
    return process.exit_status < 128


def _explain(request: BuildRequest, process: Process, tail: bytes, log: Log) -> None:
    """Raises the error for a sandbox that did not come up; tells the log of a command that did not start."""
    refusal = process.refusal()
    if process.reason is not None:
        return
    if refusal is None and process.ready:
        return
    details = tuple(tail.decode(errors="replace").splitlines())
    if refusal is None:
        message = f"the sandbox ended with status {process.exit_status} before it was complete"
        raise CcError(
            "sandbox-failed",
            message,
            where=request.label,
            details=details,
            hint="`ccstore doctor` says what this host can do, and `dmesg` what its kernel ended",
        )
    if refusal.stage != "exec":
        raise refusal.error(request.label, details)
    log(
        f"ccstore: cannot run {refusal.step!r} in the sandbox: {refusal.reason}{_missing(refusal)}\n".encode()
    )


def _missing(refusal: Refusal) -> str:
    if refusal.errno != errno.ENOENT:
        return ""
    return " (is it, or the interpreter that it names, in the toolchain?)"


def _report(request: BuildRequest, log: Log) -> Mapping[str, Any] | None:
    try:
        return read_report(layout.report_file(request))
    except ValueError as error:
        log(f"ccstore: the build's report is ignored: {error}\n".encode())
        return None
