"""Real builds: in the sandbox, as whoever runs the tests and, when that is root, once more as an ordinary user;
and, for a module that says so in EXECUTORS, by every other executor.

A test that asks for `builds` runs once for each of these. As an ordinary user it runs in a forked child that has
given up root, so that it can be written as if there were nothing special about it.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from ccstore.codec.nar import nar_hash
from ccstore.codec.rechannel import Remote
from ccstore.executor.docker import Docker
from ccstore.executor.remote import RemoteExecutor
from ccstore.executor.sandbox import Sandbox
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry, Manifest
from ccstore.ports import BuildRequest, BuildResult, Cancel, Executor, Tree
from ccstore.store.files import remove
from ccstore.store.overlay import complete
from tests.cluster.casd import casd as casd
from tests.cluster.grid import grid as grid
from tests.conftest import unmet
from tests.images import docker_host as docker_host

if TYPE_CHECKING:
    from .attacking import Attacks

BUSYBOX = Path("/bin/busybox")
NOBODY = 65534
FOLDERS = ("in", "build", "out", "tmp", "dev", "proc", "bin", "usr", "etc")


@dataclass(frozen=True)
class PlainTree:
    """A folder or file as a store object would have it, hashed when it is asked for."""

    path: Path

    @property
    def nar_hash(self) -> Sha256:
        return nar_hash(self.path)[0]

    def entries(self) -> Manifest:
        return _entries(self.path, "")

    def open(self, path: str) -> BinaryIO:
        return (self.path / path).open("rb")


def _entries(place: Path, path: str) -> Manifest:
    if place.is_symlink():
        yield Entry(path, "symlink", target=str(place.readlink()))
    elif place.is_dir():
        yield Entry(path, "directory")
        for name in sorted(os.listdir(place), key=os.fsencode):
            yield from _entries(place / name, f"{path}/{name}" if path else name)
    else:
        data, executable = place.read_bytes(), bool(place.stat().st_mode & stat.S_IXUSR)
        digest = hashlib.sha256(data).digest()
        yield Entry(path, "file", executable, len(data), digest, digest[:16])


@dataclass(frozen=True)
class Done:
    result: BuildResult
    log: str
    request: BuildRequest

    def out(self, path: str = "out") -> str:
        return (self.request.staging / path).read_text()

    def tree(self, output: str = "out") -> dict[str, str]:
        """What the output is once registered: content by path, `*` before that of a program, `->` before a link's."""
        place = self.request.staging / output
        if output in self.request.overlays:
            base = self.request.inputs[self.request.overlays[output]]
            complete(place, base.path, base.entries())
        return {entry.path: _shown(place / entry.path, entry) for entry in PlainTree(place).entries()}


def _shown(place: Path, entry: Entry) -> str:
    if entry.type == "directory":
        return "/"
    if entry.type == "symlink":
        return f"-> {entry.target}"
    return "*" * entry.executable + place.read_text(errors="surrogateescape")


@pytest.fixture(scope="session")
def python_tree(toolchain: Tree) -> Iterator[Path]:
    """The toolchain, where every user can read it."""
    with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
        Path(folder).chmod(0o755)
        root = Path(folder) / "toolchain"
        subprocess.run(["cp", "-al", toolchain.path, root], check=True)
        yield root
        remove(root)


@pytest.fixture
def attacks(builds: Builds, python_tree: Path) -> Attacks:
    from .attacking import Attacks

    return Attacks(builds, PlainTree(python_tree))


def unheard(data: bytes) -> None:
    """A log for builds of which only the end matters."""


def marker() -> str:
    """An argument of `sleep` that no other process on this machine has."""
    return f"{random.randrange(10**6, 10**7)}.{random.randrange(10**6):06}"


