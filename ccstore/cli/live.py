"""The live view: what runs, for how long, how far, and the last line that each build wrote."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ccstore.cli.context import duration
from ccstore.cli.running import DONE, Running, note, outcome
from ccstore.cli.terminal import shown
from ccstore.events import Event, Finished, Foreseen, Logged, Noted, Placed, Progressed, Sink, Started

_SHOWN = 8  # pieces of work; more are counted
_QUIET_UNDER = 1.0  # seconds: a quicker fetch or copy leaves no line behind


@contextmanager
def live_view() -> Iterator[Sink]:
    console = Console(file=sys.stderr, highlight=False)
    view = _View(console)
    with Live(console=console, get_renderable=view.render, refresh_per_second=8, transient=True):
        yield view


class _View:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._running: dict[str, Running] = {}
        self._foreseen: Foreseen | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:
            line = self._take(event)
        if line is not None:
            self._console.print(line)

    def _take(self, event: Event) -> Text | None:
        """Notes the event; the result stays on the screen above the view."""
        if isinstance(event, Started):
            self._running[event.target] = Running(event.target, event.work, time.monotonic(), event.expected)
        elif isinstance(event, Progressed | Logged | Placed):
            if running := self._running.get(event.target):
                _update(running, event)
        elif isinstance(event, Finished):
            self._running.pop(event.target, None)
            return _finished(event)
        elif isinstance(event, Foreseen):
            self._foreseen = event
        elif isinstance(event, Noted):
            return Text(shown(note(event)), style="yellow" if event.warning else "dim")
        return None

    def render(self) -> RenderableType:
        now = time.monotonic()
        with self._lock:
            running = sorted(self._running.values(), key=lambda each: each.since)
        table = Table.grid(padding=(0, 1))
        for each in running[:_SHOWN]:
            table.add_row(
                Text(each.target, style="bold"),
                Text(f"{each.work} {each.place}".rstrip(), style="dim"),
                _bar(each, now),
                Text(each.amount(now), style="cyan"),
                Text(duration(now - each.since) + _remaining(each, now), style="dim"),
            )
        lines: list[RenderableType] = [table] if running else []
        lines += [
            Text(f"  {each.line}", style="dim", no_wrap=True, overflow="ellipsis")
            for each in running[:_SHOWN]
            if each.line
        ]
        if len(running) > _SHOWN:
            lines.append(Text(f"and {len(running) - _SHOWN} more", style="dim"))
        if self._foreseen and (words := _foreseen(self._foreseen)):
            lines.append(Text(words, style="dim"))
        return Group(*lines)


def _update(running: Running, event: Progressed | Logged | Placed) -> None:
    if isinstance(event, Progressed):
        running.done, running.total, running.unit = event.done, event.total, event.unit
    elif isinstance(event, Placed):
        running.place = f"on {shown(event.worker)}" if event.worker else "waits for a worker"
    else:
        running.line = shown(event.line).expandtabs()


def _bar(running: Running, now: float) -> RenderableType:
    fraction = running.fraction(now)
    return ProgressBar(total=1.0, completed=fraction, width=24) if fraction is not None else Text("")


def _remaining(running: Running, now: float) -> str:
    """What is left by the time that it took before; nothing once that has passed."""
    left = running.expected - (now - running.since) if running.expected else 0.0
    return f", about {duration(left)} left" if left > 1 else ""


def _foreseen(event: Foreseen) -> str:
    """What is left of the whole run; nothing while nothing is known of it."""
    left, complete = event.remaining()
    return f"all done in {'about' if complete else 'at least'} {duration(left)}" if left > 1 else ""


def _finished(event: Finished) -> Text | None:
    if event.failed:
        return Text(f"✗ {event.target} {outcome(event)} after {duration(event.seconds)}", style="red")
    if event.work != "build" and event.seconds < _QUIET_UNDER:
        return None
    return Text.assemble(("✓ ", "green"), f"{event.target} {DONE[event.work]} in {duration(event.seconds)}")
