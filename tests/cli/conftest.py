"""Projects that the tests of the command line start from, and what they look at afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic
import pytest

from tests.conftest import REPOSITORY, Shell, clone_store, unmet, write

NOBODY = 65534


def built(stderr: str) -> list[str]:
    """The steps that a run built, in the order in which they were done."""
    return re.findall(r"^(\S+): built after", stderr, re.MULTILINE)


def fetched(stderr: str) -> list[str]:
    return re.findall(r"^(\S+): fetched after", stderr, re.MULTILINE)


def code(stderr: str) -> str:
    """The stable code of the one error that a command showed."""
    [found] = re.findall(r"^error: .* \[([a-z-]+)\]$", stderr, re.MULTILINE)
    return str(found)


def place(stderr: str) -> str:
    """Where the error says that it lies."""
    return re.findall(r"^  at (.*)$", stderr, re.MULTILINE)[0] if "\n  at " in stderr else ""


def leftovers(store: Path) -> list[Path]:
    """What a run that is over must not leave in a store."""
    folders = ("objects", "manifests", "realisations", "drvs", "temproots")
    hidden = [path for folder in folders for path in (store / folder).iterdir() if path.name[0] == "."]
    return [*hidden, *(store / "temproots").iterdir()]


def assert_whole(shell: Shell) -> None:
    """Nothing in the store is lost or half there."""
    shell.run("verify", "--full")
    shell.run("gc")
    assert leftovers(shell.store) == []


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))


def processes_with(word: str) -> list[str]:
    """Command lines of the processes on this machine that have `word` in them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if word in line:
            found.append(line)
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60, what: str = "it") -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


@dataclass
class Project:
    """A project with recipes of a few lines, and a store that holds the toolchain."""

    root: Path
    shell: Shell

    def recipe(self, name: str, text: str) -> Path:
        return write(self.root / f"recipes/{name}.yml", text)

    def script(self, name: str, *lines: str, **fields: str) -> Path:
        """A `build` recipe that runs `lines`; `fields` are further lines of YAML."""
        more = "".join(f"{key}: {value}\n" for key, value in fields.items())
        body = "".join(f"  {line}\n" for line in lines)
        return self.recipe(name, f"kind: build\ntoolchain: toolchain\n{more}script: |\n{body}")

    def fails(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs a command that must fail: nothing on stdout, one error, and a whole store afterwards."""
        found = self.shell.run(*arguments, status=None, timeout=timeout)
        assert found.returncode != 0
        assert found.stdout == ""
        assert "Traceback" not in found.stderr
        assert_whole(self.shell)
        return found


def small_project(root: Path, store: Path) -> Project:
    write(root / "recipes/ccstore.yml", "project: small\n")
    project = Project(root, Shell(root, store))
    project.recipe(
        "all", f"import: [{REPOSITORY / 'recipes/toolchain.yml'}]\nkind: path\npath: ccstore.yml\n"
    )
    return project


@pytest.fixture(scope="session")
def lean_store(session_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the toolchain alone: the packages that it was made from are collected, and what others keep."""
    folder = tmp_path_factory.mktemp("lean")
    store = clone_store(session_store, folder / "store")
    shell = Shell(folder, store)
    kept = [line.split()[0] for line in shell.run("root", "list").stdout.splitlines()]
    if others := [name for name in kept if name != "tests/toolchain"]:
        shell.run("root", "remove", *others)
    shell.run("gc", "--no-keep-inputs")
    [left] = (store / "objects").iterdir()
    assert left.name.endswith("-toolchain")
    return store


@pytest.fixture
def small(lean_store: Path, tmp_path: Path) -> Project:
    """A project without a recipe of its own."""
    return small_project(tmp_path / "project", clone_store(lean_store, tmp_path / "store"))


class Running:
    """A `ccstore` that runs beside the test, with its output in files."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self._folder = shell.store.parent
        self._name = f"run-{time.monotonic_ns()}"
        with self._file("out").open("w") as out, self._file("err").open("w") as err:
            self.process = subprocess.Popen(
                [*shell.program, *arguments],
                cwd=shell.project,
                env={**os.environ, "CCSTORE_STORE": str(shell.store), **shell.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def _file(self, kind: str) -> Path:
        return self._folder / f"{self._name}.{kind}"

    @property
    def stdout(self) -> str:
        return self._file("out").read_text()

    @property
    def stderr(self) -> str:
        return self._file("err").read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds)

    def end(self) -> None:
        """For a test that failed half-way: the command must not outlive it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        unmet("only root can become another user: run the tests as root, as CI does")


@dataclass
class OtherUser:
    """An ordinary user who is not the one that runs the tests, with a folder that is theirs."""

    home: Path
    program: tuple[str, ...]
    environment: dict[str, str]

    def owns(self, *paths: Path) -> None:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", *paths], check=True)

    def shell(self, project: Path, store: Path) -> Shell:
        return Shell(project, store, self.environment, self.program)


MAIN = "from ccstore.cli.main import main; main()"


@pytest.fixture
def other_user(root: None, tool: Callable[[str], str]) -> Iterator[OtherUser]:
    """Runs this checkout's ccstore as another user, with a Python that they may run."""
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    packages = str(Path(pydantic.__file__).parent.parent)
    # pytest's own folders are closed to others
    with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
        environment = {"HOME": folder, "PYTHONPATH": f"{REPOSITORY}:{packages}"}
        for python in (sys.executable, "/usr/bin/python3"):
            program = (tool("setpriv"), *ids, python, "-c", MAIN)
            tried = subprocess.run([*program, "schema"], env=os.environ | environment, capture_output=True)
            if tried.returncode == 0:
                yield OtherUser(Path(folder), program, environment)
                return
    unmet("this checkout or its Python is closed to other users, so no other user can run this ccstore")
