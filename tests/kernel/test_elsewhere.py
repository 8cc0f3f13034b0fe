"""The real kernel in Docker and on clusters has the store path that it has everywhere. With `--full`: an hour or two.

Each begins with an empty store. `pytest --full -s` prints what it took.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.casd import casd as casd
from tests.cluster.grid import Grid
from tests.cluster.grid import grid as grid
from tests.cluster.processes import descendants
from tests.conftest import REPOSITORY, Shell, write
from tests.images import docker_host as docker_host
from tests.kernel.test_real_kernel import GOLDEN

TIMEOUT = 4 * 3600  # seconds
WELL_ON = 60  # seconds of make before a worker dies; a configuration takes less


@pytest.fixture
def empty(full: bool, tmp_path: Path) -> Shell:
    """A project with the repository's kernel, and an empty store."""
    if not full:
        pytest.skip("builds the real kernel again: pytest --full runs it")
    imports = ", ".join(str(REPOSITORY / name) for name in ("recipes/kernel.yml", "recipes/toolchain.yml"))
    write(tmp_path / "recipes/ccstore.yml", "project: elsewhere\n")
    write(tmp_path / "recipes/imports.yml", f"import: [{imports}]\nkind: path\npath: ccstore.yml\n")
    return Shell(tmp_path, tmp_path / "store")


def test_in_docker(empty: Shell, request: pytest.FixtureRequest) -> None:
    empty.environment["DOCKER_HOST"] = request.getfixturevalue("docker_host")
    assert_golden(empty, "docker")


def test_on_casd(empty: Shell, request: pytest.FixtureRequest) -> None:
    assert_golden(empty, "remote", "--remote", request.getfixturevalue("casd"))


def test_on_a_cluster_that_loses_a_worker(empty: Shell, request: pytest.FixtureRequest) -> None:
    """BuildGrid and two workers; that which compiles dies as by a power cut, and another one begins anew."""
    grid: Grid = request.getfixturevalue("grid")
    with killing_the_worker(grid) as killed:
        assert_golden(empty, "remote", "--remote", grid.url)
    assert len(killed) == 1
    grid.start_worker(killed[0])


def assert_golden(shell: Shell, executor: str, *options: str) -> None:
    began, before = time.monotonic(), cpu()
    found = shell.run("realize", "kernel", "--executor", executor, *options, timeout=TIMEOUT)
    took = time.monotonic() - began
    print(
        f"{executor} {' '.join(options)}: {took:.0f} s, of which CPU time of ccstore itself {cpu() - before:.0f} s"
    )
    assert Path(found.stdout.strip()).name == GOLDEN.read_text().strip()


def cpu() -> float:
    """Seconds of all processes of ours that ended; builds elsewhere are not among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def killing_the_worker(grid: Grid) -> Iterator[list[int]]:
    """Kills the worker that compiles the kernel, once; gives the list that its number is put in."""
    killed: list[int] = []
    over = threading.Event()
    thread = threading.Thread(target=_kill_when_well_on, args=(grid, killed, over))
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _kill_when_well_on(grid: Grid, killed: list[int], over: threading.Event) -> None:
    seen = 0
    while not killed and not over.wait(1):
        compiling = [number for number in grid.workers if _compiles(grid, number)]
        seen = seen + 1 if compiling else 0
        if seen >= WELL_ON:
            killed.append(compiling[0])
            grid.kill_worker(compiling[0])


def _compiles(grid: Grid, number: int) -> bool:
    processes = [each for service in grid.workers[number] for each in descendants(service.process.pid)]
    return any(_name(process) == "make" for process in processes)


def _name(process: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""
