"""Builds in real sandboxes, as whoever runs the tests and, when that is root, once more as an ordinary user.

A test that asks for `builds` runs twice. The second run happens in a forked child that has given up root, so that
it can be written as if there were nothing special about it.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from ccstore.executor.sandbox import Sandbox
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Manifest
from ccstore.ports import BuildRequest, BuildResult, Cancel, Tree
from ccstore.store.files import remove

if TYPE_CHECKING:
    from .attacking import Attacks

BUSYBOX = Path("/bin/busybox")
NOBODY = 65534
FOLDERS = ("in", "build", "out", "tmp", "dev", "proc", "bin", "usr", "etc")


@dataclass(frozen=True)
class PlainTree:
    """A tree that is nothing but a folder or a file: all that this executor asks for is its path."""

    path: Path

    @property
    def nar_hash(self) -> Sha256:
        raise NotImplementedError

    def entries(self) -> Manifest:
        raise NotImplementedError

    def open(self, path: str) -> BinaryIO:
        raise NotImplementedError


@dataclass(frozen=True)
class Done:
    result: BuildResult
    log: str
    request: BuildRequest

    def out(self, path: str = "out") -> str:
        return (self.request.staging / path).read_text()


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


def mount_table() -> str:
    return Path("/proc/self/mountinfo").read_text()


class Builds:
    """Makes requests for a root tree with busybox in it, runs them, and looks for what they leave behind."""

    def __init__(self, place: Path, root: Path) -> None:
        self.place = place
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
        before = mount_table()
        result = Sandbox().build(request, chunks.append, cancel or Cancel())
        assert mount_table() == before
        if not request.keep_failed:
            assert list(request.scratch.iterdir()) == []
            assert result.outcome == "built" or list(request.staging.iterdir()) == []
        return Done(result, b"".join(chunks).decode(errors="replace"), request)


@pytest.fixture(params=["caller", "ordinary"] if os.geteuid() == 0 else ["caller"])
def user(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
    if not BUSYBOX.exists() and not os.environ.get("CCSTORE_REQUIRE_TOOLS"):
        pytest.skip(f"{BUSYBOX} (package busybox-static) is needed to make a root tree")
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
def builds(place: Path, user: str, root_tree: Path) -> Builds:
    if user == "ordinary" and not readable_by_others(Path(sys.modules[Sandbox.__module__].__file__ or "")):
        pytest.skip("this checkout is closed to other users, so no other user can run it")
    return Builds(place, root_tree)


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
        text = file.read().decode()
    _, status = os.waitpid(child, 0)
    if status != 0:
        pytest.fail(f"in a child process ({status}):\n{text}", pytrace=False)
