"""Where the time went that making a target took (`ccstore profile`): from the history of its steps.

Of each step the latest run that made it counts. What its tools and downloads took is theirs; the rest is ccstore's
own: preparing, making and removing the sandbox, unpacking packages, hashing and registering, writing records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccstore.build.workspace import Workspace
from ccstore.errors import CcError
from ccstore.model.graph import Fetch, Graph, Local, Ref
from ccstore.store.history import Run

OTHERS = ("tools", "download")


@dataclass(frozen=True, slots=True)
class Spent:
    """What one step took. `others` is the time of its tools or its download, None where that was not measured.

    `on_path`: it is on the longest way from a source to the target.
    """

    step: str
    run: Run
    is_fetch: bool
    on_path: bool

    @property
    def others(self) -> float | None:
        if not self.run.phases:
            return None
        return sum(self.run.phases.get(name, 0.0) for name in OTHERS)

    @property
    def own(self) -> float | None:
        """ccstore's own time, in seconds."""
        return None if self.others is None else self.run.seconds - self.others

    @property
    def own_phases(self) -> Mapping[str, float]:
        """ccstore's own time by phase, the longest first."""
        phases = {name: seconds for name, seconds in self.run.phases.items() if name not in OTHERS}
        return dict(sorted(phases.items(), key=lambda each: -each[1]))


def profile(work: Workspace, target: str) -> list[Spent]:
    """Every step behind `target` that was ever made here, inputs first. Raises `not-realised` if none was."""
    ref = work.graph.find(target)
    steps = [step for step in work.graph.closure(ref) if not isinstance(step, Local)]
    runs = {step.name: run for step in steps if (run := work.store.history.last(step.name))}
    if not runs:
        raise CcError(
            "not-realised",
            f"nothing that {target} needs was made in this store",
            hint=f"`ccstore realize {target}` makes it; what came out of a cache took no time here",
        )
    path = _longest(work.graph, ref.step, {name: run.seconds for name, run in runs.items()})
    return [
        Spent(step.name, runs[step.name], isinstance(step, Fetch), step.name in path)
        for step in steps
        if step.name in runs
    ]


def _longest(graph: Graph, top: str, seconds: Mapping[str, float]) -> set[str]:
    """The steps of the longest way to `top`."""
    lengths: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for step in graph.closure(Ref(top)):
        inputs = [ref.step for ref in graph.references(step)]
        last = max(inputs, key=lengths.__getitem__, default=None)
        before[step.name] = last
        lengths[step.name] = seconds.get(step.name, 0.0) + (lengths[last] if last else 0.0)
    path: set[str] = set()
    here: str | None = top
    while here:
        path.add(here)
        here = before.get(here)
    return path
