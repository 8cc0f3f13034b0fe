"""`ccstore diff`: two kernels side by side, whatever names them; sizes as binutils see them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from ccstore.explain import elf
from tests.cli.conftest import code, edit
from tests.conftest import TinyProject, clone_store


@dataclass
class Two:
    """A project whose kernel was realised, changed and realised again."""

    project: TinyProject
    old: Path
    old_dev: Path
    old_id: str

    def diff(self, *arguments: str, status: int = 0) -> str:
        return self.project.shell.run("diff", *arguments, status=status).stdout


@pytest.fixture(scope="module")
def two(session_kernel: TinyProject, tmp_path_factory: pytest.TempPathFactory) -> Two:
    folder = tmp_path_factory.mktemp("two-kernels")
    root = folder / "project"
    shutil.copytree(session_kernel.root, root)
    project = TinyProject(
        root, type(session_kernel.shell)(root, clone_store(session_kernel.shell.store, folder / "store"))
    )
    old, old_dev = (project.shell.path(each) for each in ("kernel", "kernel^dev"))
    [shown] = json.loads(project.shell.run("show", "kernel").stdout)
    edit(root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=3")
    edit(root / "patches/0001-bus-say-that-a-patch-was-here.patch", "found, patched", "found, patched twice")
    project.shell.realize("kernel")
    return Two(project, old, old_dev, shown["id"])


def test_two_kernels(two: Two) -> None:
    text = two.diff(str(two.old), "kernel")
    made, _, rest = text.partition("files: ")
    assert made.startswith("made from:\n  config/20-greeting.config:4: CONFIG_REPEAT: 2 → 3\n")
    assert "drivers/bus.c, hunk 1, line 2" in made
    assert re.findall(r"^  ~ ([^:]*):", rest, re.MULTILINE) == [
        *("System.map", "bzImage", "config", "kernel-source-info", "vmlinux")
    ]
    assert "configuration in config:\n  CONFIG_REPEAT: 2 → 3\n" in rest
    assert re.search(
        r"^sections of vmlinux: \d+ differ, \+\d+ bytes\n +\+\d+ +\d+ → +\d+  \.text$", rest, re.MULTILINE
    )
    assert re.search(r"^ +\+\d+ +\d+ → +\d+  tiny_hello$", rest, re.MULTILINE)  # by System.map


def test_as_json(two: Two) -> None:
    value = json.loads(two.diff(str(two.old_dev), "kernel^dev", "--json"))
    assert set(value) == {"old", "new", "madeFrom", "files"}
    assert value["old"] == {"name": str(two.old_dev), "path": two.old_dev.name}
    assert [each["kind"] for each in value["madeFrom"]] == ["symbol", "hunk"]
    files = {each["path"]: each for each in value["files"]}
    [symbol] = files["vmlinux.debug"]["symbols"]
    assert symbol["name"] == "tiny_hello"
    assert symbol["new"] > symbol["old"] > 0
    assert [each["what"] for each in files["build/.config"]["config"]] == ["CONFIG_REPEAT"]


def test_whatever_names_them(two: Two) -> None:
    wanted = two.diff(str(two.old), "kernel")
    for name in (two.old.name, f"/nix/store/{two.old.name}", f"{two.old_id}^out", f"{two.old_id[:12]}^out"):
        assert two.diff(name, "kernel") == wanted
    new = two.project.shell.path("kernel")
    assert two.diff(str(two.old), str(new)).partition("files: ")[2] == wanted.partition("files: ")[2]
    config = two.diff(str(two.old / "config"), str(new / "config"))
    assert config.endswith("configuration in the file:\n  CONFIG_REPEAT: 2 → 3\n")
    assert two.diff("kernel", "kernel") == "nothing differs\n"
    assert two.diff(str(two.old), f"{two.old_id}^out") == "nothing differs\n"


def test_what_came_and_went(two: Two) -> None:
    text = two.diff("kernel", "kernel.config")
    assert "  - vmlinux: " in text
    assert "  + (the file): " in text
    assert "kernel.oci is not realised" in two.diff("kernel", "kernel.oci")
    assert len(two.diff("kernel.tree", "toolchain").splitlines()) < 50
    assert "… and" in two.diff("kernel.tree", "toolchain")


@pytest.mark.parametrize(
    ("name", "expected", "status"),
    [
        ("kernle", "recipe-unknown", 2),
        ("00000000^out", "not-found", 5),
        ("/nowhere", "not-found", 5),
        (f"{'0' * 32}-kernel", "not-found", 5),
    ],
)
def test_what_is_not_there(two: Two, name: str, expected: str, status: int) -> None:
    found = two.project.shell.run("diff", name, "kernel", status=status)
    assert code(found.stderr) == expected


def test_sizes_are_those_of_binutils(two: Two) -> None:
    """The image of the kernel is made in a sandbox that has binutils and both outputs."""
    shell = two.project.shell
    data = (shell.path("kernel^dev") / "vmlinux.debug").read_bytes()
    nm = shell.run("shell", "kernel.oci", "--", "nm", "-S", "/in/dev/vmlinux.debug").stdout
    rows = [line.split() for line in nm.splitlines()]
    wanted = {row[3]: int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tTdDbBrR"}
    assert wanted
    assert elf.symbol_sizes(data) == wanted
    sections = shell.run("shell", "kernel.oci", "--", "objdump", "-h", "/in/dev/vmlinux.debug").stdout
    found = re.findall(r"^ +\d+ (\S+) +([0-9a-f]{8}) ", sections, re.MULTILINE)
    ours = elf.section_sizes(data)
    assert {name: int(size, 16) for name, size in found}.items() <= ours.items()
    by_map = elf.map_sizes((shell.path("kernel") / "System.map").read_text())
    assert by_map["tiny_hello"] >= wanted["tiny_hello"]


@pytest.mark.parametrize("cut", [70, 100, -1])
def test_a_damaged_elf_file(two: Two, cut: int) -> None:
    data = (two.old / "vmlinux").read_bytes()[:cut]
    with pytest.raises(ValueError):
        elf.section_sizes(data)
