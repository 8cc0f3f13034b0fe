"""Fixtures that several areas share: real tools, the real toolchain, a small project, the command line.

The toolchain is realised once in a test run (from the Debian mirror) into a store that every test which builds
gets a hard-linked copy of; CCSTORE_TEST_STORE names a store that may hold it already. A tool that is missing skips
its tests and says so; with CCSTORE_REQUIRE_TOOLS set (as CI does, which installs them all) it fails them.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from ccstore.ports import Tree
from ccstore.store.files import remove
from ccstore.store.store import Store

REPOSITORY = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
CCSTORE = Path(sys.executable).parent / "ccstore"


def pytest_configure(config: pytest.Config) -> None:
    # a job in the background begins with SIGINT ignored, and so would every command that a test interrupts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # children of tests that fork speak to no service; gRPC would start threads in them, and then none can unshare
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    # threads stay behind when a test forks, and what they have locked stays locked: a child that collected the tests'
    # garbage, such as a channel of gRPC, would wait for them forever
    os.register_at_fork(before=gc.disable, after_in_parent=gc.enable, after_in_child=_leave_garbage)


def _leave_garbage() -> None:
    """All that there is now is never looked at again by this process's collector."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"real_kernel", "full"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(3600))


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test where `program` is not installed; in CI it runs all the same, and fails."""
    reason = f"{program} is not installed: .ci/run installs what the tests use"
    return requires(shutil.which(program) is not None, reason)


def requires(met: bool, reason: str) -> pytest.MarkDecorator:
    """Skips a test unless `met`; in CI it runs all the same, and fails."""
    return pytest.mark.skipif(not met and not os.environ.get("CCSTORE_REQUIRE_TOOLS"), reason=reason)


def unmet(reason: str) -> NoReturn:
    """Skips a test that this host cannot run; with CCSTORE_REQUIRE_TOOLS it fails."""
    if os.environ.get("CCSTORE_REQUIRE_TOOLS"):
        pytest.fail(reason)
    pytest.skip(reason)


def unmount_below(folder: Path) -> None:
    """Nothing is mounted below `folder` afterwards; an ordinary user may undo what is theirs, as FUSE's are."""
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place, kind in reversed([each for each in mounts if each[0].startswith(f"{folder}/")]):
        mine = kind.startswith("fuse") and os.geteuid() != 0
        subprocess.run([*(["fusermount3", "-u", "-z"] if mine else ["umount"]), place], check=False)


def must_be_reachable(repository: str) -> None:
    """Skips where git cannot reach `repository`, an https URL, nor a mirror of it that git's configuration names."""
    command = ["git", "ls-remote", "--quiet", repository, "HEAD"]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    try:
        subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.TimeoutExpired:
        _no_repository(repository, "no answer within 60 s")
    except subprocess.CalledProcessError as error:
        _no_repository(repository, error.stderr.strip())


def _no_repository(url: str, problem: str) -> None:
    pytest.skip(f"{url} cannot be reached: {problem}; git's url.<base>.insteadOf names a mirror")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--accept", action="store_true", help="take over what a golden file does not say yet")
    parser.addoption("--full", action="store_true", help="run the long tests at their full length, for hours")


