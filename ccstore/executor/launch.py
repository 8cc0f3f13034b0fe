"""How a build starts where not `enter` but somebody else's engine makes the sandbox: by the toolchain's own shell.

The engine starts `/bin/sh` with SCRIPT. The shell fixes what a process inherits, runs the command with exactly the
environment that it would have in the sandbox (for that the toolchain must have `env`), and says on its own standard
error how much CPU time that took; everything the command prints comes out of standard output, in one stream.

What this cannot fix, and `enter` does: addresses are laid out at random, and the command is not process 2.
"""

from __future__ import annotations

import re

from ccstore.errors import CcError
from ccstore.executor import layout
from ccstore.ports import BuildRequest, Conditions

SHELL = "/bin/sh"
USUAL = Conditions()
OWNER = USUAL.uid  # of all that a build sees, user and group
# limits as in `enter`; `env -i` also drops what the shell itself exports; an engine may have signals ignored, which a
# shell cannot undo, but coreutils' env can
SCRIPT = """\
exec </dev/null
umask 022
ulimit -c 0
ulimit -n 4096
ulimit -S -s 8192
cd "$1" || exit 125
shift
if env --default-signal true; then set -- --default-signal "$@"; fi
env -i "$@" 2>&1
status=$?
times >&2
exit $status
"""
_TIMES = re.compile(rb"(\d+)m([\d.]+)s\s+(\d+)m([\d.]+)s\s*\Z")


def command(request: BuildRequest) -> list[str]:
    """The whole command line for the engine.

    Raises `usage` for a check's conditions, and ValueError for a program that `env` would take for a variable.
    """
    if request.conditions != USUAL:
        raise CcError(
            "usage",
            "only the sandbox can build under other conditions",
            where=request.label,
            hint="check it with --executor sandbox",
        )
    if "=" in request.argv[0]:
        raise ValueError(f"{request.label}: a program cannot be called {request.argv[0]!r}")
    environment = layout.environment(request)
    settings = [f"{name}={value}" for name, value in environment.items()]
    return [SHELL, "-c", SCRIPT, SHELL, environment.get("HOME", "/"), *settings, *request.argv]


def cpu_seconds(said: bytes) -> float:
    """What `times` said of the command and all its children; 0 where it was not reached."""
    found = _TIMES.search(said)
    if found is None:
        return 0.0
    user_minutes, user, system_minutes, system = map(float, found.groups())
    return 60 * (user_minutes + system_minutes) + user + system