def processes(mark: str) -> list[int]:
    """The processes of the host that have `mark` in their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
    return found


def alive(mark: str) -> bool:
    return bool(processes(mark))


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def mounts_below(place: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(place) in line]


class Builds:
    """Makes requests for a root tree with busybox in it, runs them, and looks for what they leave behind."""

    def __init__(self, place: Path, root: Path, executor: Executor) -> None:
        self.place = place
        self.executor = executor
        self.root = PlainTree(root)
        self.count = 0

    def tree(self, name: str, files: Mapping[str, str]) -> PlainTree:
        """A read-only tree, as the store keeps it."""
        top = self.place / "trees" / name
        for path, text in files.items():
            (top / path).parent.mkdir(parents=True, exist_ok=True)
            (top / path).write_text(text)
        for here, _, names in os.walk(top, topdown=False):
            for each in names:
                (Path(here) / each).chmod(0o444)
            Path(here).chmod(0o555)
        return PlainTree(top)

    def request(self, script: str, **options: Any) -> BuildRequest:
        self.count += 1
        scratch, staging = self.place / f"scratch-{self.count}", self.place / f"staging-{self.count}"
        scratch.mkdir()
        staging.mkdir()
        given = {"root": self.root, "argv": ("/bin/sh", "-c", script), **options}
        return BuildRequest(label="test", scratch=scratch, staging=staging, **given)

    def run(self, script: str, cancel: Cancel | None = None, **options: Any) -> Done:
        request = self.request(script, **options)
        chunks: list[bytes] = []
        result = self.executor.build(request, chunks.append, cancel or Cancel())
        assert mounts_below(request.staging) == mounts_below(request.scratch) == []
        if not request.keep_failed:
            assert list(request.scratch.iterdir()) == []
            assert result.outcome == "built" or list(request.staging.iterdir()) == []
        return Done(result, b"".join(chunks).decode(errors="replace"), request)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "setting" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker("executors")
        executors = marked.args if marked else getattr(metafunc.module, "EXECUTORS", ("sandbox",))
        settings = [f"{each}-caller" for each in executors]
        if os.geteuid() == 0 and "sandbox" in executors:
            settings.insert(1, "sandbox-ordinary")
        metafunc.parametrize("setting", settings)


@pytest.fixture
def user(setting: str) -> str:
    return setting.partition("-")[2]


@pytest.fixture
def executor(setting: str, tmp_path: Path, request: pytest.FixtureRequest) -> Executor:
    if setting.startswith("docker"):
        host = request.getfixturevalue("docker_host")
        return Docker(tmp_path / "docker", {**os.environ, "DOCKER_HOST": host})
    if setting.startswith("remote"):
        return RemoteExecutor(Remote(request.getfixturevalue("casd")))
    if setting.startswith("cluster"):
        return RemoteExecutor(Remote(request.getfixturevalue("grid").url))
    return Sandbox()


@pytest.fixture
def url(setting: str, request: pytest.FixtureRequest) -> str:
    """Where the service is that a test builds on."""
    if setting.startswith("cluster"):
        return str(request.getfixturevalue("grid").url)
    return str(request.getfixturevalue("casd"))


@pytest.fixture
def blob(setting: str, url: str, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Gives the file in which that service keeps the blob of a SHA-256."""
    if setting.startswith("cluster"):
        top = request.getfixturevalue("grid").folder / "cas"
    else:
        top = Path(url.removeprefix("unix:")).parent / "cache"
    return lambda digest: top / "cas/objects" / digest[:2] / digest[2:]


@pytest.fixture
def place(user: str, tmp_path: Path) -> Iterator[Path]:
    """A folder of that user; pytest's own folders are closed to others."""
    if user == "caller":
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
        os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


@pytest.fixture(scope="session")
def root_tree() -> Iterator[Path]:
    """A small root with busybox in it, open to every user."""
    if not BUSYBOX.exists():
        unmet(f"{BUSYBOX} (package busybox-static) is needed to make a root tree")
    with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        for name in FOLDERS:
            (root / name).mkdir()
        shutil.copy(BUSYBOX, root / "bin/busybox")
        listed = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout
        for applet in listed.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        yield root


@pytest.fixture
def builds(place: Path, user: str, root_tree: Path, executor: Executor) -> Builds:
    if user == "ordinary" and not readable_by_others(Path(sys.modules[Sandbox.__module__].__file__ or "")):
        unmet("this checkout is closed to other users, so no other user can run it")
    return Builds(place, root_tree, executor)


def readable_by_others(path: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in path.resolve().parents)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if pyfuncitem.funcargs.get("user") != "ordinary":
        return None
    names = pyfuncitem._fixtureinfo.argnames
    values = {name: pyfuncitem.funcargs[name] for name in names}
    in_child(lambda: pyfuncitem.obj(**values), give_up_root)
    return True


def give_up_root() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def in_child(action: Callable[[], object], before: Callable[[], object]) -> None:
    """Runs `before` and `action` in a forked child, and fails with its traceback if it fails."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            before()
            action()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        try:
            text = file.read().decode()
        except BaseException:  # the test's time is up: pytest's handler writes where the child is
            os.kill(child, signal.SIGABRT)
            os.waitpid(child, 0)
            raise
    _, status = os.waitpid(child, 0)
    if status != 0:
        pytest.fail(f"in a child process ({status}):\n{text}", pytrace=False)
