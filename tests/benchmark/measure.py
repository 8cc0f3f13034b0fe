"""Timing whole commands, interleaved, so that a machine that slows down slows both sides."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """A command to time; `prepare` runs before each time, unmeasured."""

    name: str
    argv: Sequence[str]
    cwd: Path | None = None
    env: Mapping[str, str] | None = None
    prepare: Callable[[], None] = lambda: None

    def run(self) -> tuple[float, float]:
        """Wall and CPU seconds of one run, its children counted; fails as the command does."""
        self.prepare()
        before, began = os.times(), time.monotonic()
        done = subprocess.run(
            self.argv,
            cwd=self.cwd,
            env={**os.environ, **(self.env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        wall, after = time.monotonic() - began, os.times()
        if done.returncode:
            raise SystemExit(f"{self.name} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        cpu = sum(after[2:4]) - sum(before[2:4])
        return wall, cpu


@dataclass(frozen=True)
class Result:
    """Medians in seconds, and the ratio of ours to theirs, pair by pair (median)."""

    work: str
    wanted: float | None
    ours: float
    theirs: float
    ratio: float
    ratio_cpu: float
    runs: int

    def row(self, against: str) -> str:
        figures = f"{seconds(self.ours)} / {seconds(self.theirs)}"
        measured = f"{self.ratio:.2f} × ({figures}; CPU {self.ratio_cpu:.2f} ×; median of {self.runs})"
        wanted = "–" if self.wanted is None else f"≤ {self.wanted:g} ×"
        return f"| {self.work} | {against} | {wanted} | {measured} |"


def compare(work: str, wanted: float | None, ours: Command, theirs: Command, runs: int) -> Result:
    """Runs both in turn, `runs` times after one run each that does not count (unless runs is 1)."""
    if runs > 1:
        ours.run(), theirs.run()
    pairs = [(ours.run(), theirs.run()) for _ in range(runs)]
    return Result(
        work,
        wanted,
        statistics.median(mine[0] for mine, _ in pairs),
        statistics.median(other[0] for _, other in pairs),
        statistics.median(mine[0] / other[0] for mine, other in pairs),
        statistics.median(mine[1] / max(other[1], 1e-3) for mine, other in pairs),
        runs,
    )


def seconds(value: float) -> str:
    """As people read them."""
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"
