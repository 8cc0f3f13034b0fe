"""What is built again after a change, and what is not: early cut-off as a user sees it."""

from __future__ import annotations

import json
import lzma
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import MAIN, built, code, edit, fetched
from tests.conftest import Shell, TinyProject

GREETING = "config/20-greeting.config"
BUS_PATCH = "patches/0001-bus-say-that-a-patch-was-here.patch"


def planned(project: TinyProject) -> list[tuple[str, str]]:
    steps: list[dict[str, Any]] = json.loads(project.shell.run("plan", "kernel", "--json").stdout)
    return [(each["action"], each["step"]) for each in steps]


def add_comment(project: TinyProject) -> None:
    with (project.root / GREETING).open("a") as fragment:
        fragment.write("# nothing new\n")


def change_symbol(project: TinyProject) -> None:
    edit(project.root / GREETING, "CONFIG_REPEAT=2", "CONFIG_REPEAT=3")


def change_hunk(project: TinyProject) -> None:
    edit(project.root / BUS_PATCH, "found, patched", "found, patched twice")


def change_header(project: TinyProject) -> None:
    edit(project.root / BUS_PATCH, "A changed line, so", "A line is changed, so")


def change_localversion(project: TinyProject) -> None:
    edit(project.root / "recipes/kernel.yml", "timeout: 5m", "timeout: 5m\nlocalversion: -two")


def change_nothing_that_counts(project: TinyProject) -> None:
    edit(project.root / "recipes/kernel.yml", "timeout: 5m", "timeout: 10m # longer\nsource-date-epoch: 1")


