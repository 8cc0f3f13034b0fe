"""Progress as plain lines, for pipes and logs."""

from __future__ import annotations

import sys
import threading
import time

from ccstore.cli.context import duration
from ccstore.cli.running import Running, note, outcome
from ccstore.cli.terminal import shown
from ccstore.events import Event, Finished, Logged, Noted, Placed, Progressed, Started

INTERVAL = 10.0  # seconds between two lines about the same work in a pipe


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
            expected = f" (takes {duration(event.expected)})" if event.expected else ""
            _print(f"{event.target}: {event.work} begins{expected}")
        elif isinstance(event, Progressed):
            self._progress(event, now)
        elif isinstance(event, Logged) and self._verbose:
            _print(f"{event.target}> {event.line}")
        elif isinstance(event, Placed) and event.worker:
            _print(f"{event.target}: runs on {event.worker}")
        elif isinstance(event, Finished):
            self._running.pop(event.target, None)
            _print(f"{event.target}: {outcome(event)} after {duration(event.seconds)}")
        elif isinstance(event, Noted):
            _print(note(event))

    def _progress(self, event: Progressed, now: float) -> None:
        running = self._running.get(event.target)
        if running is None:
            return
        running.done, running.total, running.unit = event.done, event.total, event.unit
        if now - running.told >= INTERVAL and not self._verbose:
            running.told = now
            _print(f"{event.target}: {running.amount(now)} after {duration(now - running.since)}")


def _print(line: str) -> None:
    print(shown(line), file=sys.stderr, flush=True)
