"""How long a run will still take: the estimate of its plan, made anew from what has happened meanwhile."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from ccstore.build.estimate import Limits, estimate
from ccstore.build.plan import Planned
from ccstore.events import Event, Finished, Logged, Progressed, Started
from ccstore.model.graph import Graph


@dataclass(slots=True)
class _Begun:
    """A step that runs: since when (monotonic seconds), and how much of it is done, as far as it tells."""

    since: float
    fraction: float = 0.0

    def left(self, expected: float) -> float:
        """Seconds; one that is later than usual goes on as fast as it went."""
        gone = time.monotonic() - self.since
        if gone > expected and self.fraction:
            return gone * (1 - self.fraction) / self.fraction
        return max(expected - gone, 0.0)


class Forecast:
    """A sink that follows the run. Threads may share it."""

    def __init__(self, planned: list[Planned], graph: Graph, limits: Limits) -> None:
        self._left = {each.step: each for each in planned if each.action != "present"}
        self._graph = graph
        self._limits = limits
        self._begun: dict[str, _Begun] = {}
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Logged):
            return
        with self._lock:
            if isinstance(event, Started) and event.target in self._left:
                self._begun[event.target] = _Begun(time.monotonic())
            elif isinstance(event, Progressed) and event.total and event.target in self._begun:
                self._begun[event.target].fraction = min(event.done / event.total, 1.0)
            elif isinstance(event, Finished):
                self._begun.pop(event.target, None)
                self._left.pop(event.target, None)

    def remaining(self) -> tuple[float, bool]:
        """Seconds until all is done, and whether that counts every step: of some it may not be known."""
        with self._lock:
            steps = [self._now(each) for each in self._left.values()]
            begun = set(self._begun)
        found = estimate(steps, self._graph, self._limits, begun)
        return found.total, not found.unknown

    def _now(self, step: Planned) -> Planned:
        """What is left of a step."""
        begun = self._begun.get(step.step)
        if begun is None or not step.expected:
            return step
        left = begun.left(step.expected)
        return replace(step, expected=left, expected_cpu=(step.expected_cpu or 0.0) * left / step.expected)
