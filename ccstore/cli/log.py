"""`ccstore log`: the log of a target's last build."""

from __future__ import annotations

import sys

import click

from ccstore.cli.context import open_workspace, store_option, target_argument
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
                for chunk in work.store.logs.read(identity):
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                return
    raise CcError(
        "not-found",
        f"{target} has no log: it was not built here",
        hint=f"`ccstore realize {target}` builds it",
    )
