"""A run as a trace that Chrome (chrome://tracing) and Perfetto (ui.perfetto.dev) show: `realize --trace FILE`.

Source: "Trace Event Format" (Google), the JSON object format: complete events `X` with begin and duration in
microseconds, counters `C`, instants `i`, and metadata `M` that names the rows. A row (`tid`) is a place that one step
at a time has; the phases of a step lie inside of it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ccstore.errors import CcError
from ccstore.events import Event, Finished, Noted, Phased, Progressed, Started

OWN_ROW = 0
COUNTER_SECONDS = 0.1  # between two values of a counter


class Trace:
    """A sink that remembers when what happened; times are monotonic seconds, the first is `began`."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._lock = threading.Lock()
        self._rows: dict[str, int] = {}  # of the steps that run
        self._since: dict[str, float] = {}
        self._counted: dict[str, float] = {}
        self._most = 0
        self._events: list[dict[str, Any]] = []

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event, time.monotonic())

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, Started):
            taken = set(self._rows.values())
            row = next(row for row in range(1, len(taken) + 2) if row not in taken)
            self._rows[event.target], self._since[event.target] = row, now
            self._most = max(self._most, row)
        elif isinstance(event, Finished):
            row = self._rows.pop(event.target, OWN_ROW)
            told = {"failed": event.failed} if event.failed else {}
            self._slice(event.target, event.work, row, self._since.pop(event.target, now), now, told)
        elif isinstance(event, Phased):
            row = self._rows.get(event.target, OWN_ROW)
            self._slice(event.phase, "phase", row, event.began, event.ended, {"step": event.target})
        elif isinstance(event, Progressed):
            self._count(event, now)
        elif isinstance(event, Noted):
            about = {"warning": event.warning, "step": event.target}
            self._add("i", event.message, OWN_ROW, now, s="g", args=about)

    @contextmanager
    def own(self, name: str, began: float | None = None) -> Iterator[None]:
        """What ccstore itself does inside, on a row of its own."""
        began = time.monotonic() if began is None else began
        try:
            yield
        finally:
            with self._lock:
                self._slice(name, "ccstore", OWN_ROW, began, time.monotonic(), {})

    def _slice(
        self, name: str, kind: str, row: int, began: float, ended: float, args: dict[str, Any]
    ) -> None:
        self._add("X", name, row, began, cat=kind, dur=_micro(ended - began), args=args)

    def _count(self, event: Progressed, now: float) -> None:
        if event.unit == "objects" or now - self._counted.get(event.target, -1.0) < COUNTER_SECONDS:
            return
        self._counted[event.target] = now
        self._add("C", f"{event.target} {event.unit}", OWN_ROW, now, args={event.unit: event.done})

    def _add(self, kind: str, name: str, row: int, at: float, **more: Any) -> None:
        place = {"pid": os.getpid(), "tid": row, "ts": _micro(at - self._began)}
        self._events.append({"name": name, "ph": kind, **place, **more})

    def to_json(self) -> str:
        """Everything so far; steps that still run are left out."""
        with self._lock:
            rows = {OWN_ROW: "ccstore"} | {row: f"steps {row}" for row in range(1, self._most + 1)}
            names = [
                {"name": "thread_name", "ph": "M", "pid": os.getpid(), "tid": row, "args": {"name": name}}
                for row, name in rows.items()
            ]
            return json.dumps({"traceEvents": [*names, *self._events], "displayTimeUnit": "ms"})


def _micro(seconds: float) -> float:
    return round(seconds * 1e6, 1)


@contextmanager
def traced(file: Path | None, began: float) -> Iterator[Trace]:
    """A trace of what is inside, written to `file` at the end however it ends. Raises `output-refused` at once."""
    trace = Trace(began)
    if file is None:
        yield trace
        return
    try:
        with file.open("w") as out, _written(trace, out):
            yield trace
    except OSError as error:
        if error.filename != str(file):
            raise
        message = f"the trace cannot be written: {error.strerror}"
        hint = "name a file in a folder that you may write to"
        raise CcError("output-refused", message, where=str(file), hint=hint) from error


@contextmanager
def _written(trace: Trace, out: Any) -> Iterator[None]:
    try:
        yield
    finally:
        out.write(trace.to_json() + "\n")
