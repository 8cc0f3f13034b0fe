"""`ccstore diff`: two targets, realisations or store paths side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

import click

from ccstore.cli.context import json_option, open_workspace, print_json, size, store_option
from ccstore.cli.terminal import shown
from ccstore.cli.why import line
from ccstore.explain.changes import Change
from ccstore.explain.diff import Diff, FileDiff, Side, Sized, diff, side

MANY = 20  # things of one kind; --all has the rest
T = TypeVar("T")


@click.command("diff")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option("--all", "everything", is_flag=True, help="List everything, however much there is.")
@json_option
@store_option
def command(old: str, new: str, everything: bool, as_json: bool, store: str | None) -> None:
    """Show what differs from A to B, each a target, a realisation (<derivation>^<output>) or a store path.

    First what they were made from, then their files; of a kernel's configuration by symbol, of what was linked by
    section and symbol, in bytes. A path may lead into an object, or to any file or folder.

    \b
    ccstore diff kernel kernel-6-12
    ccstore diff $OLD kernel        OLD=$(ccstore path kernel), before a change
    ccstore diff a0b1c2d3^out kernel --json | jq '.files[].path'
    """
    with open_workspace(store) as work:
        sides = side(work, old), side(work, new)
        found = diff(*sides)
    if as_json:
        print_json(_value(sides, found))
        return
    for each in _lines(sides, found, None if everything else MANY):
        click.echo(each)


def _lines(sides: tuple[Side, Side], found: Diff, most: int | None) -> Iterator[str]:
    if not found.made and found.files == ():
        yield "nothing differs"
    if found.made:
        yield "made from:"
        yield from _some([f"  {line(each)}" for each in found.made], most)
    if found.files is None:
        missing = [each.name for each in sides if each.files is None]
        yield f"files: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not realised"
        return
    if found.files:
        yield f"files: {len(found.files)} differ"
        yield from _some([f"  {_file(each)}" for each in found.files], most)
    for each in found.files:
        yield from _inside(each, most)


def _file(each: FileDiff) -> str:
    sign = "+" if each.old is None else "-" if each.new is None else "~"
    sizes = " → ".join(size(known) for known in (each.old, each.new) if known is not None)
    return f"{sign} {shown(each.path or '(the file)')}: {sizes}"


def _inside(each: FileDiff, most: int | None) -> Iterator[str]:
    path = shown(each.path or "the file")
    if each.config:
        yield f"configuration in {path}:"
        changes = [Change("symbol", path, "", it.what, it.old, it.new) for it in each.config]
        yield from _some([f"  {line(change).removeprefix(': ')}" for change in changes], most)
    for what, sized in (("sections", each.sections), ("symbols", each.symbols)):
        if sized:
            grown = sum(one.growth for one in sized)
            yield f"{what} of {path}: {len(sized)} differ, {grown:+,} bytes"
            yield from _some(list(_table(sized)), most)


def _table(sized: Sequence[Sized]) -> Iterator[str]:
    for each in sized:
        old, new = (f"{known:,}" if known is not None else "–" for known in (each.old, each.new))
        yield f"  {each.growth:>+11,}  {old:>11} → {new:>11}  {shown(each.name)}"


def _some(lines: Sequence[str], most: int | None) -> Iterator[str]:
    yield from lines[:most]
    if most is not None and len(lines) > most:
        yield f"  … and {len(lines) - most} more (--all)"


def _value(sides: tuple[Side, Side], found: Diff) -> dict[str, object]:
    old, new = ({"name": each.name, "path": each.path.base if each.path else None} for each in sides)
    return {
        "old": old,
        "new": new,
        "madeFrom": None if found.made is None else [asdict(each) for each in found.made],
        "files": None if found.files is None else [asdict(each) for each in found.files],
    }