def repack_source(project: TinyProject) -> None:
    """The same tree in another tarball."""
    tarball = project.root / "tinylinux.tar.xz"
    tarball.write_bytes(lzma.compress(lzma.decompress(tarball.read_bytes()), preset=3))
    recipe = project.root / "recipes/kernel.yml"
    words = recipe.read_text().split()
    digest = subprocess.run(
        ["sha256sum", tarball], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    edit(recipe, words[words.index("sha256:") + 1], digest)
    edit(recipe, words[words.index("url:") + 1], f"[file://{tarball}]")


@pytest.mark.parametrize(
    ("change", "steps", "same"),
    [
        (add_comment, ["kernel.config"], True),
        (change_symbol, ["kernel.config", "kernel"], False),
        (change_hunk, ["kernel.patched", "kernel.kconfig", "kernel"], False),
        (change_header, ["kernel.patched"], True),
        (change_localversion, ["kernel"], False),
        (change_nothing_that_counts, [], True),
        (repack_source, ["kernel.tree"], True),
    ],
)
def test_a_change_rebuilds_what_it_must(
    realised: TinyProject, change: Callable[[TinyProject], None], steps: list[str], same: bool
) -> None:
    before = realised.shell.path("kernel")
    change(realised)
    done = realised.shell.run("realize", "kernel")
    assert built(done.stderr) == steps
    assert (done.stdout == f"{before}\n") is same
    assert planned(realised) == [("present", "kernel")]


def test_plan_says_what_a_comment_costs(realised: TinyProject) -> None:
    add_comment(realised)
    assert planned(realised) == [
        ("copy", f"./{GREETING}"),
        ("build", "kernel.config"),
        ("build", "kernel"),
    ]
    text = realised.shell.run("plan", "kernel").stdout
    assert f"input {GREETING}" in text
    assert "its inputs are not known before kernel.config" in text
    assert built(realised.shell.run("realize", "kernel").stderr) == ["kernel.config"]


def test_plan_says_how_long_it_takes(realised: TinyProject) -> None:
    change_symbol(realised)
    (realised.root / "recipes/loud.yml").write_text("kind: kernel\nextends: kernel\nlocalversion: -loud\n")
    steps = {each["step"]: each for each in json.loads(realised.shell.run("plan", "loud", "--json").stdout)}
    config, loud = steps["kernel.config"], steps["loud"]
    assert config["expectedSeconds"] > 0
    assert config["expectedLike"] == "kernel.config"
    assert loud["expectedLike"] == "kernel"  # never built, and another kernel was
    assert loud["expectedEnd"] == pytest.approx(config["expectedSeconds"] + loud["expectedSeconds"])
    said = realised.shell.run("plan", "loud")
    assert re.search(r"^build    loud  \(.*; takes [\d.]+ s, as kernel does\)$", said.stdout, re.MULTILINE)
    assert re.search(r"to build: 2; done in about [\d.]+ s$", said.stderr, re.MULTILINE)


def test_a_repacked_source_is_fetched(realised: TinyProject) -> None:
    repack_source(realised)
    assert planned(realised)[0] == ("fetch", "kernel.source")
    assert fetched(realised.shell.run("realize", "kernel").stderr) == ["kernel.source"]


def test_going_back_builds_nothing(realised: TinyProject) -> None:
    before = realised.shell.path("kernel")
    change_symbol(realised)
    realised.shell.run("realize", "kernel")
    edit(realised.root / GREETING, "CONFIG_REPEAT=3", "CONFIG_REPEAT=2")
    back = realised.shell.run("realize", "kernel")
    assert (built(back.stderr), back.stdout) == ([], f"{before}\n")


def flip_byte(path: Path) -> None:
    """Changes one byte and nothing else that `ls` shows."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[data.index(b"hello")] = ord("j")
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(
    "evaluated", [True, False], ids=["after an evaluation was cached", "with no evaluation"]
)
def test_a_flipped_byte_is_noticed(realised: TinyProject, evaluated: bool) -> None:
    if evaluated:
        [before] = realised.shell.realize("kernel")
        assert list((realised.shell.store / "evaluations").iterdir())
    else:
        before = realised.shell.path("kernel")
    flip_byte(realised.root / GREETING)
    assert realised.shell.run("path", "kernel", status=5).stdout == ""
    assert ("build", "kernel.config") in planned(realised)
    assert realised.shell.run("plan", "kernel").stdout.startswith("copy")
    [after] = realised.shell.realize("kernel")
    assert after != before
    assert b"jello from a tiny guest" in (after / "vmlinux").read_bytes()


HEAVY = {"pydantic", "yaml", "click", "sqlite3", "httpx", "rich", "asyncio", "pathlib", "json", "typing"}


@pytest.mark.parametrize("option", ["", "--store {}", "--store={}"])
@pytest.mark.parametrize("verb", ["realize", "path", "plan"])
def test_an_answer_at_hand_imports_nothing_heavy(
    session_kernel: TinyProject, verb: str, option: str, tmp_path: Path
) -> None:
    shell = session_kernel.shell
    elsewhere = tmp_path if option else shell.store
    quick = Shell(shell.project, elsewhere, program=(sys.executable, "-X", "importtime", "-c", MAIN))
    words = ["kernel", *option.format(shell.store).split()]
    found = quick.run(verb, *words, "kernel") if verb != "path" else quick.run(verb, *words)
    slow = (
        shell.run("plan", "kernel", "--jobs", "1")
        if verb == "plan"
        else shell.run("path", "kernel", "--json")
    )
    if verb == "plan":
        assert found.stdout == slow.stdout
    else:
        assert set(found.stdout.splitlines()) == {json.loads(slow.stdout)["path"]}
    command = [sys.executable, "-X", "importtime", "-c", "pass"]
    alone = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    imported = _imported(found.stderr) - _imported(alone)
    assert "ccstore.build.evaluation" in imported
    assert imported & HEAVY == set()


def _imported(stderr: str) -> set[str]:
    return {line.rpartition("|")[2].strip() for line in stderr.splitlines()}


@pytest.mark.parametrize("words", [("kernel", "--store"), ("--store", "kernel")])
def test_a_store_without_a_name_is_refused(session_kernel: TinyProject, words: tuple[str, ...]) -> None:
    assert code(session_kernel.shell.run("path", *words, status=2).stderr) == "usage"


def test_a_cached_answer_is_only_for_what_was_asked(realised: TinyProject) -> None:
    shell = realised.shell
    [kernel, dev] = shell.realize("kernel", "kernel^dev")
    assert shell.realize("kernel^dev", "kernel") == [dev, kernel]
    assert shell.run("plan", "kernel^dev", "kernel").stdout == f"present  kernel  {dev}\n"
    shell.run("root", "remove", "tiny/kernel")
    shell.run("gc", "--no-keep-inputs")
    assert not kernel.exists()
    assert shell.run("path", "kernel", status=5).stdout == ""
    assert shell.path("kernel^dev") == dev
