"""Where the time of one step goes: phases, told to the sink as they end and kept with the step's history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ccstore.events import Phase, Phased, Sink


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self, target: str, sink: Sink) -> None:
        self.target = target
        self.phases: dict[str, float] = {}
        self._sink = sink
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Times what is inside; a phase may come more than once."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(phase, began, time.monotonic())

    def add(self, phase: Phase, began: float, ended: float) -> None:
        """A phase that was timed elsewhere (monotonic seconds)."""
        self.phases[phase] = self.phases.get(phase, 0.0) + ended - began
        self._sink(Phased(self.target, phase, began, ended))
