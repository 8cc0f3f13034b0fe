"""A host that cannot: a disk that fills up, a store that cannot be written to, or that a newer ccstore made."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import OtherUser, Project, assert_whole, code, place, small_project
from tests.conftest import Shell, clone_store, unmet

MEGABYTE = 10**6


class Mounts:
    """A mount namespace of its own (as an ordinary user, in a user namespace), for as long as the test runs."""

    def __init__(self, find: Callable[[str], str]) -> None:
        self._find = find
        self._user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        argv = [find("unshare"), *self._user, "--mount", "--propagation", "private"]
        # cat says that the namespaces are there, and lives until its standard input ends
        self._holder = subprocess.Popen(
            [*argv, "sh", "-c", "echo; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout
        if self._holder.stdout.readline() != b"\n":
            unmet("this host lets nobody make a mount namespace")

    def enter(self, folder: Path) -> tuple[str, ...]:
        """What to put before a command so that it runs there, in `folder`."""
        user = ("--user", "--preserve-credentials") if self._user else ()
        return (self._find("nsenter"), f"--target={self._holder.pid}", "--mount", *user, f"--wdns={folder}")

    def run(self, *argv: str | Path) -> None:
        subprocess.run([*self.enter(Path("/")), *argv], check=True)

    def close(self) -> None:
        assert self._holder.stdin
        self._holder.stdin.close()
        self._holder.wait()

    def shell(self, shell: Shell) -> Shell:
        return replace(shell, program=(*self.enter(shell.project), *shell.program))


@pytest.fixture
def mounts(tool: Callable[[str], str]) -> Iterator[Mounts]:
    found = Mounts(tool)
    yield found
    found.close()


def disk_usage(path: Path) -> int:
    listed = subprocess.run(["du", "-s", "-B1", path], capture_output=True, text=True, check=True).stdout
    return int(listed.split()[0])


@pytest.fixture
def cramped(lean_store: Path, tmp_path: Path, mounts: Mounts) -> Project:
    """A project whose store lies on a disk with some 20 MB left."""
    store = tmp_path / "disk/store"
    store.parent.mkdir()
    size = disk_usage(lean_store) + 25 * MEGABYTE
    mounts.run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", store.parent)
    mounts.run("cp", "-a", lean_store, store)
    project = small_project(tmp_path / "project", store)
    project.shell = mounts.shell(project.shell)
    return project


def after_a_full_disk(project: Project, *arguments: str) -> str:
    """Runs a command that fills the disk; the store must be whole, and go on working."""
    found = project.shell.run(*arguments, status=6)
    assert (found.stdout, code(found.stderr)) == ("", "disk-full")
    assert "ccstore gc" in found.stderr
    project.shell.run("verify", "--full")
    project.shell.run("gc")
    prefix = project.shell.program[:-1]
    inside = subprocess.run(
        [*prefix, "find", project.shell.store, "-name", ".tmp-*"], capture_output=True, text=True, check=True
    )
    assert inside.stdout == ""
    project.script("little", "echo little >/out/out")
    done = project.shell.run("realize", "little")
    assert done.stdout.endswith("-little\n")
    project.shell.run("verify", "--full")
    return found.stderr


def test_a_build_that_fills_the_disk(cramped: Project) -> None:
    cramped.script("x", "head -c 100M /dev/zero >/out/out")
    after_a_full_disk(cramped, "realize", "x")


def test_a_download_that_fills_the_disk(cramped: Project) -> None:
    file = cramped.root / "file"
    with file.open("wb") as sink:
        sink.truncate(60 * MEGABYTE)
    digest = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    cramped.recipe("x", f"kind: url\nurl: [file://{file}]\nsha256: {digest}\n")
    after_a_full_disk(cramped, "realize", "x")


def test_a_copy_that_fills_the_disk(cramped: Project) -> None:
    (cramped.root / "file").write_bytes(os.urandom(60 * MEGABYTE))
    cramped.recipe("x", "kind: path\npath: ../file\n")
    after_a_full_disk(cramped, "realize", "x")


def test_a_disk_without_inodes(lean_store: Path, tmp_path: Path, mounts: Mounts) -> None:
    store = tmp_path / "disk/store"
    store.parent.mkdir()
    count = sum(len(folders) + len(files) for _, folders, files in os.walk(lean_store)) + 300
    mounts.run("mount", "-t", "tmpfs", "-o", f"nr_inodes={count},mode=755", "tmpfs", store.parent)
    mounts.run("cp", "-a", lean_store, store)
    project = small_project(tmp_path / "project", store)
    project.shell = mounts.shell(project.shell)
    project.script("x", "mkdir /out/out", "for i in $(seq 1000); do echo >/out/out/$i; done")
    after_a_full_disk(project, "realize", "x")


def assert_read_only(project: Project) -> None:
    """What is there can be used, and nothing can be added."""
    shell = project.shell
    project.script("new", "echo new >/out/out")
    found = shell.run("realize", "new", status=6)
    assert (found.stdout, code(found.stderr)) == ("", "read-only-store")
    assert place(found.stderr) == str(shell.store)
    assert code(shell.run("gc", status=6).stderr) == "read-only-store"
    assert code(shell.run("root", "remove", "small/old", status=6).stderr) == "read-only-store"
    old = shell.run("path", "old").stdout
    assert Path(old.strip()).read_text() == "old\n"
    assert shell.run("plan", "old").stdout == f"present  old  {old}"
    assert shell.run("plan", "new").stdout.startswith("build")
    assert shell.run("verify").stdout == ""


def test_a_store_on_a_read_only_disk(small: Project, mounts: Mounts) -> None:
    small.script("old", "echo old >/out/out")
    small.shell.run("realize", "old")
    store = small.shell.store
    mounts.run("mount", "--bind", store, store)
    mounts.run("mount", "-o", "remount,bind,ro", store)
    writable = small.shell
    small.shell = mounts.shell(writable)
    assert_read_only(small)
    assert_whole(writable)


def test_a_store_that_belongs_to_somebody_else(small: Project, other_user: OtherUser) -> None:
    small.script("old", "echo old >/out/out")
    small.shell.run("realize", "old")
    store = clone_store(small.shell.store, other_user.home / "store")
    project = small_project(other_user.home / "project", store)
    (project.root / "recipes/old.yml").write_text((small.root / "recipes/old.yml").read_text())
    other_user.owns(project.root)
    other_user.home.chmod(0o755)
    project.shell = other_user.shell(project.root, store)
    assert_read_only(project)


def test_a_store_that_cannot_even_be_made(small: Project, mounts: Mounts, tmp_path: Path) -> None:
    place_of_store = tmp_path / "read-only"
    place_of_store.mkdir()
    mounts.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place_of_store)
    shell = mounts.shell(Shell(small.root, place_of_store / "store"))
    found = shell.run("realize", "all", status=6)
    assert (found.stdout, code(found.stderr)) == ("", "read-only-store")


def listing(store: Path) -> list[tuple[str, int]]:
    return sorted((str(each), each.lstat().st_mtime_ns) for each in store.rglob("*"))


def newer_layout(store: Path) -> Callable[[], object]:
    before = (store / "format").read_text()
    (store / "format").write_text("ccstore-store 99\n")
    return lambda: (store / "format").write_text(before)


def newer_index(store: Path) -> Callable[[], object]:
    def set_version(number: int) -> int:
        database = sqlite3.connect(store / "index.sqlite")
        [[before]] = database.execute("PRAGMA user_version").fetchall()
        database.execute(f"PRAGMA user_version = {number}")
        database.commit()
        database.close()
        return int(before)

    before = set_version(99)
    return lambda: set_version(before)


@pytest.mark.parametrize("make_newer", [newer_layout, newer_index])
def test_a_store_that_a_newer_version_made(
    small: Project, make_newer: Callable[[Path], Callable[[], object]]
) -> None:
    restore = make_newer(small.shell.store)
    small.script("x", "echo >/out/out")
    before = listing(small.shell.store)
    for verb in (["realize", "x"], ["path", "x"], ["gc"], ["verify"], ["list"], ["root", "list"]):
        found = small.shell.run(*verb, status=6)
        assert (found.stdout, code(found.stderr)) == ("", "newer-store")
        assert "99" in found.stderr
    assert listing(small.shell.store) == before
    restore()
    small.shell.run("realize", "x")
    assert_whole(small.shell)


def test_a_folder_that_is_no_store(small: Project, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/format").write_text("my notes\n")
    found = Shell(small.root, tmp_path / "other").run("realize", "all", status=6)
    assert (found.stdout, code(found.stderr)) == ("", "store-unusable")
    assert (tmp_path / "other/format").read_text() == "my notes\n"


def test_a_file_where_the_store_should_be(small: Project, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    found = Shell(small.root, tmp_path / "other").run("realize", "all", status=6)
    assert (found.stdout, code(found.stderr)) == ("", "store-unusable")


def test_a_place_that_takes_no_folders(small: Project) -> None:
    found = Shell(small.root, Path("/proc")).run("realize", "all", status=6)
    assert (found.stdout, code(found.stderr), place(found.stderr)) == ("", "store-unusable", "/proc")
