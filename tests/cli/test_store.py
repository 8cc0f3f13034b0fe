"""What keeps objects, what removes them, what finds damage and what mends it."""

from __future__ import annotations

import difflib
import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from ccstore.store.files import remove
from tests.cli.conftest import Project, assert_whole, built, code, edit
from tests.conftest import Shell, TinyProject, write


def object_names(shell: Shell) -> set[str]:
    return {each.name.partition("-")[2] for each in (shell.store / "objects").iterdir()}


def root_names(shell: Shell) -> list[str]:
    return [each["name"] for each in json.loads(shell.run("root", "list", "--json").stdout)]


def test_without_roots_gc_empties_the_store(realised: TinyProject) -> None:
    shell = realised.shell
    shell.run("root", "remove", *root_names(shell))
    told = shell.run("gc", "--dry-run").stdout
    assert len(told.splitlines()) == len(list((shell.store / "objects").iterdir()))
    assert shell.run("gc").stdout == told
    for folder in ("objects", "manifests", "drvs", "realisations", "temproots"):
        assert list((shell.store / folder).iterdir()) == []
    assert shell.run("path", "kernel", status=5).stdout == ""
    assert shell.run("verify", "--full").stdout == ""


def test_a_root_keeps_its_closure(realised: TinyProject) -> None:
    shell = realised.shell
    shell.run("gc")
    assert object_names(shell) >= {
        "kernel",
        "kernel-config",
        "kernel-kconfig",
        "kernel-patched",
        "kernel-tree",
        "kernel-source",
    }
    assert object_names(shell) >= {"toolchain", "toolchain-gcc"}
    assert "kernel-dev" not in object_names(shell)
    assert shell.run("plan", "kernel").stdout.startswith("present")
    assert shell.run("plan", "kernel^dev").stdout.startswith("build    kernel  (its object was collected")


def test_collected_inputs_are_not_missed(realised: TinyProject) -> None:
    shell = realised.shell
    report = json.loads(shell.run("gc", "--no-keep-inputs", "--json").stdout)
    counts = {"freedBytes", "kept", "realisations", "logs", "rubbish", "docker"}
    assert set(report) == counts | {"deleted", "waitedFor", "shared"}
    assert report["kept"] == 2
    assert report["freedBytes"] > 0
    assert object_names(shell) == {"kernel", "toolchain"}
    [step] = json.loads(shell.run("plan", "kernel", "--json").stdout)
    assert (step["step"], step["action"]) == ("kernel", "present")
    assert built(shell.run("realize", "kernel").stderr) == []
    assert_whole(shell)
    edit(realised.root / "config/20-greeting.config", "CONFIG_REPEAT=2", "CONFIG_REPEAT=4")
    again = shell.run("realize", "kernel")
    assert built(again.stderr) == [
        "kernel.tree",
        "kernel.patched",
        "kernel.kconfig",
        "kernel.config",
        "kernel",
    ]


def test_age_and_size_spare_objects(small: Project) -> None:
    shell = small.shell
    for number in range(4):
        write(small.root / f"files/{number}", str(number) * 10**6)
        small.recipe(f"file-{number}", f"kind: path\npath: ../files/{number}\n")
        shell.run("realize", f"file-{number}")
    shell.run("root", "remove", *(f"small/file-{number}" for number in range(4)))
    assert shell.run("gc", "--older-than", "1h").stdout == ""
    assert shell.run("gc", "--max-size", "100G").stdout == ""
    listed = subprocess.run(
        ["du", "-s", "-B1", shell.store / "objects"], capture_output=True, text=True, check=True
    )
    wanted = int(listed.stdout.split()[0]) - 1_500_000
    deleted = shell.run("gc", "--max-size", str(wanted)).stdout.splitlines()
    assert [Path(each).name.partition("-")[2] for each in deleted] == ["file-0", "file-1"]
    assert object_names(shell) == {"toolchain", "file-2", "file-3"}
    assert_whole(shell)
    assert object_names(shell) == {"toolchain"}


@pytest.mark.parametrize("option", [["--max-size", "much"], ["--older-than", "1 week"]])
def test_nonsense_limits_are_usage_errors(realised: TinyProject, option: list[str]) -> None:
    assert code(realised.shell.run("gc", *option, status=2).stderr) == "usage"


