"""`ccstore verify`: finds every damaged object."""

from __future__ import annotations

import os

import click

from ccstore.build.locate import find_project
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, open_store, open_workspace, print_json, store_option, store_path
from ccstore.cli.terminal import shown
from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.store.damage import REPAIRABLE, Damage
from ccstore.store.mend import mend as mend_store
from ccstore.store.store import Store
from ccstore.store.verify import verify


@click.command("verify")
@click.option("--full", is_flag=True, help="Also compute the SHA-256 of every object again.")
@click.option(
    "--repair",
    "mend",
    is_flag=True,
    help="Put right what the store can by itself; make damaged objects again, by the recipes of this project.",
)
@click.option("--rebuild-index", is_flag=True, help="First make the index again from the store's files.")
@json_option
@store_option
def command(full: bool, mend: bool, rebuild_index: bool, as_json: bool, store: str | None) -> None:
    """Compare every object of the store with what was registered, and list all damage; exit 4 if there is any.

    Names, modes, times, sizes and a fast checksum (XXH3) of each file are compared; --full trusts SHA-256 alone. A
    `leftover` of an interrupted command is listed too and is no damage.

    \b
    ccstore verify
    ccstore verify --full --repair
    ccstore verify --rebuild-index     the index was lost, or restored from a backup that is older than the rest
    """
    opening = open_store(store) if not (mend or rebuild_index) else Store.open_sound(store_path(store))
    with opening as opened, progress() as sink:
        if rebuild_index:
            opened.rebuild_index()
            sink(Noted("the index was made again from the store's files"))
        found = verify(opened, full, sink)
        if mend and found:
            found = _repair(opened, found, full, sink)
    _show(found, as_json=as_json)
    hurt = [each for each in found if each.hurts]
    if hurt:
        raise CcError(
            "object-damaged",
            f"{len(hurt)} damaged",
            hint="restore or remove what is named above; `ccstore gc` removes strays"
            if mend
            else "`ccstore verify --repair` makes damaged objects again; `ccstore gc` removes strays",
        )


def _repair(store: Store, found: list[Damage], full: bool, sink: Sink) -> list[Damage]:
    if find_project("."):
        from ccstore.build.repair import repair  # slow to load, and for a damaged store alone

        with open_workspace(str(store.root)) as work:
            return repair(work, found, full=full, sink=sink)
    return _repair_without_recipes(store, found, full, sink)


def _repair_without_recipes(store: Store, found: list[Damage], full: bool, sink: Sink) -> list[Damage]:
    from ccstore.build.caches import configured
    from ccstore.build.pulling import restore
    from ccstore.build.remotes import configured_remote
    from ccstore.recipe.project import load_user_config

    left = mend_store(store, found)
    damaged = {each.path for each in left if each.path and each.kind in REPAIRABLE}
    user = load_user_config(os.environ)
    caches = configured(user, service=configured_remote(None, user, os.environ))
    restore(store, caches, damaged, sink)
    left = verify(store, full, sink)
    if any(each.hurts for each in left):
        sink(
            Noted("no project here could make anything again: run this in the one that made it", warning=True)
        )
    return left


def _show(found: list[Damage], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "kind": each.kind,
                    "file": str(each.file),
                    "message": each.message,
                    "path": each.path.logical if each.path else None,
                    "damage": each.hurts,
                }
                for each in found
            ]
        )
        return
    for each in found:
        click.echo(f"{each.kind}  {shown(str(each.file))}  {shown(each.message)}")
