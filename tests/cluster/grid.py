"""A small cluster on one machine: BuildGrid with PostgreSQL, and workers of buildbox.

DIR/venv      BuildGrid, from PyPI
DIR/project   the recipe of the workers' root tree, its lock, and the store that has the tree
DIR/bin       a script for each program of that tree: it starts the tree's own loader, since its libc is newer
              than the host's
DIR/postgres  the database's files and its socket; as root it runs as the user `postgres`
DIR/cas       what BuildGrid stores
DIR/worker-N  one buildbox-casd (the worker's cache and file systems) and one buildbox-worker
DIR/logs      a file for each process
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.processes import Service, ancestors
from tests.conftest import DATA, Shell, unmet, unmount_below, write

BUILDGRID = "buildgrid[database]>=0.4.4,<0.5"
PROGRAMS = ("buildbox-casd", "buildbox-worker", "buildbox-run-bubblewrap", "buildbox-fuse", "bwrap", "recc")
CONFIGURATION = """\
server:
  - !channel
    address: "127.0.0.1:{port}"
    insecure-mode: true
grpc-server-options:
  grpc.so_reuseport: 0
connections:
  - !sql-connection &sql
    connection-string: {database}
    pool-size: 20
    max-overflow: 20
storages:
  - !disk-storage &storage
    path: {folder}/cas
caches:
  - !lru-action-cache &results
    storage: *storage
    max-cached-refs: 100000
    allow-updates: true
    cache-failed-actions: false
schedulers:
  - !sql-scheduler &scheduler
    sql: *sql
    storage: *storage
    action-cache: *results
    max-execution-timeout: 86400
    bot-session-keepalive-timeout: 10
    session-expiry-timer-interval: 1
    property-set:
      !dynamic-property-set
      match-property-keys: [OSFamily, ISA]
      wildcard-property-keys: [unixUID, unixGID, chrootRootDigest]
    assigners:
      - !priority-age-assigner
        count: 1
        interval: 0.1
instances:
  - name: ""
    services:
      - !action-cache
        cache: *results
      - !execution
        scheduler: *scheduler
        operation-stream-keepalive-timeout: 10
      - !cas
        storage: *storage
      - !bytestream
        storage: *storage
thread-pool-size: 100
"""


@dataclass
class Grid:
    """A cluster that runs; `url` is what goes into `remote:`."""

    folder: Path
    port: int
    services: list[Service] = field(default_factory=list)
    workers: dict[int, list[Service]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def start_worker(self, number: int) -> None:
        """Starts worker `number`, which has one build at a time."""
        place = self.folder / f"worker-{number}"
        place.mkdir(exist_ok=True)
        address = f"unix:{place / 'sock'}"
        (place / "sock").unlink(missing_ok=True)
        casd = self._start(
            f"casd-{number}",
            "buildbox-casd",
            f"--cas-remote={self._address}",
            f"--bind={address}",
            place / "cache",
        )
        self.workers[number] = [casd]
        casd.wait_for((place / "sock").exists)
        worker = self._start(
            f"worker-{number}",
            "buildbox-worker",
            f"--bots-remote={self._address}",
            f"--cas-remote={address}",
            f"--buildbox-run={self.folder / 'bin/buildbox-run-bubblewrap'}",
            "--max-wait-time=3",  # seconds until it hears that a build was cancelled
            "--platform=OSFamily=linux",
            "--platform=ISA=x86-64",
            f"worker-{number}",
        )
        self.workers[number].append(worker)

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self, name: str, program: str, *arguments: str | Path) -> Service:
        path = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        command = [self.folder / "bin" / program, *arguments]
        return Service.start(name, command, self.folder / "logs", env=path)

    def worker_of(self, process: int) -> int:
        """The worker that started a process, itself or by others."""
        owners = {service.process.pid: number for number, both in self.workers.items() for service in both}
        return next(owners[each] for each in ancestors(process) if each in owners)

    def kill_worker(self, number: int) -> None:
        """Ends a worker as a power cut does, with whatever it builds."""
        for service in reversed(self.workers.pop(number)):
            service.kill()

    def stop(self) -> None:
        for number in list(self.workers):
            for service in reversed(self.workers.pop(number)):
                service.stop()
        for service in reversed(self.services):
            service.stop(signal.SIGINT)  # PostgreSQL waits for nobody then
        unmount_below(self.folder)  # the root of what a killed worker built


@contextmanager
def running(folder: Path, workers: int, port: int = 0, lock: Path | None = None) -> Iterator[Grid]:
    """A cluster in `folder`, which may have been used before. `lock` is a lock of the workers' root tree to take.

    Raises UnavailableError where this host cannot have it.
    """
    folder = folder.resolve()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise UnavailableError(
            "workers make the roots of actions with /dev/fuse, which this user may not open"
        )
    if port and _listens(port):
        raise UnavailableError(f"port {port} is taken; --port names another one")
    prepare(folder, lock)
    grid = Grid(folder, port or _free_port())
    try:
        database = _start_database(grid)
        _start_server(grid, database)
        for number in range(1, workers + 1):
            grid.start_worker(number)
        yield grid
    finally:
        grid.stop()


@dataclass
class _Shared:
    """The one cluster of a test run, though several modules have the fixture; `users` are those that need it."""

    stack: ExitStack = field(default_factory=ExitStack)
    users: int = 0
    grid: Grid | None = None
    problem: str = ""

    def begin(self) -> Grid | None:
        self.users += 1
        if self.grid is None and not self.problem:
            kept = os.environ.get("CCSTORE_TEST_CLUSTER")
            folder = Path(kept or self.stack.enter_context(tempfile.TemporaryDirectory(prefix="grid-")))
            folder.chmod(0o755)  # PostgreSQL may be another user
            if not kept:
                self.stack.callback(_open_up, folder)
            try:
                self.grid = self.stack.enter_context(running(folder, 2))
            except UnavailableError as error:
                self.problem = str(error)
        return self.grid

    def end(self) -> None:
        self.users -= 1
        if not self.users:
            self.grid = None
            self.stack.close()


_shared = _Shared()


@pytest.fixture(scope="session")
def grid() -> Iterator[Grid]:
    """A cluster with two workers; CCSTORE_TEST_CLUSTER names the folder of one that was made before."""
    try:
        found = _shared.begin()
        if found is None:
            unmet(f"there is no cluster: {_shared.problem}")
        yield found
    finally:
        _shared.end()


@pytest.fixture(scope="session")
def recc_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root tree with recc, of the cluster that CCSTORE_TEST_CLUSTER names or made for these tests."""
    kept = os.environ.get("CCSTORE_TEST_CLUSTER")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("recc")
    try:
        yield worker_root(folder)
    except UnavailableError as error:
        unmet(f"there is no recc: {error}")
    finally:
        if not kept:
            _open_up(folder)


