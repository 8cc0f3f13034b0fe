"""`ccstore graph`: the steps behind a target, as a tree, a picture, DOT or JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import click

from ccstore.build.plan import Planned
from ccstore.build.resolve import Resolved
from ccstore.build.workspace import Workspace
from ccstore.cli.context import duration, open_workspace, print_json, size, store_option, target_argument
from ccstore.explain.picture import Box, svg
from ccstore.model.graph import Build, Fetch, Local, Ref

_MANY = 8  # more leaves than this under one step are counted, not listed
_ACTIONS = {"build": "to build", "fetch": "to fetch", "copy": "to copy", "substitute": "cached"}
_WORST = ["to build", "to fetch", "to copy", "cached", "not needed", "present"]  # what a box of several is
_COLOURS = {"present": "palegreen", "collected": "lightblue", "missing": "white"}


@click.command("graph")
@target_argument
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["text", "svg", "dot", "json"]),
    default="text",
    show_default=True,
)
@click.option("--all", "everything", is_flag=True, help="List every leaf, however many there are.")
@store_option
def command(target: str, form: str, everything: bool, store: str | None) -> None:
    """Show the steps behind TARGET and whether the object of each is there.

    The picture (svg) also says what would have to be done, with times by the last runs, and sizes.

    \b
    ccstore graph kernel
    ccstore graph kernel --format svg > kernel.svg
    ccstore graph kernel --format dot | dot -Tpng > kernel.png
    """
    with open_workspace(store) as work:
        ref = work.graph.find(target)
        resolved = work.resolve([ref])
        states = {name: _state(work, each) for name, each in resolved.items()}
        if form == "json":
            print_json([_value(each, states) for each in resolved.values()])
        elif form == "svg":
            boxes = list(_boxes(work, ref, resolved, states, limit=None if everything else _MANY))
            click.echo("\n".join(svg(boxes, f"ccstore graph {target}")))
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


def _boxes(
    work: Workspace, top: Ref, resolved: Mapping[str, Resolved], states: Mapping[str, str], limit: int | None
) -> Iterator[Box]:
    """A box for each step, inputs first; the many leaves that only one step uses are one box."""
    planned = {each.step: each for each in work.plan([top])}
    needs = {name: list(dict.fromkeys(_inputs(here).values())) for name, here in resolved.items()}
    users = Counter(each for below in needs.values() for each in below)
    standing: dict[str, str] = {}  # the box that stands for a leaf
    for name, below in needs.items():
        alone = [each for each in below if not needs[each] and users[each] == 1]
        if limit is not None and len(alone) > limit:
            standing |= dict.fromkeys(alone, f"{len(alone)} sources of {name}")
    groups: dict[str, list[str]] = {}
    for name in resolved:
        groups.setdefault(standing.get(name, name), []).append(name)
    for box, names in groups.items():
        uses = dict.fromkeys(standing.get(each, each) for name in names for each in needs[name])
        doing = [_doing(states[name], planned.get(name)) for name in names]
        state = min(doing, key=_WORST.index)
        yield Box(
            box, state, _about(work, [resolved[name] for name in names], state), list(uses), ", ".join(names)
        )


def _doing(state: str, planned: Planned | None) -> str:
    """What would happen to a step, by the names that the picture has for it."""
    if state == "present":
        return state
    return _ACTIONS.get(planned.action, "not needed") if planned else "not needed"


def _about(work: Workspace, steps: list[Resolved], state: str) -> str:
    """How large the objects are, and how long it takes to make them."""
    sizes = [each.object.nar_size for here in steps for each in here.outputs.values()]
    sizes += [
        getattr(each.step.source, "size", 0) or 0
        for each in steps
        if isinstance(each.step, Fetch) and not each.outputs
    ]
    made = [each.step for each in steps if not isinstance(each.step, Local)]
    expected = [known.seconds for each in made if (known := work.expected(each))]
    words = [state, size(sum(sizes)) if sum(sizes) else "", duration(sum(expected)) if expected else ""]
    return " · ".join(filter(None, words))


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
