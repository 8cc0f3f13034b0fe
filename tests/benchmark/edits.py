"""What an edit costs a kernel developer: a comment in a config fragment, a line of C, a header."""

from __future__ import annotations

import difflib
import itertools
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmark.measure import Command, seconds
from tests.conftest import REPOSITORY, write

RUNS = 5
LINES = 3
COMMENT, ASSISTED_COLD, ASSISTED, INCREMENTAL = 0.04, 1.15, 0.18, 0.05  # wanted
C_FILE, HEADER = "init/main.c", "include/linux/sched.h"


@dataclass(frozen=True)
class Loop:
    """A kernel that is edited and made again, in a `store` that may be changed. `tree` is its patched tree."""

    project: Path
    store: Path
    ccstore: Path
    tree: Path
    fragment: str = "kernel/config/base.config"
    patches: str = "kernel/patches-6.1"
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def of_repository(cls, folder: Path, store: Path, ccstore: Path, tree: Path) -> Loop:
        for name in ("recipes", "kernel"):
            shutil.copytree(REPOSITORY / name, folder / name, symlinks=True)
        return cls(folder, store, ccstore, tree)

    def command(self, edit: Callable[[], None], *options: str) -> Command:
        """`realize kernel` after an edit."""
        argv = [str(self.ccstore), "realize", "kernel", *options, "--store", str(self.store)]
        return Command("ccstore", argv, cwd=self.project, prepare=edit)

    def comment(self) -> None:
        with (self.project / self.fragment).open("a") as file:
            file.write("# another line\n")

    def line(self) -> None:
        """Another line of C in each run."""
        self._patch(C_FILE, f'const char benchmark[] = "{next(self._numbers)}";\n')

    def header(self) -> None:
        self._patch(HEADER, f"#define A_BENCHMARK {next(self._numbers)}\n")

    def _patch(self, name: str, added: str) -> None:
        lines = (self.tree / name).read_text().splitlines(keepends=True)
        text = "".join(difflib.unified_diff(lines, [*lines, added], f"a/{name}", f"b/{name}"))
        write(self.project / self.patches / "9000-benchmark.patch", text)


def comment_row(loop: Loop, cold: Command) -> str:
    """Nix builds the whole kernel then, as its inputs differ; `cold`, a cold make, takes less than that would."""
    ours = loop.command(loop.comment)
    ours.run()
    mine = statistics.median(ours.run()[0] for _ in range(RUNS))
    other = cold.run()[0]
    figures = f"{seconds(mine)}, median of {RUNS} / {seconds(other)}, once"
    return (
        "| a comment in a config fragment, `realize kernel` | the kernel by `make`, cold: what Nix would build "
        f"| ≤ {COMMENT:g} × | {mine / other:.3f} × ({figures}) |"
    )


def change_rows(loop: Loop) -> Iterator[str]:
    """After a changed line of C, and after a changed header: assisted and incremental builds beside a cold one.

    Nearly everything is compiled five times in this: plainly, into an empty compile cache, into a new folder, and
    after the header in both modes.
    """
    cold = loop.command(loop.line).run()
    for mode, wanted in (("--assist", ASSISTED), ("--incremental", INCREMENTAL)):
        first = loop.command(loop.line, mode).run()
        if mode == "--assist":
            yield _row("cold `realize --assist kernel`", f"≤ {ASSISTED_COLD:g} × CPU", [first], cold)
        lines = [loop.command(loop.line, mode).run() for _ in range(LINES)]
        yield _row(f"a line of C changed, `realize {mode} kernel`", f"≤ {wanted:g} × CPU", lines, cold)
        header = loop.command(loop.header, mode).run()
        yield _row(f"`{HEADER}` changed, `realize {mode} kernel`", "–", [header], cold)


def _row(work: str, wanted: str, runs: list[tuple[float, float]], cold: tuple[float, float]) -> str:
    wall, cpu = (statistics.median(side) for side in zip(*runs, strict=True))
    ratio, ratio_cpu = wall / cold[0], cpu / cold[1]
    figures = f"{seconds(wall)} / {seconds(cold[0])}; CPU {ratio_cpu:.3f} ×; median of {len(runs)} / once"
    return f"| {work} | its own cold `realize kernel` | {wanted} | {ratio:.3f} × ({figures}) |"
