"""`ccstore why`: every kind of leaf that can change, found from what the store kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project, code, edit
from tests.conftest import REPOSITORY, Shell, TinyProject

GREETING = "config/20-greeting.config"
BUS = "patches/0001-bus-say-that-a-patch-was-here.patch"
CLOCK = "patches/0002-clock-a-driver-that-tells-no-time.patch"


@pytest.fixture
def edited(session_kernel: TinyProject, tmp_path: Path) -> TinyProject:
    """A copy of the realised project; its store is the original's, as nothing is realised here."""
    root = tmp_path / "project"
    shutil.copytree(session_kernel.root, root)
    return TinyProject(root, Shell(root, session_kernel.shell.store))


def asked(project: TinyProject | Project, target: str = "kernel") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.shell.run("why", target, "--json").stdout)
    return found


def test_nothing_changed(session_kernel: TinyProject) -> None:
    said = session_kernel.shell.run("why", "kernel")
    assert said.stdout.startswith("nothing changed since kernel was last realised, at ")
    answer = asked(session_kernel)
    assert set(answer) == {"target", "since", "derivation", "state", "changes"}
    assert (answer["state"], answer["changes"]) == ("current", [])
    [shown] = json.loads(session_kernel.shell.run("show", "kernel").stdout)
    assert answer["derivation"] == shown["id"]
    for step in ("kernel.config", "kernel^dev", "toolchain.bash"):
        assert asked(session_kernel, step)["state"] == "current"


def comment(root: Path) -> None:
    with (root / GREETING).open("a") as fragment:
        fragment.write("# nothing new\n")


def symbol(root: Path) -> None:
    edit(root / GREETING, "CONFIG_REPEAT=2\n# CONFIG_MODULES is not set\n", "CONFIG_REPEAT=3\nCONFIG_NET=y\n")


def hunk(root: Path) -> None:
    edit(root / BUS, "found, patched", "found, patched twice")


def header(root: Path) -> None:
    edit(root / BUS, "A changed line, so", "A line is changed, so")


def fewer_patches(root: Path) -> None:
    (root / CLOCK).unlink()


def no_patches(root: Path) -> None:
    edit(root / "recipes/kernel.yml", "patches: ../patches\n", "")


def one_patch(root: Path) -> None:
    edit(root / "recipes/kernel.yml", "patches: ../patches\n", f"patches: ../{BUS}\n")


def value(root: Path) -> None:
    edit(root / "recipes/kernel.yml", "timeout: 5m", "timeout: 6m\nlocalversion: -two")


def fragment(root: Path) -> None:
    (root / "config/15-net.config").write_text("CONFIG_NET=y\n")
    edit(root / "recipes/kernel.yml", ", ../config/20", ", ../config/15-net.config, ../config/20")


def order(root: Path) -> None:
    words = "../config/10-devices.config", "../config/20-greeting.config"
    edit(root / "recipes/kernel.yml", ", ".join(words), ", ".join(reversed(words)))


def source(root: Path) -> None:
    recipe = root / "recipes/kernel.yml"
    words = recipe.read_text().split()
    edit(recipe, words[words.index("sha256:") + 1], "0" * 64)
    edit(recipe, "/tinylinux.tar.xz", "/tinylinux-2.tar.xz")