def test_what_keeps_an_object_is_told_for_a_target_and_for_every_kind_of_path(realised: TinyProject) -> None:
    shell = realised.shell
    tree, kernel, loose = shell.path("kernel.tree"), shell.path("kernel"), shell.path("kernel^dev")
    told = shell.run("gc", "--explain", "kernel.tree").stdout
    lines = told.splitlines()
    assert (lines[0], lines[1].split()[0]) == ("root tiny/kernel", str(kernel))
    assert lines[-2].startswith(f"  made from {tree}  (realisation ")
    assert lines[-1].endswith("`ccstore gc --no-keep-inputs` lets it go")
    (shell.project / "result").symlink_to(tree)
    for path in (
        tree,
        tree / "Makefile",
        f"/nix/store/{tree.name}",
        f"/nix/store/{tree.name}/x",
        tree.name,
        "./result",
    ):
        assert shell.run("gc", "--explain", str(path)).stdout == told
    whole = json.loads(shell.run("gc", "--explain", "kernel", "--json").stdout)
    assert whole["path"] == f"/nix/store/{kernel.name}"
    [keeper] = whole["keptBy"]
    assert (keeper["root"], keeper["input"], len(keeper["chain"])) == ("tiny/kernel", False, 1)
    free = shell.run("gc", "--explain", str(loose))
    assert free.stdout == ""
    assert f"nothing keeps {loose.name}" in free.stderr
    shell.run("gc")
    assert code(shell.run("gc", "--explain", str(loose), status=5).stderr) == "not-found"
    assert code(shell.run("gc", "--explain", "kernel^dev", status=5).stderr) == "not-realised"


def test_roots_are_added_listed_and_removed(realised: TinyProject) -> None:
    shell = realised.shell
    assert sorted(root_names(shell)) == ["tests/toolchain", "tiny/kernel"]
    dev = shell.path("kernel^dev")
    shell.run("root", "add", "kernel^dev", "release/dev-1")
    [root] = [
        each
        for each in json.loads(shell.run("root", "list", "--json").stdout)
        if each["name"] == "release/dev-1"
    ]
    assert set(root) == {"name", "path", "realisation", "created"}
    assert root["path"] == str(dev)
    assert f"release/dev-1  {dev}" in shell.run("root", "list").stdout.splitlines()
    shell.run("gc")
    assert dev.is_dir()
    shell.run("root", "remove", "release/dev-1")
    shell.run("gc")
    assert not dev.exists()
    assert code(shell.run("root", "remove", "release/dev-1", status=2).stderr) == "root-unknown"
    assert code(shell.run("root", "add", "kernel^dev", status=5).stderr) == "not-realised"


