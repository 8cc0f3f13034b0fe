"""The room on the disk that many patch sets of one kernel take."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

from tests.conftest import CCSTORE, REPOSITORY, write

SETS, WANTED = 10, 1.15
HEADER = "include/linux/sched.h"


def row(folder: Path, source: Path, store: Path) -> str:
    """Makes the trees of the patch sets in `store` from `source`, the kernel's; a row of the table."""
    write(folder / "recipes/ccstore.yml", "project: benchmark\n")
    names = ", ".join(str(REPOSITORY / f"recipes/{name}.yml") for name in ("kernel", "toolchain"))
    write(folder / "recipes/imports.yml", f"import: [{names}]\nkind: path\npath: ccstore.yml\n")
    text = (source / HEADER).read_text().splitlines(keepends=True)
    for number in range(SETS):
        write(folder / f"patches-{number}/0001-sched.patch", _patch(text, f"/* patch set {number} */\n"))
        recipe = f"kind: kernel\nextends: kernel\npatches: ../patches-{number}\n"
        write(folder / f"recipes/set-{number}.yml", recipe)
    targets = [f"set-{number}.patched" for number in range(SETS)]
    argv = [str(CCSTORE), "realize", *targets, "--store", str(store)]
    made = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    trees = [Path(line) for line in made.stdout.splitlines()]
    assert len({(tree / HEADER).read_bytes() for tree in trees}) == SETS
    one, all_of_them = _usage(source), _usage(*trees)
    figures = f"{all_of_them / 1e6:,.0f} MB / {one / 1e6:,.0f} MB"
    return (
        f"| disk of {SETS} patch sets, each touching `{HEADER}`, by `du` | one tree | ≤ {WANTED} × | "
        f"{all_of_them / one:.2f} × ({figures}; with the unpatched tree {_usage(source, *trees) / one:.2f} ×) |"
    )


def _patch(lines: list[str], added: str) -> str:
    """A patch that begins the file with `added`."""
    names = (f"a/{HEADER}", f"b/{HEADER}")
    return "".join(difflib.unified_diff(lines, [added, *lines], *names))


def _usage(*paths: Path) -> int:
    """Bytes on the disk; what has several names counts once."""
    argv = ["du", "--summarize", "--total", "--block-size=1", *map(str, paths)]
    found = subprocess.run(argv, capture_output=True, text=True, check=True)
    return int(found.stdout.splitlines()[-1].split()[0])
