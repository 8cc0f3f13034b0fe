"""`ccstore path`: the store path of a target that is realised."""

from __future__ import annotations

import click

from ccstore.cli.context import json_option, open_workspace, print_json, store_option, target_argument
from ccstore.cli.realize import as_value


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
        realisation = work.require_realised(target)
        if as_json:
            print_json(as_value(work, target, realisation))
        else:
            click.echo(str(work.store.objects.path(realisation.object.path)))
