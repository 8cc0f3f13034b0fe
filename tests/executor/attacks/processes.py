"""Reaching other processes, and outliving the build."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

from .attempt import attempt, call, check, libc, main

PTRACE_ATTACH, PTRACE_SEIZE, PR_SET_CHILD_SUBREAPER = 16, 0x4206, 36


def touches_others(victim: str) -> None:
    """`victim` is the id of a process of the host, of the same user."""
    theirs = int(victim)
    attempt("see it", lambda: os.stat(f"/proc/{theirs}"))
    attempt("signal it", lambda: os.kill(theirs, signal.SIGTERM))
    attempt("its pidfd", lambda: os.pidfd_open(theirs))
    attempt("its group", lambda: os.killpg(theirs, signal.SIGTERM))
    attempt("its limits", lambda: resource.prlimit(theirs, resource.RLIMIT_NOFILE))
    attempt("trace it", lambda: check(libc.ptrace(PTRACE_ATTACH, theirs, None, None)))
    attempt("trace init", lambda: check(libc.ptrace(PTRACE_ATTACH, 1, None, None)))
    attempt("seize init", lambda: check(libc.ptrace(PTRACE_SEIZE, 1, None, None)))
    attempt("read init's memory", lambda: _memory(310))
    attempt("write init's memory", lambda: _memory(311))
    init = os.pidfd_open(1)
    attempt("init's files", lambda: call(438, init, 0, 0))
    attempt("compare with init", lambda: call(312, os.getpid(), 1, 0, 0, 0))
    attempt("watch all processors", lambda: call(298, bytes(128), -1, 0, -1, 0))
    os.setpriority(os.PRIO_USER, 0, 19)  # of this user, as far as the sandbox goes


def _memory(number: int) -> int:
    here = ctypes.create_string_buffer(8)
    local = (ctypes.c_uint64 * 2)(ctypes.addressof(here), 8)
    remote = (ctypes.c_uint64 * 2)(0x400000, 8)
    return call(number, 1, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)


def kills_all() -> None:
    """Everything that it can reach: its own child, and nobody else."""
    child = subprocess.Popen(["/bin/sleep", "60"])
    for _ in range(3):
        attempt("kill all", lambda: os.kill(-1, signal.SIGKILL))
    assert child.wait() == -signal.SIGKILL
    print("alive")


def outlives(mark: str, end: str) -> None:
    """Leaves processes behind in every way that there is; each has `mark` in its command line. May end `well`."""
    check(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    for way in (_daemon, _deaf, _stopped, _group, _reader, _breeder, _tracer):
        if os.fork() == 0:
            try:
                way(mark)
            finally:
                os._exit(0)
    time.sleep(0.3)
    print("left", flush=True)
    if end != "well":
        time.sleep(60)


def _sleep(mark: str) -> None:
    os.execv("/bin/sleep", ["sleep", mark])


def _daemon(mark: str) -> None:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        _sleep(mark)


def _deaf(mark: str) -> None:
    """Ignores all that can be ignored, also across exec, and closes what the build prints to."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    os.closerange(0, 64)
    _sleep(mark)


def _stopped(mark: str) -> None:
    program = "import os, signal, sys; os.kill(os.getpid(), signal.SIGSTOP); print(sys.argv)"
    os.execv(sys.executable, [sys.executable, "-I", "-c", program, mark])


def _group(mark: str) -> None:
    os.setpgid(0, 0)
    for _ in range(20):
        if os.fork() == 0:
            _sleep(mark)


def _reader(mark: str) -> None:
    """Waits in an open that nobody answers."""
    os.mkfifo("/tmp/fifo")
    os.execv("/bin/cat", ["cat", "/tmp/fifo", mark])


def _breeder(mark: str) -> None:
    """Is never the same process for long."""
    program = "import os, sys, time\nwhile True:\n    if os.fork(): os._exit(0)\n    time.sleep(0.001)"
    os.execv(sys.executable, [sys.executable, "-I", "-c", program, mark])


def _tracer(mark: str) -> None:
    """A process that is traced dies only when its tracer lets it."""
    child = os.fork()
    if child == 0:
        _sleep(mark)
    check(libc.ptrace(PTRACE_ATTACH, child, None, None))
    _sleep(mark)


if __name__ == "__main__":
    main(globals())
