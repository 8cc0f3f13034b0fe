"""Many configurations of one source on a cluster: how the time falls with workers, and what ccstore costs for each.

All start from the same patched tree and differ in a fragment, so that the tree is sent once and each action is new.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmark.measure import Command
from tests.cluster.grid import running
from tests.cluster.proxy import Traffic, proxy
from tests.conftest import CCSTORE, TinyProject, clone_store, tiny_project, write

VARIANTS = 100
WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Fan:
    """One run: seconds of wall and of ccstore's own CPU."""

    wall: float
    cpu: float


def rows(folder: Path, toolchain: Path) -> list[str]:
    """`toolchain` is a store that has it; the cluster is made in CCSTORE_TEST_CLUSTER, else in `folder`."""
    folder.chmod(0o755)  # PostgreSQL may be another user
    project = tiny_project(folder / "project", clone_store(toolchain, folder / "base"))
    project.shell.run("realize", "kernel.config")
    grid = Path(os.environ.get("CCSTORE_TEST_CLUSTER") or folder / "grid")
    times: list[str] = []
    for workers in WORKERS:
        with running(grid, workers) as cluster:
            _run(folder, project, cluster.url, "warm", 2 * workers)  # every worker gets the toolchain
            found = _run(folder, project, cluster.url, "timed", VARIANTS)
            times.append(f"{found.wall:.1f} s")
            if workers == WORKERS[-1]:
                with proxy(cluster.url) as (url, traffic):
                    _run(folder, project, url, "counted", VARIANTS)
    what = f"{VARIANTS} kernel configurations on {', '.join(map(str, WORKERS))} workers"
    return [
        f"| {what} | – | – | {', '.join(times)} |",
        f"| ccstore itself, for each of them | – | – | {_cost(found, traffic)} |",
    ]


def _cost(found: Fan, traffic: Traffic) -> str:
    calls = sum(traffic.calls.values()) / VARIANTS
    sent, received = (round(each / VARIANTS / 1000) for each in (traffic.sent, traffic.received))
    return f"{1000 * found.cpu / VARIANTS:.0f} ms of CPU, {calls:.1f} calls, {sent} kB sent, {received} kB received"


def _run(folder: Path, project: TinyProject, url: str, name: str, count: int) -> Fan:
    """Realises `count` configurations that no service has seen."""
    mark = f"{name}-{time.time_ns()}"
    names = [f"v{number}" for number in range(count)]
    for old in (project.root / "recipes").glob("v*.yml"):
        old.unlink()
    for each in names:
        write(project.root / f"fragments/{each}.config", f'CONFIG_GREETING="{each} of {mark}"\n')
        write(
            project.root / f"recipes/{each}.yml",
            f"kind: kernel\nextends: kernel\nconfig:\n  add: [../fragments/{each}.config]\n",
        )
    store = folder / "run"

    def fresh() -> None:
        subprocess.run(["rm", "-rf", str(store)], check=True)
        clone_store(folder / "base", store)

    argv = [str(CCSTORE), "realize", *(f"{each}.config" for each in names), "--store", str(store)]
    argv += ["--executor", "remote", "--remote", url]
    return Fan(*Command("ccstore", argv, cwd=project.root, prepare=fresh).run())
