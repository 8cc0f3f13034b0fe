"""A project of one's own: `ccstore init` writes one that works at once."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from ccstore.cli.init import GUEST_DATA, guest_files
from tests.cli.conftest import assert_whole, code
from tests.conftest import REPOSITORY, Shell, clone_store


@pytest.fixture
def fresh(lean_store: Path, tmp_path: Path) -> Shell:
    """A new project in a folder that was empty, with a store that holds the toolchain."""
    store = clone_store(lean_store, tmp_path / "store")
    written = Shell(tmp_path, store).run("init", "guest")
    assert all((tmp_path / line).is_file() for line in written.stdout.splitlines())
    assert "next: cd guest && ccstore realize kernel" in written.stderr
    return Shell(tmp_path / "guest", store)


def test_what_init_writes_can_be_planned(fresh: Shell) -> None:
    steps = [line.split()[:2] for line in fresh.run("plan", "kernel").stdout.splitlines()]
    assert steps == [
        ["copy", "./kernel/config/guest.config"],
        ["fetch", "kernel.source"],
        ["build", "kernel.tree"],
        ["build", "kernel.kconfig"],
        ["build", "kernel.config"],
        ["build", "kernel"],
    ]
    assert fresh.run("path", "toolchain").stdout
    assert [line.split()[0] for line in fresh.run("list").stdout.splitlines()] == [
        "kernel",
        "kernel^dev",
        "toolchain",
    ]


def test_init_writes_the_store_out_of_git(fresh: Shell) -> None:
    assert "store" in (fresh.project / ".gitignore").read_text()


def test_init_into_the_current_folder(lean_store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    shell = Shell(tmp_path / "empty", lean_store)
    shell.run("init", ".")
    assert "fetch    kernel.source" in shell.run("plan", "kernel").stdout


def test_init_overwrites_nothing(fresh: Shell, tmp_path: Path) -> None:
    recipe = fresh.project / "recipes/kernel.yml"
    recipe.write_text("mine\n")
    assert code(Shell(tmp_path, fresh.store).run("init", "guest", status=2).stderr) == "project-exists"
    (tmp_path / "other/recipes").mkdir(parents=True)
    (tmp_path / "other/recipes/kernel.yml").write_text("mine\n")
    before = sorted((tmp_path / "other").rglob("*"))
    assert code(Shell(tmp_path, fresh.store).run("init", "other", status=2).stderr) == "project-exists"
    assert recipe.read_text() == (tmp_path / "other/recipes/kernel.yml").read_text() == "mine\n"
    assert sorted((tmp_path / "other").rglob("*")) == before


def test_init_where_nothing_can_be_written(fresh: Shell) -> None:
    for folder in ("/proc/guest", "recipes/kernel.yml/guest"):
        assert code(fresh.run("init", folder, status=2).stderr) == "usage"


def test_the_starters_config_is_granted(fresh: Shell) -> None:
    """Fetches the kernel's source from the Debian mirror."""
    found = fresh.run("realize", "kernel.config", status=None, timeout=900)
    if found.returncode == 6 and not os.environ.get("CCSTORE_REQUIRE_TOOLS"):
        pytest.skip(f"the kernel's source could not be fetched: {found.stderr.splitlines()[-1]}")
    assert found.returncode == 0, found.stderr
    config = Path(found.stdout.strip()).read_text().splitlines()
    fragment = (fresh.project / "kernel/config/guest.config").read_text().splitlines()
    assert {line for line in fragment if line.startswith("CONFIG_")} <= set(config)
    assert_whole(fresh)


def test_a_project_with_guests_is_the_repositorys(lean_store: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path, lean_store)
    written = shell.run("init", "--guest", "vm")
    assert "next: cd vm && ccstore run hello" in written.stderr
    of_it, of_ours = (
        json.loads(Shell(project, lean_store).run("show", "--recursive", "hello").stdout)
        for project in (tmp_path / "vm", REPOSITORY)
    )
    assert of_it == of_ours


def test_what_the_wheel_carries_is_a_project_with_guests() -> None:
    carried = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = carried["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    names = [name for name in guest_files() if name.startswith(("recipes/", "kernel/"))]
    assert len(names) > len(GUEST_DATA)
    for name in names:
        assert any(name == each or name.startswith(f"{each}/") for each in included), name
