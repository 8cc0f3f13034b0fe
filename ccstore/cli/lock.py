"""`ccstore lock`: refreshes pins: of Debian packages, and of git repositories of which a branch is followed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ccstore.build.locate import require_project
from ccstore.build.locking import lock, lockable
from ccstore.cli.console import progress
from ccstore.cli.context import json_option, open_store, print_json, store_option
from ccstore.cli.terminal import shown
from ccstore.ports import Cancel
from ccstore.recipe.project import load_project


@click.command("lock")
@click.argument("names", metavar="[NAME…]", nargs=-1)
@click.option(
    "--allow-expired",
    is_flag=True,
    help="Take an index that is older than it says it may be, as of a snapshot archive.",
)
@json_option
@store_option
def command(names: tuple[str, ...], allow_expired: bool, as_json: bool, store: str | None) -> None:
    """Pin what recipe NAME comes from anew (default: every recipe that can be), and print what changed.

    For a `debian` recipe, apt solves over the suite's index, whose signature it checks; both run in the sandbox,
    from packages that are pinned themselves. For a `git` recipe with `follow`, the commit is moved to where that
    branch is now, in the recipe itself. Nothing is written when anything fails.

    \b
    ccstore lock toolchain
    ccstore lock linuxkit
    CCSTORE_MIRROR_DEBIAN=https://snapshots.example.org/debian/20261101 ccstore lock --allow-expired
    """
    project = load_project(Path(require_project(os.curdir)), locks=False)
    changes = []
    with open_store(store) as opened, progress() as sink:
        for name in names or lockable(project):
            changed = lock(project, name, opened, sink, Cancel(), allow_expired=allow_expired)
            changes.append({"recipe": name, **changed.as_value()})
            lines = list(changed.lines())
            for line in lines if not as_json else ():
                click.echo(shown(line if len(names) == 1 else f"{name}: {line}"))
            if not lines:
                click.echo(f"{name}: nothing changed", err=True)
    if as_json:
        print_json(changes)
