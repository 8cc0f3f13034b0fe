"""`ccstore path`: the store path of a target that is realised."""

from __future__ import annotations

import click

from ccstore.cli.context import json_option, open_workspace, print_json, store_option, target_argument
from ccstore.cli.realize import as_value
from ccstore.errors import CcError


@click.command("path")
@target_argument
@json_option
@store_option
def command(target: str, as_json: bool, store: str | None) -> None:
    """Print the store path of TARGET as its recipe is now; exit 5 when that is not realised.

    \b
    file $(ccstore path kernel)/vmlinux
    """
    with open_workspace(store) as work:
        realisation = work.realised(work.graph.find(target))
        if realisation is None:
            raise CcError(
                "not-realised",
                f"{target} is not realised as its recipe is now",
                hint=f"`ccstore realize {target}` makes it, `ccstore plan {target}` says what that takes",
            )
        if as_json:
            print_json(as_value(work, target, realisation))
        else:
            click.echo(str(work.store.objects.path(realisation.object.path)))