def _open_up(folder: Path) -> None:
    """What a store and a cache keep read-only can be deleted then."""
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)


class UnavailableError(Exception):
    """This host cannot have a cluster; the text says why."""


def prepare(folder: Path, lock: Path | None) -> None:
    """Gets what a cluster is made of, as far as it is not there."""
    _postgres("initdb")
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (folder / "cas").mkdir(exist_ok=True)
    _write_scripts(folder, worker_root(folder, lock))
    if not (folder / "venv/bin/bgd").exists():
        venv.create(folder / "venv", with_pip=True)
        _run([folder / "venv/bin/pip", "install", "--quiet", BUILDGRID])


def worker_root(folder: Path, lock: Path | None = None) -> Path:
    """The realised root tree of the workers, with all programs of buildbox; its lock is made when there is none.

    Raises UnavailableError, as where no mirror has sid.
    """
    project = folder / "project"
    write(project / "recipes/ccstore.yml", "project: cluster\n")
    shutil.copy(DATA / "cluster/worker-root.yml", project / "recipes")
    shell = Shell(project, project / "store")
    kept = project / "worker-root.lock.yml"
    if lock is not None:
        shutil.copy(lock, kept)
    commands = (
        [("realize", "worker-root")]
        if kept.exists()
        else [("lock", "--allow-expired", "worker-root"), ("realize", "worker-root")]
    )
    for command in commands:
        done = shell.run(*command, status=None)
        if done.returncode:
            error = done.stderr[done.stderr.rfind("error:") :]
            raise UnavailableError(f"`ccstore {' '.join(command)}` failed:\n{error[-2000:]}")
    return shell.path("worker-root")


def _write_scripts(folder: Path, root: Path) -> None:
    start = f"{root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu"
    (folder / "bin").mkdir(exist_ok=True)
    for program in PROGRAMS:
        script = folder / "bin" / program
        script.write_text(f'#!/bin/sh\nexec {start} {root}/usr/bin/{program} "$@"\n')
        script.chmod(0o755)


def _postgres(program: str) -> str:
    """A program of PostgreSQL; Debian keeps them beside the path, one folder for each version."""
    found = shutil.which(program)
    for place in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}")):
        found = str(place)
    if found is None:
        raise UnavailableError(f"PostgreSQL's {program} is not installed (Debian: postgresql)")
    return found


def _start_database(grid: Grid) -> str:
    """Starts PostgreSQL on a socket alone, with BuildGrid's tables; gives its URL."""
    place = grid.folder / "postgres"
    user = "postgres" if os.geteuid() == 0 else None
    place.mkdir(exist_ok=True)
    if user:
        shutil.chown(place, user, user)
    data = place / "data"
    if not data.exists():
        _run([_postgres("initdb"), "-D", data, "-U", "bgd", "-A", "trust", "--no-sync"], user=user)
    options = ("-k", place, "-h", "", "-c", "max_connections=200", "-F")
    command: list[str | Path] = [_postgres("postgres"), "-D", data, *options]
    service = Service.start("postgres", command, grid.folder / "logs", user=user)
    grid.services.append(service)
    ask = [_postgres("pg_isready"), "-q", "-h", str(place), "-U", "bgd", "-d", "postgres"]
    service.wait_for(lambda: subprocess.run(ask, check=False).returncode == 0)
    url = f"postgresql+psycopg2://bgd@/postgres?host={place}"
    _run([grid.folder / "venv/bin/bgd", "migrate", "apply", url])
    return url


def _start_server(grid: Grid, database: str) -> None:
    configuration = CONFIGURATION.format(port=grid.port, folder=grid.folder, database=database)
    file = write(grid.folder / "buildgrid.yml", configuration)
    service = Service.start(
        "buildgrid", [grid.folder / "venv/bin/bgd", "server", "start", file], grid.folder / "logs"
    )
    grid.services.append(service)
    service.wait_for(lambda: _listens(grid.port))


def _run(command: list[str | Path], user: str | None = None) -> None:
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        raise UnavailableError(
            f"{command[0]} failed ({done.returncode}):\n{(done.stdout + done.stderr)[-2000:]}"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
