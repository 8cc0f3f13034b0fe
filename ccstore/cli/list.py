"""`ccstore list`: the project's recipes and their state."""

from __future__ import annotations

from collections.abc import Mapping

import click

from ccstore.build.workspace import Workspace
from ccstore.cli.context import json_option, open_workspace, print_json, store_option
from ccstore.model.graph import Build, Ref


@click.command("list")
@json_option
@store_option
def command(as_json: bool, store: str | None) -> None:
    """List the recipes, what each of their outputs is, whether it is realised, and what checks found.

    \b
    ccstore list
    ccstore list --json | jq -r '.[] | select(.state != "realised").target'
    """
    with open_workspace(store) as work:
        rows = [row for name in sorted(work.graph.recipes) for row in _rows(work, name)]
        if as_json:
            print_json(rows)
            return
        width = max((len(str(row["target"])) for row in rows), default=0)
        for row in rows:
            line = f"{row['target']:<{width}}  {row['kind']:<7}  {row['state']:<8}  {row['path'] or ''}"
            click.echo(f"{line}{checked(row)}".rstrip())


def checked(row: Mapping[str, object]) -> str:
    """How a row was made, unless cleanly, and what checks have found of it, in words."""
    found = [f"{word} {times(row[word])}" for word in ("reproduced", "differed") if row[word]]
    if row["purity"] not in (None, "clean"):
        found.insert(0, str(row["purity"]))
    return f"  {', '.join(found)}" if found else ""


def times(count: object) -> str:
    return "once" if count == 1 else f"{count} times"


def _rows(work: Workspace, recipe: str) -> list[dict[str, str | int | None]]:
    step = work.graph.steps[work.graph.find(recipe).step]
    outputs = step.outputs if isinstance(step, Build) else ("out",)
    rows: list[dict[str, str | int | None]] = []
    for output in outputs:
        realisation = work.realised(Ref(step.name, output))
        rows.append(
            {
                "target": recipe if output == "out" else f"{recipe}^{output}",
                "kind": work.graph.recipes[recipe],
                "state": "realised" if realisation else "missing",
                "path": str(work.store.objects.path(realisation.object.path)) if realisation else None,
                "purity": realisation.purity if realisation else None,
                "reproduced": work.store.checks.reproduced(realisation) if realisation else 0,
                "differed": work.store.checks.differed(realisation) if realisation else 0,
            }
        )
    return rows
