"""What was measured, kept between runs, and written for people: a table and a chart.

    results.json   the rows of each work, and when and on what they were measured; `earlier` are those beside a rival
                   that was not installed when the others were measured
    results.md     the table
    results.svg    ratios to the rivals, with what is wanted

A run of some works replaces their rows and leaves the others as they are.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmark.chart import Bar, chart

RIVALS = {"nix": "Nix", "bst": "BuildStream"}  # programs whose versions matter, and which may be missing
Block = dict[str, Any]
HEAD = """# Benchmark

Written by `python -m tests.benchmark`, which measures ccstore beside its rivals: medians of runs in turn, and the
ratio pair by pair. Ratios are of wall time unless CPU time is wanted; *wanted* is the bar that was set beforehand.

![Ratios to the rivals, and what is wanted](results.svg)

| work | against | wanted | measured | |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line of the table, as the works print it: four cells."""

    work: str
    against: str
    wanted: str
    measured: str

    @classmethod
    def parse(cls, line: str) -> Row | None:
        cells = line.strip().split(" | ")
        if len(cells) != 4 or not line.startswith("| "):
            return None
        return cls(cells[0].removeprefix("| "), cells[1], cells[2], cells[3].removesuffix(" |"))

    @property
    def ratio(self) -> float | None:
        """Of ours to the rival's, in what is wanted: wall time, or CPU time if that is said."""
        cpu = re.search(r"CPU ([\d.]+) ×", self.measured) if "CPU" in self.wanted else None
        found = cpu or re.match(r"([\d.]+) ×", self.measured)
        return float(found[1]) if found else None

    @property
    def most(self) -> float | None:
        found = re.match(r"≤ ([\d.]+) ×", self.wanted)
        return float(found[1]) if found else None

    @property
    def verdict(self) -> str:
        if self.ratio is None or self.most is None:
            return ""
        return "met" if self.ratio <= self.most else "**missed**"


class Printed(io.TextIOBase):
    """Standard output that passes everything on and keeps the rows."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._out = sys.stdout
        self._line = ""

    def write(self, text: str) -> int:
        self._out.write(text)
        self._out.flush()
        *lines, self._line = (self._line + text).split("\n")
        self.rows += filter(None, map(Row.parse, lines))
        return len(text)


def keep(folder: Path, work: str, rows: Sequence[Row], order: Iterable[str]) -> None:
    """Replaces the rows of `work` in `folder`, and writes the table and the chart anew; `order` is that of works.

    Those beside a rival that is not installed stay.
    """
    file = folder / "results.json"
    known: dict[str, Block] = json.loads(file.read_text()) if file.exists() else {}
    when = time.strftime("%Y-%m-%d", time.gmtime())
    cells = [[row.work, row.against, row.wanted, row.measured] for row in rows]
    earlier = [_left(block, cells) for block in _blocks(known.get(work, {"rows": []}))]
    known[work] = {"when": when, "where": machine(), "rows": cells}
    if kept := [block for block in earlier if block["rows"]]:
        known[work]["earlier"] = kept
    known = {name: known[name] for name in (*order, *known) if name in known}
    file.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n")
    write(folder, known)


def _blocks(entry: Block) -> list[Block]:
    """What is known of a work, by the runs that measured it."""
    return [entry, *entry.get("earlier", ())]


def _left(block: Block, measured: list[list[str]]) -> Block:
    """`block` with the rows that were not `measured` anew, for want of their rival."""
    absent = [program for program in RIVALS if not shutil.which(program)]
    again = {tuple(cells[:2]) for cells in measured}
    rows = [
        cells
        for cells in block["rows"]
        if tuple(cells[:2]) not in again and any(re.search(rf"`{name}\b", cells[1]) for name in absent)
    ]
    return {name: block[name] for name in ("when", "where") if name in block} | {"rows": rows}


def write(folder: Path, known: dict[str, Block]) -> None:
    """The table and the chart of what is known."""
    lines: list[str] = []
    bars: list[Bar] = []
    places: dict[tuple[str, str], int] = {}
    for each in (block for entry in known.values() for block in _blocks(entry)):
        number = places.setdefault((each["when"], each["where"]), len(places) + 1)
        for cells in each["rows"]:
            row = Row(*cells)
            lines.append(
                f"| {' | '.join(cells)} | {' '.join(filter(None, (row.verdict, f'({number})')))} |\n"
            )
            if row.ratio is not None and row.most is not None:
                bars.append(Bar(row.work, row.against, row.ratio, row.most))
    notes = "".join(f"{number}. {when}, {where}.\n" for (when, where), number in places.items())
    (folder / "results.md").write_text(
        f"{HEAD}{''.join(lines)}\nMeasured, by the number in the last column:\n\n{notes}"
    )
    (folder / "results.svg").write_text(chart(bars))


def machine() -> str:
    """What a figure depends on: processors, load, and the rivals' versions."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    load = os.getloadavg()[1]
    said = [f"{os.cpu_count()} cores ({model[1] if model else os.uname().machine}), load {load:.1f} before"]
    for program, name in RIVALS.items():
        if shutil.which(program):
            argv = [program, "--version"]
            found = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
            said.append(f"{name} {found.split()[-1]}")
    return ", ".join(said)
