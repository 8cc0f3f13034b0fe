"""`ccstore plan`: what `realize` would do, and why."""

from __future__ import annotations

import click

from ccstore.build.plan import Planned
from ccstore.build.workspace import Workspace
from ccstore.cli.context import (
    duration,
    json_option,
    open_workspace,
    print_json,
    size,
    store_option,
    targets_argument,
)


@click.command("plan")
@targets_argument
@json_option
@store_option
def command(targets: tuple[str, ...], as_json: bool, store: str | None) -> None:
    """Show what would be fetched and built for TARGET, and why each is not already here.

    \b
    ccstore plan kernel
    ccstore plan kernel --json | jq '.[] | select(.action == "build")'
    """
    with open_workspace(store) as work:
        print_plan(work, list(targets), as_json=as_json)


def print_plan(work: Workspace, targets: list[str], *, as_json: bool) -> None:
    planned = work.plan(work.find(targets))
    if as_json:
        print_json([_value(work, each) for each in planned])
        return
    for each in planned:
        click.echo(_line(work, each))
    _summary(planned)


def _line(work: Workspace, each: Planned) -> str:
    if each.action == "present" and each.path:
        return f"present  {each.step}  {work.store.objects.path(each.path)}"
    extra = [each.reason]
    if each.size:
        extra.append(size(each.size))
    if each.expected and each.action == "build":
        extra.append(f"took {duration(each.expected)} the last time")
    return f"{each.action:<7}  {each.step}  ({'; '.join(extra)})"


def _summary(planned: list[Planned]) -> None:
    """The totals, on stderr: they are for people."""
    downloads = sum(each.size or 0 for each in planned if each.action == "fetch")
    builds = [each for each in planned if each.action == "build"]
    parts = []
    if downloads:
        parts.append(f"to fetch: {size(downloads)}")
    if builds:
        known = sum(each.expected or 0 for each in builds)
        unknown = sum(1 for each in builds if not each.expected)
        guess = f", about {duration(known)}" if known else ""
        parts.append(
            f"to build: {len(builds)}{guess}" + (f" ({unknown} never built before)" if unknown else "")
        )
    if parts:
        click.echo("; ".join(parts), err=True)


def _value(work: Workspace, each: Planned) -> dict[str, object]:
    return {
        "step": each.step,
        "action": each.action,
        "reason": each.reason,
        "path": str(work.store.objects.path(each.path)) if each.path else None,
        "expectedSeconds": each.expected,
        "downloadSize": each.size,
    }
