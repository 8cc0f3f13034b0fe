"""What would have to be done for some targets, and why (pure).

Only what is needed appears: behind an object that is there, nothing is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ccstore.build.resolve import Resolved
from ccstore.cache.sources import Offer
from ccstore.model.derivation import AnyDerivation, Derivation
from ccstore.model.graph import Build, Fetch, Graph, Local, Ref, Step
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath

Action = Literal["present", "copy", "substitute", "fetch", "build"]


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan. `expected` is how long it takes, in seconds, by the runs of the step `like`, and
    `expected_cpu` how much processor time; `size` is that of a download."""

    step: str
    action: Action
    reason: str
    path: StorePath | None = None
    expected: float | None = None
    expected_cpu: float | None = None
    like: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a step should take, going by the runs of the step `like`: itself, or one that does the same work."""

    like: str
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """What earlier runs say about a step: how long it will take, and which derivation it was."""

    expected: Callable[[Step], Expected | None]
    derivation: Callable[[str], AnyDerivation | None]


def plan(
    graph: Graph,
    targets: list[Ref],
    resolved: Mapping[str, Resolved],
    present: Callable[[StorePath], bool],
    history: History,
    offered: Callable[[ObjectInfo], Offer | None],
) -> list[Planned]:
    """The steps to do, inputs first, and the targets that are there already; `offered` tells what a cache has."""
    planned: dict[str, Planned] = {}

    def visit(ref: Ref, *, is_target: bool) -> None:
        here = resolved[ref.step]
        known = here.outputs.get(ref.output)
        if known and present(known.object.path):
            if is_target and ref.step not in planned:
                planned[ref.step] = Planned(ref.step, "present", "nothing to do", known.object.path)
            return
        before = planned.get(ref.step)
        if before and before.action != "present":
            return
        offer = offered(known.object) if known and not isinstance(here.step, Local) else None
        if known and offer:
            reason = f"{offer.cache.url} has it"
            planned[ref.step] = Planned(
                ref.step, "substitute", reason, known.object.path, size=offer.found.file_size
            )
            return
        for reference in graph.references(here.step):
            visit(reference, is_target=False)
        planned[ref.step] = _missing(here, ref, resolved, history, planned)

    for target in targets:
        visit(target, is_target=True)
    return list(planned.values())


def _missing(
    here: Resolved,
    ref: Ref,
    resolved: Mapping[str, Resolved],
    history: History,
    planned: Mapping[str, Planned],
) -> Planned:
    known = here.outputs.get(ref.output)
    path = known.object.path if known else None
    if isinstance(here.step, Local):
        return Planned(ref.step, "copy", "this content is not in the store", path)
    if isinstance(here.step, Fetch):
        reason = "its object was collected" if known else "never fetched"
        size = getattr(here.step.source, "size", None)
        return _timed(Planned(ref.step, "fetch", reason, path, size=size), here.step, history)
    reason = _build_reason(here, here.step, resolved, history, planned)
    return _timed(Planned(ref.step, "build", reason, path), here.step, history)


def _timed(planned: Planned, step: Step, history: History) -> Planned:
    known = history.expected(step)
    if known is None:
        return planned
    return replace(planned, expected=known.seconds, expected_cpu=known.cpu_seconds, like=known.like)


def _build_reason(
    here: Resolved,
    step: Build,
    resolved: Mapping[str, Resolved],
    history: History,
    planned: Mapping[str, Planned],
) -> str:
    if here.realised:
        return "its object was collected"
    if here.derivation is None:
        waits = [
            ref.step for ref in step.references() if not resolved[ref.step].realised and ref.step in planned
        ]
        shown = ", ".join(dict.fromkeys(waits[:3]))
        more = f" and {len(waits) - 3} more" if len(waits) > 3 else ""
        return f"its inputs are not known before {shown}{more}"
    last = history.derivation(step.name)
    if isinstance(last, Derivation) and isinstance(here.derivation, Derivation):
        return "changed since it was last built: " + ", ".join(changes(last, here.derivation, step.labels))
    return "never built"


def changes(old: Derivation, new: Derivation, labels: Mapping[str, str]) -> list[str]:
    """What differs between two derivations of one step, each in a few words."""
    found = [
        f"input {labels.get(name, name)}"
        for name in sorted({*old.inputs, *new.inputs})
        if old.inputs.get(name) != new.inputs.get(name)
    ]
    if old.root != new.root:
        found.append("the toolchain")
    if old.files != new.files or old.argv != new.argv:
        found.append("the builder")
    found += [
        f"{name}={new.env.get(name, '')} (was {old.env.get(name, 'unset')})"
        for name in sorted({*old.env, *new.env})
        if old.env.get(name) != new.env.get(name)
    ]
    if (old.policy, old.platform) != (new.policy, new.platform):
        found.append("the sandbox policy")
    return found or ["its outputs"]


def similar(graph: Graph, step: Step) -> Iterator[Build]:
    """The other builds that have the same builder as `step`."""
    if isinstance(step, Build):
        for other in graph.steps.values():
            if not isinstance(other, Build) or other.name == step.name:
                continue
            if (other.argv, other.files) == (step.argv, step.files):
                yield other
