"""`ccstore log`: the log of a target's last build."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from ccstore.cli.context import open_workspace, store_option, target_argument
from ccstore.cli.terminal import shown
from ccstore.errors import CcError


@click.command("log")
@target_argument
@store_option
def command(target: str, store: str | None) -> None:
    """Print the whole log of TARGET's build, also of one that failed.

    The build that belongs to the recipe as it is now is shown, else the last one of that step.

    \b
    ccstore log kernel | grep -n warning
    """
    with open_workspace(store) as work:
        ref = work.graph.find(target)
        derivation = work.resolve([ref])[ref.step].derivation
        last = work.store.history.last(ref.step, None)
        for identity in (derivation.id if derivation else None, last.derivation if last else None):
            if identity and work.store.logs.path(identity).exists():
                _print(work.store.logs.read(identity))
                return
    raise CcError(
        "not-found",
        f"{target} has no log: it was not built here",
        hint=f"`ccstore realize {target}` builds it",
    )


def _print(pieces: Iterable[bytes]) -> None:
    """The bytes as they are, except on a terminal, which a log could command."""
    rest = b""
    for piece in pieces:
        if not sys.stdout.isatty():
            sys.stdout.buffer.write(piece)
            continue
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            print(shown(line.decode(errors="replace").rstrip("\r")))
    if rest:
        print(shown(rest.decode(errors="replace")))
    sys.stdout.flush()
