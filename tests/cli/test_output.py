"""Where answers go: readers that leave, full disks, and the same answer with and without the evaluation cache."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.graph import Graph, Local
from tests.cli.conftest import code
from tests.conftest import CCSTORE, Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A project whose recipe `f` is a file: nothing is fetched or built."""
    recipes = tmp_path / "project/recipes"
    recipes.mkdir(parents=True)
    (recipes / "ccstore.yml").write_text("project: p\n")
    (recipes / "f.yml").write_text("kind: path\npath: ../f\n")
    (recipes.parent / "f").write_text("f\n")
    return Shell(recipes.parent, tmp_path / "store")


def run_to(shell: Shell, stdout: int, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [CCSTORE, *arguments],
        cwd=shell.project,
        env={**os.environ, "CCSTORE_STORE": str(shell.store)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["schema"], ["list"], ["path", "f"], ["path", "--json", "f"]])
def test_a_reader_that_went_away_is_no_internal_error(shell: Shell, arguments: list[str]) -> None:
    shell.run("realize", "f")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_to(shell, writer, *arguments) == (141, "")
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", [["schema"], ["path", "f"], ["path", "--json", "f"]])
def test_an_answer_that_no_disk_takes(shell: Shell, arguments: list[str]) -> None:
    shell.run("realize", "f")
    with Path("/dev/full").open("w") as full:
        status, said = run_to(shell, full.fileno(), *arguments)
    assert (status, code(said)) == (6, "disk-full")


@pytest.mark.parametrize("group", [(), ("cache",), ("root",)])
def test_a_group_alone_shows_its_help(shell: Shell, group: tuple[str, ...]) -> None:
    alone = shell.run(*group, status=2)
    assert (alone.stdout, alone.stderr) == ("", shell.run(*group, "--help").stdout)


def test_a_misspelt_verb_is_told_the_right_one(shell: Shell) -> None:
    found = shell.run("relize", "f", status=2).stderr
    assert code(found) == "usage"
    assert "next: did you mean realize?" in found
    assert "next: did you mean pull?" in shell.run("cache", "pul", "f", status=2).stderr
    assert "next: `ccstore --help`" in shell.run("frobnicate", status=2).stderr


def test_path_wants_one_target_with_a_warm_cache_too(shell: Shell) -> None:
    shell.run("realize", "f")
    assert code(shell.run("path", "f", "f", status=2).stderr) == "usage"


def test_plan_says_the_same_with_a_warm_cache(shell: Shell) -> None:
    shell.run("realize", "f")
    assert len(shell.run("plan", "f", "f").stdout.splitlines()) == 1


def test_the_step_of_a_file_is_no_target() -> None:
    fixed = Local("./a.config", "a.config", Path("a.config"))
    graph = Graph({fixed.name: fixed})
    with pytest.raises(CcError) as caught:
        graph.find("./a.config")
    assert caught.value.code == "recipe-unknown"


def test_doctor_examines_a_store_that_cannot_be_written_to(shell: Shell) -> None:
    found = shell.run("doctor", "--store", "/sys", status=6)
    assert "user namespaces" in found.stdout
    assert code(found.stderr) != "internal"


def test_hash_of_what_cannot_be_read(shell: Shell) -> None:
    assert code(shell.run("hash", "/proc/self/mem", status=2).stderr) == "file-missing"
    said = shell.run("hash", "/nowhere", status=2).stderr
    assert said.startswith("error: /nowhere cannot be read: No such file or directory [file-missing]\n")
