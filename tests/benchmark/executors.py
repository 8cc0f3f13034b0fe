"""What each executor adds to a derivation that does nothing: the sandbox, Docker, and buildbox-casd for remote."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ccstore.store.store import Store
from tests.benchmark.measure import Command, seconds
from tests.cluster.casd import running_casd
from tests.conftest import CCSTORE, clone_store, tiny_project, write

RUNS = 7


def rows(folder: Path, toolchain: Path) -> Iterator[str]:
    """A row for each executor that is there; `toolchain` is a store that has it."""
    store = clone_store(toolchain, folder / "store")
    project = tiny_project(folder / "project", store).root
    with ExitStack() as stack:
        places = {"sandbox": ["--executor", "sandbox"]}
        if _docker_answers():
            places["docker"] = ["--executor", "docker"]
        if casd := shutil.which("buildbox-casd"):
            (folder / "casd").mkdir()
            url = stack.enter_context(running_casd(casd, folder / "casd"))
            places["remote, a `buildbox-casd` here"] = ["--executor", "remote", "--remote", url]
        runs: dict[str, list[tuple[float, ...]]] = {name: [] for name in places}
        for number in range(RUNS + 1):
            for name, options in places.items():
                write(project / "recipes/trivial.yml", RECIPE.format(number=number, name=name))
                argv = [str(CCSTORE), "realize", "trivial", *options, "--store", str(store)]
                whole = Command("ccstore", argv, cwd=project).run()
                if number:  # the first one sends the toolchain
                    runs[name].append((_last(store), *whole))
    for name, found in runs.items():
        step, wall, cpu = (statistics.median(side) for side in zip(*found, strict=True))
        figures = f"the whole command {seconds(wall)}, {seconds(cpu)} of CPU; median of {RUNS}"
        yield f"| a derivation that does nothing, {name} | – | – | {seconds(step)} ({figures}) |"


RECIPE = """kind: build
toolchain: toolchain
script: echo "{number} {name}" > $out
"""


def _last(store: Path) -> float:
    """Seconds that the step took."""
    with Store.open(store) as opened:
        run = opened.history.last("trivial")
    assert run
    return run.seconds


def _docker_answers() -> bool:
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    ):
        return True
    print("no Docker daemon answers: the executor docker is not measured", file=sys.stderr)
    return False
