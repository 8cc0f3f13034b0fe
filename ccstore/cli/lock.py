"""`ccstore lock`: refreshes the pins of Debian packages."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ccstore.build.locate import require_project
from ccstore.build.locking import lock, lockable
from ccstore.cli.console import progress
from ccstore.cli.context import open_store, store_option
from ccstore.ports import Cancel
from ccstore.recipe.project import load_project


@click.command("lock")
@click.argument("names", metavar="[NAME…]", nargs=-1)
@store_option
def command(names: tuple[str, ...], store: str | None) -> None:
    """Pin the packages of the `debian` recipe NAME anew (default: of every one), and print what changed.

    apt solves over the suite's index, whose signature it checks; both run in the sandbox, from packages that are
    pinned themselves. Nothing is written when anything fails.

    \b
    ccstore lock toolchain
    """
    project = load_project(Path(require_project(os.curdir)), locks=False)
    with open_store(store) as opened, progress() as sink:
        for name in names or lockable(project):
            changed = lock(project, name, opened, sink, Cancel())
            lines = list(changed.lines())
            for line in lines:
                click.echo(line if len(names) == 1 else f"{name}: {line}")
            if not lines:
                click.echo(f"{name}: nothing changed", err=True)
