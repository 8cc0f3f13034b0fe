"""Other processes of ours, for what takes one core too long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def can_start() -> bool:
    """An embedded Python has no name, and one that another user started may be out of reach."""
    return bool(sys.executable) and os.access(sys.executable, os.X_OK)


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Runs `module.serve()` with these arguments, its standard input and output in pipes. Raises OSError."""
    code = f"from {module} import serve; serve()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    argv = [sys.executable, "-P", "-c", code, *arguments]
    return subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe)


def outlive_interrupts() -> None:
    """For a worker: whoever asks it is interrupted first, and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
