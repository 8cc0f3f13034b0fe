"""How runs of steps went, for estimates and explanations: `history/<step>.jsonl`, one line for each run.

Lines are appended in one write each, so runs that end at the same time do not mix; a line that a crash cut short
is passed over.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.realisation import Purity
from ccstore.store.failures import explained
from ccstore.store.layout import Layout

_STEP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TAIL = 1 << 17  # bytes from the end that are looked at
_USUAL = 5  # runs


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a step. Times in seconds, `when` (it ended) in unix time; `outcome` is built, failed, timeout, …

    `phases` says what the time went into (ccstore.events.Phase), `seen` what the build could see of where it ran
    (ccstore.ports.BuildResult), `purity` how much earlier builds helped it; older runs do not know.
    """

    step: str
    derivation: str
    seconds: float
    cpu_seconds: float
    log_lines: int
    outcome: str
    executor: str
    when: float
    phases: Mapping[str, float] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    purity: Purity = "clean"


@dataclass(frozen=True, slots=True)
class Usual:
    """What a step usually takes, in seconds."""

    seconds: float
    cpu_seconds: float


class History:
    """The runs that one store remembers."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def _file(self, step: str) -> Path:
        if not _STEP.fullmatch(step):
            raise CcError(
                "name-invalid",
                f"{step!r} cannot name a step",
                hint="steps have names of letters, digits and . _ + -",
            )
        return self._layout.history / f"{step}.jsonl"

    def record(self, run: Run) -> None:
        """Raises `disk-full`, `read-only-store`."""
        # a newline first: a line that was cut short must not swallow this one
        line = b"\n" + json.dumps(asdict(run)).encode() + b"\n"
        with explained(self._layout.root):
            descriptor = os.open(self._file(run.step), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    def last(self, step: str, outcome: str | None = "built", purity: Purity | None = None) -> Run | None:
        """The latest run of `step` with this outcome and purity (with any, if None)."""
        for run in self.runs(step):
            if outcome in (None, run.outcome) and purity in (None, run.purity):
                return run
        return None

    def usual(self, step: str, purity: Purity = "clean") -> Usual | None:
        """The medians of the latest runs of `step` that built it with this purity; None if there is none."""
        found = (run for run in self.runs(step) if run.outcome == "built" and run.purity == purity)
        runs = list(itertools.islice(found, _USUAL))
        if not runs:
            return None
        from statistics import median  # loads fractions and decimals

        return Usual(median(run.seconds for run in runs), median(run.cpu_seconds for run in runs))

    def runs(self, step: str) -> Iterator[Run]:
        """Recent runs of `step`, the latest first."""
        try:
            with self._file(step).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return
        for line in reversed(lines):
            run = _parse(line)
            if run:
                yield run


def _parse(line: bytes) -> Run | None:
    try:
        return Run(**json.loads(line))
    except (ValueError, TypeError):
        return None  # cut short by a crash, or by the start of what is looked at
