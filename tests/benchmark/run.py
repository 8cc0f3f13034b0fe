"""What `ccstore run` costs beside the QEMU command that it prints."""

from __future__ import annotations

import shlex
import shutil
import statistics
import sys
from pathlib import Path

from tests.benchmark.measure import Command
from tests.guest import bootable

WANTED, RUNS = 0.15, 15


def row(folder: Path, kernel: Path) -> str:
    """Boots a guest that powers off at once, by `ccstore run` and by hand in turn; a row of the table."""
    busybox = shutil.which("busybox") or sys.exit("busybox is not installed")
    made = bootable.make(folder / "run", kernel, busybox)
    made.add("tiny")
    shell = made.shell
    words = ["run", "tiny", "--accel", "tcg"]
    line = shell.run(*words, "--dry-run").stdout
    # without the monitor, which a person wants and a measurement does not
    argv = [word.removesuffix(",mux=on") for word in shlex.split(line.replace("\\\n", " "))]
    at = argv.index("-mon")
    by_hand = Command("qemu", argv[:at] + argv[at + 2 :])
    ours = Command("ccstore", [*shell.program, *words], shell.project, {"CCSTORE_STORE": str(shell.store)})
    ours.run(), by_hand.run()
    pairs = [(ours.run()[0], by_hand.run()[0]) for _ in range(RUNS)]
    added = statistics.median(mine - other for mine, other in pairs)
    figures = " / ".join(f"{statistics.median(side):.2f} s" for side in zip(*pairs, strict=True))
    measured = f"+{added:.2f} s ({figures}; median of {RUNS})"
    return f"| `ccstore run`, to the guest's end | the same QEMU command | ≤ +{WANTED:g} s | {measured} |"