@pytest.fixture
def accept(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten; look at what changes before you commit it."""
    return bool(request.config.getoption("--accept"))


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether what is repeated many times is repeated as often as the README's figures say."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Gives the path of a program of the host, or skips (in CI: fails) the test that asked."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            unmet(f"{name} is not installed: .ci/run installs what the tests use")
        return path

    return find


@pytest.fixture
def memory() -> Iterator[Path]:
    """An empty folder, in memory where that can be: where no disk matters, syncing to one would only take time."""
    shm = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="ccstore-test-", dir=shm if shm.is_dir() else None))
    yield folder
    remove(folder)


@dataclass
class Shell:
    """Runs `ccstore` in a project as a user would."""

    project: Path
    store: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = (str(CCSTORE),)

    def run(
        self, *arguments: str, status: int | None = 0, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command; `status` is the exit status it must have (None: any)."""
        found = subprocess.run(
            [*self.program, *arguments],
            cwd=self.project,
            env={**os.environ, "CCSTORE_STORE": str(self.store), **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if status is not None:
            assert found.returncode == status, (
                f"{arguments}: {found.returncode}\n{found.stdout}\n{found.stderr}"
            )
        return found

    def path(self, target: str) -> Path:
        return Path(self.run("path", target).stdout.strip())

    def realize(self, *targets: str) -> list[Path]:
        return [Path(line) for line in self.run("realize", *targets).stdout.splitlines()]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def session_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the realised toolchain."""
    project = tmp_path_factory.mktemp("toolchain-project")
    store = project / "store"
    if seed := os.environ.get("CCSTORE_TEST_STORE"):
        clone_store(Path(seed), store)
    write(project / "recipes/ccstore.yml", "project: tests\n")
    write(project / "recipes/import.yml", toolchain_import())
    Shell(project, store).run("realize", "toolchain", timeout=900)
    return store


def toolchain_import() -> str:
    """A recipe file that takes over the repository's toolchain."""
    return f"import: [{REPOSITORY / 'recipes/toolchain.yml'}]\nkind: path\npath: ccstore.yml\n"


@pytest.fixture(scope="session")
def toolchain(session_store: Path) -> Iterator[Tree]:
    """The realised toolchain, as an executor is given it."""
    # asked for by name: the store that CCSTORE_TEST_STORE names may hold older ones too
    path = Shell(session_store.parent, session_store).path("toolchain")
    with Store.open(session_store) as store:
        [info] = [each for each in store.objects.all() if store.objects.path(each.path) == path]
        yield store.objects.tree(info.path)


@pytest.fixture(scope="session")
def guest_store(session_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds what makes a guest's components and images, beside the toolchain."""
    project = tmp_path_factory.mktemp("guest-tools-project")
    write(project / "recipes/ccstore.yml", "project: tests\n")
    recipe = REPOSITORY / "recipes/guest-tools.yml"
    write(project / "recipes/import.yml", f"import: [{recipe}]\nkind: path\npath: ccstore.yml\n")
    store = clone_store(session_store, project / "store")
    Shell(project, store).run("realize", "guest-tools", timeout=900)
    return store


@pytest.fixture(scope="session")
def guest_tools(guest_store: Path) -> Iterator[Tree]:
    """The realised tools, as an executor is given them."""
    path = Shell(guest_store.parent, guest_store).path("guest-tools")
    with Store.open(guest_store) as store:
        [info] = [each for each in store.objects.all() if store.objects.path(each.path) == path]
        yield store.objects.tree(info.path)


@pytest.fixture(scope="session")
def real_kernel(guest_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The repository's kernel, built once in a test run in a store of its own, and an initramfs to boot."""
    root = tmp_path_factory.mktemp("kernel")
    write(root / "recipes/ccstore.yml", "project: real\n")
    names = ("recipes/kernel.yml", "recipes/toolchain.yml", "tests/data/guest/initramfs.yml")
    imports = ", ".join(str(REPOSITORY / name) for name in names)
    write(root / "recipes/imports.yml", f"import: [{imports}]\nkind: path\npath: ccstore.yml\n")
    project = Shell(root, clone_store(guest_store, root / "store"))
    project.run("realize", "kernel", timeout=2400)
    return project


@pytest.fixture
def seeded_store(session_store: Path, tmp_path: Path) -> Path:
    """A store of one's own that already holds the toolchain."""
    return clone_store(session_store, tmp_path / "store")


def clone_store(store: Path, to: Path) -> Path:
    """Copies a store; objects are immutable and so may share their files."""
    shutil.copytree(store, to, symlinks=True, ignore=shutil.ignore_patterns("objects", "evaluations"))
    (to / "evaluations").mkdir()
    (to / "objects").mkdir()
    objects = [str(each) for each in (store / "objects").iterdir() if not each.name.startswith(".tmp-")]
    subprocess.run(["cp", "-al", "-t", str(to / "objects"), *objects], check=True)
    return to


@dataclass
class TinyProject:
    """A project with one kernel recipe over the tiny Kbuild tree of tests/data."""

    root: Path
    shell: Shell

    def pack_source(self) -> str:
        """Packs the tree as the recipe's tarball and returns its SHA-256."""
        tarball = self.root / "tinylinux.tar.xz"
        with tarfile.open(tarball, "w:xz", preset=0) as archive:
            archive.add(DATA / "tinylinux", "tinylinux-1.0.0", filter=_plain)
        return subprocess.run(
            ["sha256sum", tarball], capture_output=True, text=True, check=True
        ).stdout.split()[0]


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same archive on every machine."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 1
    return entry


def tiny_project(root: Path, store: Path) -> TinyProject:
    """Writes a tiny kernel project into the empty folder `root`."""
    project = TinyProject(root, Shell(root, store))
    write(root / "recipes/ccstore.yml", "project: tiny\n")
    shutil.copytree(DATA / "tinylinux-config", root / "config")
    shutil.copytree(DATA / "tinylinux-patches", root / "patches")
    digest = project.pack_source()
    fragments = ", ".join(f"../config/{each.name}" for each in sorted((root / "config").iterdir()))
    write(
        root / "recipes/kernel.yml",
        f"""kind: kernel
import: [{REPOSITORY / "recipes/toolchain.yml"}]
version: 1.0.0
toolchain: toolchain
source:
  url: [file://{root}/tinylinux.tar.xz]
  sha256: {digest}
patches: ../patches
config:
  base: tinyconfig
  fragments: [{fragments}]
timeout: 5m
""",
    )
    return project


@pytest.fixture
def tiny(tmp_path: Path, seeded_store: Path) -> TinyProject:
    """A tiny kernel project in an empty folder, with a store that holds the toolchain."""
    return tiny_project(tmp_path / "project", seeded_store)


@pytest.fixture(scope="session")
def session_kernel(session_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    """The tiny project with its kernel realised, for tests that only look."""
    folder = tmp_path_factory.mktemp("session-kernel")
    project = tiny_project(folder / "project", clone_store(session_store, folder / "store"))
    project.shell.run("realize", "kernel")
    return project


@pytest.fixture
def realised(session_kernel: TinyProject, tmp_path: Path) -> TinyProject:
    """A copy of the realised tiny project that a test may change. Objects share their files with the original."""
    root = tmp_path / "project"
    shutil.copytree(session_kernel.root, root)
    return TinyProject(root, Shell(root, clone_store(session_kernel.shell.store, tmp_path / "store")))
