"""Work that goes on, and the words for it; both views of progress use them."""

from __future__ import annotations

from dataclasses import dataclass

from ccstore.cli.context import size
from ccstore.events import Finished, Noted

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
    place: str = ""
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


def outcome(event: Finished) -> str:
    """How work ended, in words."""
    if event.failed == "interrupted":
        return event.failed
    return f"failed ({event.failed})" if event.failed else DONE[event.work]


def note(event: Noted) -> str:
    lead = "warning: " if event.warning else ""
    about = f"{event.target}: " if event.target else ""
    return f"{lead}{about}{event.message}"
