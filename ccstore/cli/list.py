"""`ccstore list`: the project's recipes and their state."""

from __future__ import annotations

import click

from ccstore.build.workspace import Workspace
from ccstore.cli.context import json_option, open_workspace, print_json, store_option
from ccstore.model.graph import Build, Ref


@click.command("list")
@json_option
@store_option
def command(as_json: bool, store: str | None) -> None:
    """List the recipes, what each of their outputs is, and whether it is realised.

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
            click.echo(
                f"{row['target']:<{width}}  {row['kind']:<7}  {row['state']:<8}  {row['path'] or ''}".rstrip()
            )


def _rows(work: Workspace, recipe: str) -> list[dict[str, str | None]]:
    step = work.graph.steps[work.graph.find(recipe).step]
    outputs = step.outputs if isinstance(step, Build) else ("out",)
    rows: list[dict[str, str | None]] = []
    for output in outputs:
        realisation = work.realised(Ref(step.name, output))
        rows.append(
            {
                "target": recipe if output == "out" else f"{recipe}^{output}",
                "kind": work.graph.recipes[recipe],
                "state": "realised" if realisation else "missing",
                "path": str(work.store.objects.path(realisation.object.path)) if realisation else None,
            }
        )
    return rows