def replace(path: Path, data: bytes) -> None:
    """Damages a file of an object and nothing that shares its inode; size, mode and times stay if they can."""
    before, folder = path.stat(), path.parent.stat()
    path.parent.chmod(0o755)
    path.unlink()
    path.write_bytes(data)
    path.chmod(before.st_mode)
    path.parent.chmod(folder.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(path.parent, ns=(folder.st_atime_ns, folder.st_mtime_ns))


def remove_object(path: Path) -> None:
    path.rename(path.parent.parent / "taken-away")


def test_damage_is_found_and_repaired(realised: TinyProject) -> None:
    shell = realised.shell
    kernel, config = shell.path("kernel"), shell.path("kernel.config")
    good = (kernel / "vmlinux").read_bytes()
    replace(kernel / "vmlinux", good[:-1] + bytes([good[-1] ^ 1]))
    remove_object(config)
    found = shell.run("verify", "--json", status=4)
    assert code(found.stderr) == "object-damaged"
    damage = {each["file"]: each["kind"] for each in json.loads(found.stdout)}
    assert damage == {str(kernel / "vmlinux"): "content", str(config): "missing"}
    assert str(kernel / "vmlinux") in shell.run("verify", "--full", status=4).stdout
    mended = shell.run("verify", "--repair")
    assert mended.stdout == ""
    assert "kernel" in built(mended.stderr)
    assert (kernel / "vmlinux").read_bytes() == good
    assert shell.path("kernel.config") == config
    assert_whole(shell)


def test_what_no_recipe_gives_cannot_be_repaired(realised: TinyProject) -> None:
    shell = realised.shell
    kernel = shell.path("kernel")
    replace(kernel / "System.map", b"")
    (realised.root / "recipes/kernel.yml").unlink()
    found = shell.run("verify", "--repair", status=4)
    assert code(found.stderr) == "object-damaged"
    assert "no recipe of this project" in found.stderr
    assert str(kernel / "System.map") in found.stdout


def test_a_lost_index_is_made_again(realised: TinyProject) -> None:
    shell = realised.shell
    kernel = shell.path("kernel")
    (shell.store / "index.sqlite").unlink()
    assert json.loads(shell.run("plan", "kernel", "--json").stdout)[0]["action"] == "present"
    assert shell.path("kernel") == kernel
    assert_whole(shell)


def test_a_lost_index_is_found_and_told_once(realised: TinyProject) -> None:
    shell = realised.shell
    (shell.store / "index.sqlite").unlink()
    [found] = json.loads(shell.run("verify", "--json", status=4).stdout)
    assert (found["kind"], found["damage"], found["file"]) == (
        "index",
        True,
        str(shell.store / "index.sqlite"),
    )
    assert_whole(shell)


def test_the_index_is_made_again_when_asked(realised: TinyProject) -> None:
    """One that is readable in place, beside others that use it; one that is not is put aside."""
    shell, index = realised.shell, realised.shell.store / "index.sqlite"
    kernel = shell.path("kernel")
    with sqlite3.connect(index) as connection:
        connection.execute("UPDATE outputs SET base = NULL, object = NULL")
        connection.execute("UPDATE objects SET nar_size = nar_size + 1")
    connection.close()
    assert {each["kind"] for each in json.loads(shell.run("verify", "--json", status=4).stdout)} >= {"index"}
    assert shell.run("verify", "--rebuild-index", "--full").stdout == ""
    assert not (shell.store / "index.sqlite.broken").exists()
    for damage in (b"", b"nonsense", index.read_bytes()[:5000]):
        index.write_bytes(damage)
        refused = shell.run("verify", status=6)
        assert code(refused.stderr) == "store-unusable"
        assert "ccstore verify --rebuild-index" in refused.stderr
        done = shell.run("verify", "--rebuild-index", "--json")
        assert json.loads(done.stdout) == []
        assert "the index was made again" in done.stderr
        assert (shell.store / "index.sqlite.broken").read_bytes() == damage
    assert shell.path("kernel") == kernel
    assert_whole(shell)


def test_outside_a_project_the_store_still_repairs_itself(realised: TinyProject, tmp_path: Path) -> None:
    shell = realised.shell
    kernel, config = shell.path("kernel"), shell.path("kernel.config")
    with sqlite3.connect(shell.store / "index.sqlite") as index:
        index.execute("DELETE FROM objects WHERE base = ?", (kernel.name,))
    index.close()
    assert code(shell.run("path", "kernel", status=5).stderr) == "not-realised"
    (kernel / "vmlinux").chmod(0o700)
    elsewhere = Shell(tmp_path, shell.store)
    assert elsewhere.run("verify", "--repair").stdout == ""
    assert shell.path("kernel") == kernel
    (shell.store / "index.sqlite").write_bytes(b"nonsense")
    elsewhere.run("verify", "--repair")
    assert shell.path("kernel") == kernel
    remove_object(config)
    left = elsewhere.run("verify", "--repair", status=4)
    assert code(left.stderr) == "object-damaged"
    assert "no project here could make anything again" in left.stderr
    shell.run("verify", "--repair")
    assert_whole(shell)


def test_patch_sets_of_one_kernel_share_what_they_leave_alone(realised: TinyProject) -> None:
    """Also where each was made by itself, as a store that was copied has them."""
    shell, header = realised.shell, "include/tiny/kernel.h"
    tree = shell.path("kernel.tree")
    old = (tree / header).read_text().splitlines(keepends=True)
    targets = ["kernel.tree"]
    for number in range(10):
        diff = difflib.unified_diff(old, [f"/* {number} */\n", *old], f"a/{header}", f"b/{header}")
        write(realised.root / f"set-{number}/0001-header.patch", "".join(diff))
        recipe = f"kind: kernel\nextends: kernel\npatches: ../set-{number}\n"
        write(realised.root / f"recipes/set-{number}.yml", recipe)
        targets.append(f"set-{number}.patched")
    shell.run("realize", *targets)
    trees = [shell.path(target) for target in targets]
    files = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file() and path.stat().st_size}
    unchanged = files - {Path(header)}
    assert _inodes(trees, unchanged) == len(unchanged)
    assert _inodes(trees, {Path(header)}) == 11
    shell.run("gc", "--optimise")  # whatever else is there twice is shared now
    for number, each in enumerate(trees[1:]):
        copy = realised.root / f"copy-{number}"
        subprocess.run(["cp", "-r", "--preserve=mode,timestamps", each, copy], check=True)
        remove(each)
        copy.chmod(0o755)  # a folder that has to learn of its new parent
        copy.rename(each)
        each.chmod(0o555)
    assert _inodes(trees, unchanged) == 11 * len(unchanged)
    planned = json.loads(shell.run("gc", "--optimise", "--dry-run", "--json").stdout)["shared"]
    done = shell.run("gc", "--optimise")
    assert planned["files"] == 10 * len(unchanged)
    assert f"{planned['files']} files shared, " in done.stderr
    assert _inodes(trees, unchanged) == len(unchanged)
    assert_whole(shell)


def _inodes(trees: list[Path], names: set[Path]) -> int:
    return len({(tree / name).stat().st_ino for tree in trees for name in names})
