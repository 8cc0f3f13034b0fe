"""`ccstore graph`: the steps behind a target, as a tree, DOT or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from ccstore.build.resolve import Resolved
from ccstore.build.workspace import Workspace
from ccstore.cli.context import open_workspace, print_json, store_option, target_argument
from ccstore.model.graph import Build, Fetch

_MANY = 8  # more leaves than this under one step are counted, not listed
_COLOURS = {"present": "palegreen", "collected": "lightblue", "missing": "white"}


@click.command("graph")
@target_argument
@click.option(
    "--format", "-f", "form", type=click.Choice(["text", "dot", "json"]), default="text", show_default=True
)
@click.option("--all", "everything", is_flag=True, help="List every leaf, however many there are.")
@store_option
def command(target: str, form: str, everything: bool, store: str | None) -> None:
    """Show the steps behind TARGET and whether the object of each is there.

    \b
    ccstore graph kernel
    ccstore graph kernel --format dot | dot -Tsvg > kernel.svg
    """
    with open_workspace(store) as work:
        ref = work.graph.find(target)
        resolved = work.resolve([ref])
        states = {name: _state(work, each) for name, each in resolved.items()}
        if form == "json":
            print_json([_value(each, states) for each in resolved.values()])
        elif form == "dot":
            click.echo("\n".join(_dot(resolved, states)))
        else:
            click.echo("\n".join(_tree(ref.step, resolved, states, limit=None if everything else _MANY)))


def _state(work: Workspace, here: Resolved) -> str:
    if here.outputs and all(work.store.objects.has(each.object.path) for each in here.outputs.values()):
        return "present"
    return "collected" if here.outputs and isinstance(here.step, (Build, Fetch)) else "missing"


def _inputs(here: Resolved) -> dict[str, str]:
    """The steps that this one uses, by the name it knows them under; the toolchain is `/`."""
    if not isinstance(here.step, Build):
        return {}
    root = {"/": here.step.root.step} if here.step.root else {}
    return root | {name: ref.step for name, ref in here.step.inputs.items()}


def _value(here: Resolved, states: Mapping[str, str]) -> dict[str, object]:
    return {
        "step": here.step.name,
        "type": type(here.step).__name__.lower(),
        "state": states[here.step.name],
        "derivation": here.derivation.id if here.derivation else None,
        "inputs": _inputs(here),
    }


def _dot(resolved: Mapping[str, Resolved], states: Mapping[str, str]) -> Iterator[str]:
    yield "digraph ccstore {"
    yield "  rankdir=LR; node [shape=box, style=filled, fontname=monospace];"
    for name, here in resolved.items():
        yield f'  "{name}" [fillcolor={_COLOURS[states[name]]}];'
        for edge in dict.fromkeys(_inputs(here).values()):
            yield f'  "{edge}" -> "{name}";'
    yield "}"


def _tree(
    top: str, resolved: Mapping[str, Resolved], states: Mapping[str, str], limit: int | None
) -> Iterator[str]:
    seen: set[str] = set()

    def lines(name: str, lead: str, follow: str) -> Iterator[str]:
        again = name in seen and bool(_inputs(resolved[name]))
        yield f"{lead}{name}  [{states[name]}]" + ("  (see above)" if again else "")
        if again:
            return
        seen.add(name)
        below = list(dict.fromkeys(_inputs(resolved[name]).values()))
        hidden = len(below) if limit is not None and len(below) > limit and _leaves(below, resolved) else 0
        if hidden:
            yield f"{follow}└── {hidden} sources (--all lists them)"
            return
        for i, child in enumerate(below):
            last = i == len(below) - 1
            yield from lines(
                child, follow + ("└── " if last else "├── "), follow + ("    " if last else "│   ")
            )

    yield from lines(top, "", "")


def _leaves(names: list[str], resolved: Mapping[str, Resolved]) -> bool:
    return not any(_inputs(resolved[name]) for name in names)
