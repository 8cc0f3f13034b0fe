"""What every verb starts from: the project and the store of the folder it runs in, and the options they share."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ccstore.build.locate import find_project, find_store, require_project

if TYPE_CHECKING:  # `run` starts a guest that is there without either of them, and they take a while
    from ccstore.build.workspace import Workspace
    from ccstore.store.store import Store

Verb = TypeVar("Verb", bound=Callable[..., Any])

targets_argument = click.argument("targets", metavar="TARGET…", nargs=-1, required=True)
target_argument = click.argument("target", metavar="TARGET")
remote_option = click.option(
    "--remote",
    metavar="URL",
    help="The service for remote execution (default: as configured), and --executor remote.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
store_option = click.option(
    "--store",
    metavar="DIR",
    help="The store to use (default: CCSTORE_STORE, the project's store/, the user's).",
)


def executor_option(help_text: str) -> Callable[[Verb], Verb]:
    """The option that says where builds run."""
    return click.option("--executor", type=click.Choice(["sandbox", "docker", "remote"]), help=help_text)


def executor_for(executor: str | None, remote: str | None, *, distribute: bool = False) -> str | None:
    """Where builds run by these options: a service that is named is to be used. Raises click.UsageError."""
    if remote is None or distribute:
        return executor
    if executor not in (None, "remote"):
        raise click.UsageError(f"--remote goes with --executor remote, not with --executor {executor}")
    return "remote"


def open_workspace(store: str | None) -> Workspace:
    """The project around the current folder with its store. Raises `no-project` where there is none."""
    from ccstore.build.workspace import Workspace

    project = require_project(".")
    return Workspace.open(Path(project), Path(find_store(project, store, os.environ)))


def open_store(store: str | None) -> Store:
    """The store alone, for verbs that need no project."""
    from ccstore.store.store import Store

    return Store.open(store_path(store))


def store_path(store: str | None) -> Path:
    """Where the store is, for the folder that the command runs in."""
    return Path(find_store(find_project("."), store, os.environ))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def size(count: int | float) -> str:
    """Bytes as people read them: 1.3 GB (decimal units, as in the manifests of registries)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as people read them: 8 s, 3 min 21 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
