"""`ccstore why`: what changed since a target was last realised."""

from __future__ import annotations

import time

import click

from ccstore.cli.context import json_option, open_workspace, print_json, store_option, target_argument
from ccstore.cli.terminal import shown
from ccstore.explain.changes import Change
from ccstore.explain.why import as_value, why

LONGEST = 70  # characters of an old or new value on a line; --json has all of it


@click.command("why")
@target_argument
@json_option
@store_option
def command(target: str, as_json: bool, store: str | None) -> None:
    """Show what changed since TARGET was last realised, from old to new, one thing a line.

    A change is shown where it is: a config symbol, a hunk of a patch, the version of a package, a value of the
    recipe. What it takes to make TARGET anew, `ccstore plan TARGET` says. Exit 5 if TARGET was never realised.

    \b
    ccstore why kernel
    ccstore why kernel --json | jq -r '.changes[] | select(.kind == "symbol").what'
    """
    with open_workspace(store) as work:
        answer = why(work, target)
    if as_json:
        print_json(as_value(answer))
        return
    for each in answer.changes:
        click.echo(line(each))
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer.since))
    if answer.changes:
        count = f"{len(answer.changes)} change{'s' * (len(answer.changes) != 1)}"
        click.echo(f"{count} since {target} was last realised, at {since}", err=True)
    else:
        gone = "; its object was collected" if answer.state == "collected" else ""
        click.echo(f"nothing changed since {target} was last realised, at {since}{gone}")


def line(change: Change) -> str:
    """One change on one line."""
    place = f"{change.leaf}:{change.line}" if change.line and change.kind != "line" else change.leaf
    leaf = shown(f"{place}: {change.what}" if change.what else place)
    if change.old is None and change.new is None:
        return leaf
    if change.old is None:
        return f"{leaf}: {_short(change.new)} (new)"
    if change.new is None:
        return f"{leaf}: {_short(change.old)} (gone)"
    return f"{leaf}: {_short(change.old)} → {_short(change.new)}"


def _short(text: str | None) -> str:
    text = " ".join(shown(text or "").split()) or "(empty)"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
