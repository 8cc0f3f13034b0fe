"""`ccstore plan`: what `realize` would do, why, and how long that takes."""

from __future__ import annotations

import click

from ccstore.build.estimate import Estimate
from ccstore.build.plan import Planned
from ccstore.build.workspace import Options, Workspace
from ccstore.cli.console import progress
from ccstore.cli.context import (
    duration,
    json_option,
    open_workspace,
    print_json,
    size,
    store_option,
    targets_argument,
)
from ccstore.cli.main import present


@click.command("plan")
@targets_argument
@click.option("--jobs", "-j", type=click.IntRange(1), metavar="N", help="Reckon with N builds at once.")
@click.option("--no-substitute", is_flag=True, help="Ask no binary cache.")
@json_option
@store_option
def command(
    targets: tuple[str, ...], jobs: int | None, no_substitute: bool, as_json: bool, store: str | None
) -> None:
    """Show what would be fetched, substituted and built for TARGET, why each is not here, and how long it takes.

    Times are the medians of the last five runs, of the step itself or of another with the same builder.

    \b
    ccstore plan kernel
    ccstore plan kernel --json | jq '.[] | select(.action == "build")'
    """
    with open_workspace(store) as work:
        print_plan(work, list(targets), Options(jobs=jobs, substitute=not no_substitute), as_json=as_json)


def print_plan(work: Workspace, targets: list[str], options: Options, *, as_json: bool) -> None:
    with progress() as sink:
        planned = work.plan(work.find(targets), options, sink)
    estimate = work.estimate(planned, options)
    if as_json:
        print_json([_value(work, each, estimate) for each in planned])
        return
    for each in planned:
        click.echo(_line(work, each))
    _summary(planned, estimate)


def _line(work: Workspace, each: Planned) -> str:
    if each.action == "present" and each.path:
        return present(each.step, str(work.store.objects.path(each.path)))
    extra = [each.reason]
    if each.size:
        extra.append(size(each.size))
    if each.expected is not None:
        like = f", as {each.like} does" if each.like != each.step else ""
        extra.append(f"takes {duration(each.expected)}{like}")
    return f"{each.action:<7}  {each.step}  ({'; '.join(extra)})"


def _summary(planned: list[Planned], estimate: Estimate) -> None:
    """The totals, on stderr: they are for people."""
    downloads = sum(each.size or 0 for each in planned if each.action in ("fetch", "substitute"))
    builds = [each for each in planned if each.action == "build"]
    parts = []
    if downloads:
        parts.append(f"to fetch: {size(downloads)}")
    if builds:
        parts.append(f"to build: {len(builds)}")
    if estimate.total:
        most = "at least" if estimate.unknown else "about"
        parts.append(f"done in {most} {duration(estimate.total)}")
    if estimate.unknown and builds:
        parts.append(f"how long {_some(estimate.unknown)} takes is not known")
    if parts:
        click.echo("; ".join(parts), err=True)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _value(work: Workspace, each: Planned, estimate: Estimate) -> dict[str, object]:
    return {
        "step": each.step,
        "action": each.action,
        "reason": each.reason,
        "path": str(work.store.objects.path(each.path)) if each.path else None,
        "expectedSeconds": each.expected,
        "expectedLike": each.like,
        "expectedEnd": estimate.ends.get(each.step, 0.0),
        "downloadSize": each.size,
    }
