"""How progress looks: a live view on a terminal, plain lines in a pipe. Both write to stderr only."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ccstore.cli.context import duration, size
from ccstore.events import Event, Finished, Logged, Noted, Progressed, Sink, Started

DONE = {
    "fetch": "fetched",
    "build": "built",
    "substitute": "substituted",
    "register": "registered",
    "collect": "collected",
    "verify": "verified",
    "push": "pushed",
    "pull": "pulled",
    "wait": "waited",
}
PLAIN_INTERVAL = 10.0  # seconds between two lines about the same work in a pipe


@contextmanager
def progress(*, verbose: bool = False) -> Iterator[Sink]:
    """A sink for as long as the work lasts: live where stderr is a terminal that can redraw."""
    if sys.stderr.isatty() and not verbose:
        from ccstore.cli.live import live_view

        with live_view() as sink:
            yield sink
    else:
        yield PlainLines(verbose=verbose)


@dataclass(slots=True)
class Running:
    """Work that goes on: how far it is and since when (monotonic seconds)."""

    target: str
    work: str
    since: float
    expected: float | None
    done: int = 0
    total: int | None = None
    unit: str = ""
    line: str = ""
    told: float = 0.0

    def fraction(self, now: float) -> float | None:
        """How much is done, 0 to 1: by units where the total is known, else by the time it took the last time."""
        if self.total:
            return min(self.done / self.total, 1.0)
        return min((now - self.since) / self.expected, 0.99) if self.expected else None

    def amount(self, now: float) -> str:
        """How far it is, in words: 41 %, 12 MB of 138 MB, 512 lines."""
        fraction = self.fraction(now)
        if self.unit == "bytes":
            return f"{size(self.done)} of {size(self.total)}" if self.total else size(self.done)
        if fraction is not None:
            return f"{fraction:.0%}"
        return f"{self.done} {self.unit}" if self.unit else ""


class PlainLines:
    """One line when work begins, now and then while it goes on, and when it ends."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, Started):
            self._running[event.target] = Running(event.target, event.work, now, event.expected, told=now)
            if event.work != "build":
                return  # a line when it is done, or when it takes long, says enough
            expected = f" (took {duration(event.expected)} the last time)" if event.expected else ""
            _print(f"{event.target}: {event.work} begins{expected}")
        elif isinstance(event, Progressed):
            self._progress(event, now)
        elif isinstance(event, Logged) and self._verbose:
            _print(f"{event.target}> {event.line}")
        elif isinstance(event, Finished):
            self._running.pop(event.target, None)
            outcome = f"failed ({event.failed})" if event.failed else DONE[event.work]
            _print(f"{event.target}: {outcome} after {duration(event.seconds)}")
        elif isinstance(event, Noted):
            _print(note(event))

    def _progress(self, event: Progressed, now: float) -> None:
        running = self._running.get(event.target)
        if running is None:
            return
        running.done, running.total, running.unit = event.done, event.total, event.unit
        if now - running.told >= PLAIN_INTERVAL and not self._verbose:
            running.told = now
            _print(f"{event.target}: {running.amount(now)} after {duration(now - running.since)}")


def note(event: Noted) -> str:
    lead = "warning: " if event.warning else ""
    about = f"{event.target}: " if event.target else ""
    return f"{lead}{about}{event.message}"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
