"""`ccstore profile`: where the time went that making a target took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from ccstore.cli.context import (
    duration,
    json_option,
    open_workspace,
    print_json,
    store_option,
    target_argument,
)
from ccstore.explain.profile import Spent, profile

MANY = 4  # downloads of one recipe; more are one line
SHORT = 0.05  # seconds; a phase of ccstore's own that took less is not named
HEAD = ("", "step", "seconds", "tools", "ccstore", "CPUs", "what ccstore did")


@click.command("profile")
@target_argument
@json_option
@store_option
def command(target: str, as_json: bool, store: str | None) -> None:
    """Show where the time went that making TARGET took, ccstore's own apart from that of tools and downloads.

    Of each step behind TARGET the latest run counts; * marks the longest way to TARGET. CPUs is how many processors
    the tools kept busy. `ccstore realize --trace FILE` shows one run in time.

    \b
    ccstore profile kernel
    ccstore profile kernel --json | jq 'map(.ownSeconds) | add'
    """
    with open_workspace(store) as work:
        spent = profile(work, target)
    if as_json:
        print_json([_value(each) for each in spent])
        return
    for line in _table(list(_rows(spent))):
        click.echo(line)
    click.echo(_summary(target, spent), err=True)


def _rows(spent: list[Spent]) -> Iterator[tuple[str, ...]]:
    """A row for each step; the many downloads of one recipe share one."""
    by_recipe: dict[str, list[Spent]] = {}
    for each in spent:
        key = each.step.partition(".")[0] if each.is_fetch else each.step
        by_recipe.setdefault(f"{each.is_fetch} {key}", []).append(each)
    for group in by_recipe.values():
        if len(group) > MANY:
            yield _row(f"{group[0].step.partition('.')[0]}: {len(group)} downloads", group)
        else:
            yield from (_row(each.step, [each]) for each in group)


def _row(name: str, group: list[Spent]) -> tuple[str, ...]:
    seconds = sum(each.run.seconds for each in group)
    others = [each.others for each in group if each.others is not None]
    own = [each.own for each in group if each.own is not None]
    cpu = sum(each.run.cpu_seconds for each in group)
    phases = group[0].own_phases if len(group) == 1 else {}
    did = ", ".join(f"{phase} {duration(took)}" for phase, took in phases.items() if took >= SHORT)
    return (
        "*" if any(each.on_path for each in group) else "",
        name,
        duration(seconds),
        duration(sum(others)) if others else "–",
        duration(sum(own)) if own else "–",
        f"{cpu / sum(others):.1f}" if cpu and others else "",
        did,
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    for row in (HEAD, *rows):
        cells = [
            cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _summary(target: str, spent: list[Spent]) -> str:
    total = sum(each.run.seconds for each in spent)
    longest = sum(each.run.seconds for each in spent if each.on_path)
    own = sum(each.own or 0.0 for each in spent)
    share = f" ({own / total:.1%})" if total else ""
    return (
        f"{target}: {duration(total)} of work, {duration(longest)} on the longest way; "
        f"ccstore's own: {duration(own)}{share}"
    )


def _value(each: Spent) -> dict[str, object]:
    return {
        **asdict(each.run),
        "onLongestWay": each.on_path,
        "othersSeconds": each.others,
        "ownSeconds": each.own,
    }
