"""The kernel kind from end to end on the tiny Kbuild tree: what it gives, and that it is the same for everybody."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ccstore.store.files import remove
from tests.cli.conftest import NOBODY, OtherUser, built, edit
from tests.conftest import TinyProject, clone_store, tiny_project

BOOT = (
    *("-M", "microvm,acpi=off", "-accel", "tcg", "-cpu", "max", "-m", "64", "-no-reboot", "-nodefaults"),
    *("-no-user-config", "-nographic", "-serial", "stdio", "-append", "console=ttyS0"),
)


def test_realize_prints_the_path_and_path_agrees(tiny: TinyProject) -> None:
    done = tiny.shell.run("realize", "kernel")
    kernel = Path(done.stdout.strip())
    assert done.stdout == f"{kernel}\n"
    assert sorted(os.listdir(kernel)) == ["System.map", "bzImage", "config", "kernel-source-info", "vmlinux"]
    assert built(done.stderr) == [
        "kernel.tree",
        "kernel.patched",
        "kernel.kconfig",
        "kernel.config",
        "kernel",
    ]
    assert tiny.shell.path("kernel") == kernel
    again = tiny.shell.run("realize", "kernel")
    assert (again.stdout, again.stderr) == (done.stdout, "")


def test_config_has_every_symbol_that_was_asked_for(session_kernel: TinyProject) -> None:
    config = (session_kernel.shell.path("kernel") / "config").read_text().splitlines()
    for fragment in (session_kernel.root / "config").iterdir():
        for line in fragment.read_text().splitlines():
            if line.startswith("CONFIG_") or line.endswith(" is not set"):
                assert line in config


def test_the_patched_kernel_boots(session_kernel: TinyProject, tool: Callable[[str], str]) -> None:
    vmlinux = session_kernel.shell.path("kernel") / "vmlinux"
    said = subprocess.run(
        [tool("qemu-system-x86_64"), *BOOT, "-kernel", str(vmlinux)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert said.stdout.splitlines() == [
        "Tinylinux 1.0.0 (ccstore@ccstore #1 Thu Jan  1 00:00:01 UTC 1970)",
        "bus: found, patched",
        "clock: stopped",
        "net: no card",
        "hello from a tiny guest",
        "hello from a tiny guest",
        "Command line: console=ttyS0",
    ]


def test_another_directory_store_and_environment_give_the_same_path(
    session_kernel: TinyProject, session_store: Path, tmp_path: Path
) -> None:
    root = tmp_path / "a-much-longer-name-for-the-very-same-project"
    other = tiny_project(root, clone_store(session_store, root / "store"))
    other.shell.environment = {"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "CFLAGS": "-O0", "O": "/nowhere"}
    done = other.shell.run("realize", "--cores", "1", "--jobs", "1", "kernel", "kernel^dev")
    assert "kernel" in built(done.stderr)
    assert base_names(done.stdout) == [
        session_kernel.shell.path(each).name for each in ("kernel", "kernel^dev")
    ]


def test_a_store_that_was_deleted_gives_the_same_path(
    session_kernel: TinyProject, session_store: Path, tmp_path: Path
) -> None:
    project = tiny_project(tmp_path / "project", clone_store(session_store, tmp_path / "project/store"))
    [before] = project.shell.realize("kernel")
    remove(project.shell.store)
    assert project.shell.run("path", "kernel", status=5).stdout == ""
    remove(project.shell.store)
    clone_store(session_store, project.shell.store)  # else all of the toolchain would be fetched again
    again = project.shell.run("realize", "kernel")
    assert "kernel" in built(again.stderr)
    assert Path(again.stdout.strip()) == before
    assert before.name == session_kernel.shell.path("kernel").name


def test_another_user_gets_the_same_path(
    session_kernel: TinyProject, session_store: Path, other_user: OtherUser
) -> None:
    store = other_user.home / "store"
    shutil.copytree(session_store, store, symlinks=True, ignore=shutil.ignore_patterns("evaluations"))
    project = tiny_project(other_user.home / "project", store)
    other_user.owns(project.root, store, other_user.home)
    shell = other_user.shell(project.root, store)
    done = shell.run("realize", "kernel", "kernel^dev")
    assert "kernel" in built(done.stderr)
    assert base_names(done.stdout) == [
        session_kernel.shell.path(each).name for each in ("kernel", "kernel^dev")
    ]
    assert {each.lstat().st_uid for each in (store / "objects").iterdir()} == {NOBODY}
    shell.run("verify")
    shell.run("root", "remove", *[line.split()[0] for line in shell.run("root", "list").stdout.splitlines()])
    shell.run("gc")
    assert list((store / "objects").iterdir()) == []


def base_names(stdout: str) -> list[str]:
    return [Path(line).name for line in stdout.splitlines()]


def test_a_variant_shares_every_step_that_is_the_same(realised: TinyProject) -> None:
    variant = realised.root / "recipes/loud.yml"
    variant.write_text("kind: kernel\nextends: kernel\nlocalversion: -loud\n")
    done = realised.shell.run("realize", "loud")
    assert built(done.stderr) == ["loud"]
    info = (Path(done.stdout.strip()) / "kernel-source-info").read_text()
    assert "release: 1.0.0-loud\n" in info
    assert realised.shell.path("loud.config") == realised.shell.path("kernel.config")


def test_an_output_is_a_target(session_kernel: TinyProject) -> None:
    dev = session_kernel.shell.path("kernel^dev")
    assert (dev / "build/include/generated/autoconf.h").is_file()


def test_an_external_module_builds_against_dev(realised: TinyProject) -> None:
    edit(realised.root / "config/20-greeting.config", "# CONFIG_MODULES is not set", "CONFIG_MODULES=y")
    with (realised.root / "recipes/kernel.yml").open("a") as recipe:
        recipe.write("modules: true\n")
    (realised.root / "recipes/module.yml").write_text(
        """kind: build
toolchain: toolchain
inputs: {linux: kernel^dev}
script: |
  cd /build
  echo 'obj-m += extra.o' >Makefile
  printf '#include <tiny/kernel.h>\\nvoid extra(void) { tiny_print("extra"); }\\n' >extra.c
  make -C /in/linux/build M=/build modules
  cp extra.ko /out/out
"""
    )
    [module] = realised.shell.realize("module")
    assert module.read_bytes().startswith(b"\x7fELF")
