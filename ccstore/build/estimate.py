"""How long a plan will take (pure): its steps, each taking what it usually takes, put one after another as `realize`
would run them.

Builds share the job limit, downloads theirs; of the steps that could begin, the one with the longest way to the end
goes first. Builds that run at once also share the processors: the whole is never quicker than all their processor
time on all processors.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ccstore.build.plan import Planned
from ccstore.model.graph import Graph


@dataclass(frozen=True, slots=True)
class Limits:
    """Builds and downloads at once, and the processors that builds share."""

    jobs: int
    downloads: int
    processors: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """`total` is in seconds from the start, as is the end of each step; steps in `unknown` count as nothing."""

    total: float
    ends: Mapping[str, float]
    unknown: tuple[str, ...]


def estimate(planned: list[Planned], graph: Graph, limits: Limits, begun: Collection[str] = ()) -> Estimate:
    """When each step of `planned` and the whole will be done; those in `begun` have their places already."""
    steps = {each.step: each for each in planned if each.action != "present"}
    needs = {name: {ref.step for ref in graph.references(graph.steps[name])} & steps.keys() for name in steps}
    ends = _Schedule(steps, needs, limits, begun).run()
    work = sum(each.expected_cpu or 0.0 for each in steps.values()) / limits.processors
    unknown = tuple(
        name for name, each in steps.items() if each.expected is None and each.action in ("fetch", "build")
    )
    return Estimate(max(work, *ends.values(), 0.0) if ends else 0.0, ends, unknown)


@dataclass(slots=True)
class _Schedule:
    steps: dict[str, Planned]
    needs: dict[str, set[str]]
    limits: Limits
    begun: Collection[str]
    ends: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, float]:
        users = _users(self.needs)
        length = lengths(self.needs, {name: self._seconds(name) for name in self.steps})
        waiting = {name: len(needs) for name, needs in self.needs.items()}
        ready = [name for name, count in waiting.items() if not count]
        running: list[tuple[float, str]] = []
        now = 0.0
        while ready or running:
            for name in sorted(ready, key=lambda each: (each not in self.begun, -length[each])):
                if self._is_free(name, running):
                    ready.remove(name)
                    heapq.heappush(running, (now + self._seconds(name), name))
            now, ended = heapq.heappop(running)
            self.ends[ended] = now
            for user in users[ended]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready.append(user)
        return self.ends

    def _seconds(self, name: str) -> float:
        return self.steps[name].expected or 0.0

    def _is_free(self, name: str, running: list[tuple[float, str]]) -> bool:
        action = self.steps[name].action
        most = {"build": self.limits.jobs, "fetch": self.limits.downloads}.get(action)
        return most is None or sum(self.steps[each].action == action for _, each in running) < most


def lengths(needs: dict[str, set[str]], seconds: Mapping[str, float]) -> dict[str, float]:
    """The longest way from the beginning of each step to the end of all, in seconds; `needs` has inputs first."""
    users = _users(needs)
    found: dict[str, float] = {}
    for name in reversed(needs):
        found[name] = seconds[name] + max((found[each] for each in users[name]), default=0.0)
    return found


def _users(needs: Mapping[str, set[str]]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, inputs in needs.items():
        for each in inputs:
            users[each].append(name)
    return users
