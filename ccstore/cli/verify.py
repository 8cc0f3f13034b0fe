"""`ccstore verify`: finds every damaged object."""

from __future__ import annotations

import click

from ccstore.build.repair import repair
from ccstore.build.workspace import Workspace
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, open_store, open_workspace, print_json, store_option, store_path
from ccstore.cli.terminal import shown
from ccstore.errors import CcError
from ccstore.store.store import Store
from ccstore.store.verify import Damage, verify


@click.command("verify")
@click.option("--full", is_flag=True, help="Also compute the SHA-256 of every object again.")
@click.option(
    "--repair", "mend", is_flag=True, help="Make damaged objects again, by the recipes of this project."
)
@json_option
@store_option
def command(full: bool, mend: bool, as_json: bool, store: str | None) -> None:
    """Compare every object of the store with what was registered, and list all damage; exit 4 if there is any.

    Names, modes, sizes and a fast checksum (XXH3) of each file are compared; --full trusts SHA-256 alone.

    \b
    ccstore verify
    ccstore verify --full --repair
    """
    if mend:
        with _recovered(store) as work, progress() as sink:
            found = verify(work.store, full, sink)
            found = repair(work, found, full=full, sink=sink) if found else found
    else:
        with open_store(store) as opened, progress() as sink:
            found = verify(opened, full, sink)
    _show(found, as_json=as_json)
    if found:
        raise CcError(
            "object-damaged",
            f"{len(found)} damaged",
            hint="restore or remove what is named above; `ccstore gc` removes strays"
            if mend
            else "`ccstore verify --repair` makes damaged objects again; `ccstore gc` removes strays",
        )


def _recovered(store: str | None) -> Workspace:
    """The workspace; an index that cannot be used is made again from the store's files first."""
    try:
        with open_store(store) as opened:
            opened.database.check()
    except CcError as error:
        if error.code != "store-unusable":
            raise
        Store.recover(store_path(store)).close()
    return open_workspace(store)


def _show(found: list[Damage], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "kind": each.kind,
                    "file": str(each.file),
                    "message": each.message,
                    "path": each.path.logical if each.path else None,
                }
                for each in found
            ]
        )
        return
    for each in found:
        click.echo(f"{each.kind}  {shown(str(each.file))}  {shown(each.message)}")
