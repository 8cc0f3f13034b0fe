"""How right the time is that `plan` foretells, when a project of several steps is made again and again."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tests.benchmark.measure import Command, seconds
from tests.conftest import CCSTORE, Shell, TinyProject, tiny_project, write

WANTED, RUNS = 1.2, 5
SCRIPTS = {"long": 900_000, "short": 300_000, "other": 500_000}  # rounds of a loop


def row(folder: Path, store: Path) -> str:
    """Makes the project anew each time, in a `store` that has the toolchain; a row of the table."""
    for each in (store / "history").iterdir():
        each.unlink()  # another project's steps may have the same names
    tiny = tiny_project(folder, store)
    shell = Shell(folder, store)
    told, took, steps = [], [], 0
    for run in range(RUNS + 1):
        _edit(tiny, run)
        plan = json.loads(shell.run("plan", "all", "--json").stdout)
        wall, _ = Command(
            "ccstore", [str(CCSTORE), "realize", "all"], folder, {"CCSTORE_STORE": str(store)}
        ).run()
        if run:  # before the first one nothing is known
            told.append(max(each["expectedEnd"] for each in plan))
            took.append(wall)
            steps = sum(each["action"] == "build" for each in plan)
    errors = [max(one / other, other / one) for one, other in zip(told, took, strict=True)]
    figures = f"{seconds(statistics.median(told))} / {seconds(statistics.median(took))}; median of {RUNS}"
    return (
        f"| time that `plan` foretells for {steps} builds, made before | the time it takes | ≤ {WANTED:g} × | "
        f"{statistics.median(errors):.2f} × ({figures}, the worst {max(errors):.2f} ×) |"
    )


def _edit(tiny: TinyProject, run: int) -> None:
    """Changes what every build is made from, but neither how many there are nor what they do."""
    patch = write(tiny.root / "patches/0009-run.patch", PATCH % run)
    assert patch.exists()
    for name, rounds in SCRIPTS.items():
        loop = f"i=0; while test $i -lt {rounds}; do i=$((i + 1)); done; echo {run} > $out"
        write(tiny.root / f"recipes/{name}.yml", f"kind: build\ntoolchain: toolchain\nscript: |\n  {loop}\n")
    inputs = ", ".join(f"{name}: {name}" for name in (*SCRIPTS, "kernel"))
    text = f"kind: build\ntoolchain: toolchain\ninputs: {{{inputs}}}\nscript: echo {run} > $out\n"
    write(tiny.root / "recipes/all.yml", text)


PATCH = """--- /dev/null
+++ b/init/run.h
@@ -0,0 +1 @@
+/* %d */
"""