def package(root: Path) -> None:
    """The toolchain's lock with another bash."""
    for name in ("recipes/toolchain.yml", "kernel/pins/toolchain.yml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, root / name)
    edit(root / "recipes/kernel.yml", f"import: [{REPOSITORY / 'recipes/toolchain.yml'}]\n", "")
    lock = root / "kernel/pins/toolchain.yml"
    [line] = [each for each in lock.read_text().splitlines() if '"name": "bash"' in each]
    entry = json.loads(line.removeprefix("- "))
    edit(lock, line, "- " + json.dumps(entry | {"version": "9.9-1", "sha256": "9" * 64}))


def bash_version() -> str:
    [line] = [
        each
        for each in (REPOSITORY / "kernel/pins/toolchain.yml").read_text().splitlines()
        if '"name": "bash"' in each
    ]
    return str(json.loads(line.removeprefix("- "))["version"])


CHANGES: list[tuple[Callable[[Path], None], list[str]]] = [
    (comment, [f"{GREETING}: comments, or the order of lines"]),
    (
        symbol,
        [
            f"{GREETING}:4: CONFIG_REPEAT: 2 → 3",
            f"{GREETING}:5: CONFIG_NET: y (new)",
            f"{GREETING}:5: CONFIG_MODULES: n (gone)",
        ],
    ),
    (
        hunk,
        [
            f"{BUS}:8: drivers/bus.c, hunk 1, line 2: "
            r'+ tiny_print("bus: found, patched\n"); → + tiny_print("bus: found, patched twice\n");'
        ],
    ),
    (header, [f"{BUS}: only what stands around its hunks"]),
    (fewer_patches, [f"{CLOCK}: a patch of 4 hunks (gone)"]),
    (no_patches, ["patches: patches (gone)"]),
    (one_patch, [f"{CLOCK}: a patch of 4 hunks (gone)"]),
    (value, ["recipes/kernel.yml: localversion: (empty) → -two"]),
    (fragment, ["config/15-net.config:1: CONFIG_NET: y (new)"]),
    (
        order,
        [
            "recipes/kernel.yml: order: config/10-devices.config, config/20-greeting.config "
            "→ config/20-greeting.config, config/10-devices.config"
        ],
    ),
    (source, ["kernel.source: tinylinux.tar.xz → tinylinux-2.tar.xz"]),
    (package, [f"toolchain.bash: {bash_version()} → 9.9-1"]),
]


@pytest.mark.parametrize(("change", "lines"), CHANGES, ids=[each.__name__ for each, _ in CHANGES])
def test_each_leaf_that_can_change(
    edited: TinyProject, change: Callable[[Path], None], lines: list[str]
) -> None:
    change(edited.root)
    said = edited.shell.run("why", "kernel")
    assert said.stdout.splitlines() == lines
    assert f"{len(lines)} change" in said.stderr


def test_only_what_is_behind_the_target(edited: TinyProject) -> None:
    hunk(edited.root)
    value(edited.root)
    assert len(asked(edited, "kernel.patched")["changes"]) == 1
    assert asked(edited, "kernel.tree")["state"] == "current"
    answer = asked(edited)
    assert answer["state"] == "changed"
    [first, second] = answer["changes"]
    assert (first["kind"], first["step"], first["leaf"], first["line"]) == ("hunk", "./patches", BUS, 8)
    assert second == {
        "kind": "value",
        "step": "kernel",
        "leaf": "recipes/kernel.yml",
        "what": "localversion",
        "old": "",
        "new": "-two",
        "line": None,
    }


@pytest.mark.parametrize("change", [symbol, hunk, package])
def test_a_store_without_lineages_tells_it_too(
    edited: TinyProject, session_kernel: TinyProject, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """As one that an older ccstore filled: derivations, realisations and objects say it."""
    store = tmp_path / "older"
    store.mkdir()
    for each in session_kernel.shell.store.iterdir():
        if each.name != "lineages":
            (store / each.name).symlink_to(each)
    edited.shell.store = store
    change(edited.root)
    lines = next(lines for each, lines in CHANGES if each is change)
    assert edited.shell.run("why", "kernel").stdout.splitlines() == lines


def test_since_the_last_time_and_not_the_first(realised: TinyProject) -> None:
    """A comment is built in and cut off early: the kernel's realisation stays, its lineage does not."""
    comment(realised.root)
    realised.shell.realize("kernel")
    assert asked(realised)["state"] == "current"
    symbol_only = realised.root / GREETING
    edit(symbol_only, "CONFIG_REPEAT=2", "CONFIG_REPEAT=3")
    assert [each["what"] for each in asked(realised)["changes"]] == ["CONFIG_REPEAT"]
    realised.shell.realize("kernel")
    edit(symbol_only, "CONFIG_REPEAT=3", "CONFIG_REPEAT=2")
    assert [(each["old"], each["new"]) for each in asked(realised)["changes"]] == [("3", "2")]


def test_what_gc_takes_is_known_all_the_same(realised: TinyProject) -> None:
    shell = realised.shell
    shell.run("gc", "--no-keep-inputs")
    hunk(realised.root)
    assert [each["kind"] for each in asked(realised)["changes"]] == ["hunk"]
    edit(realised.root / BUS, "found, patched twice", "found, patched")
    shell.run("root", "remove", "tiny/kernel")
    shell.run("gc")
    assert not list((shell.store / "lineages/tiny").iterdir())
    assert code(shell.run("why", "kernel", status=5).stderr) == "not-realised"


def test_what_was_never_realised(small: Project) -> None:
    small.script("one", "echo 1 >$out")
    found = small.shell.run("why", "one", status=5)
    assert (found.stdout, code(found.stderr)) == ("", "not-realised")


def test_a_script_and_its_inputs(small: Project) -> None:
    (small.root / "data").mkdir()
    (small.root / "data/a").write_text("1\n")
    small.script("one", "cp /in/data/a $out", "true", inputs="{data: {path: ../data}}")
    small.shell.realize("one")
    (small.root / "data/b").write_text("2\n")
    (small.root / "data/a").write_text("3\n")
    small.script("one", "cp /in/data/b $out", "true", inputs="{data: {path: ../data}}", env="{A: x}")
    assert small.shell.run("why", "one").stdout.splitlines() == [
        "data/a: line 1: 1 → 3",
        "data/b: 2 bytes (new)",
        "recipes/one.yml: env.A: x (new)",
        "recipes/one.yml: script line 1: cp /in/data/a $out → cp /in/data/b $out",
    ]
