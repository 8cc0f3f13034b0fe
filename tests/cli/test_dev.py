"""`ccstore dev`: a build and a boot for each save."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.cli.conftest import Running, assert_whole, built, code, edit, processes_with, wait_until
from tests.conftest import TinyProject

PATCH = "patches/0001-bus-say-that-a-patch-was-here.patch"


def test_every_save_builds_and_boots(realised: TinyProject, tool: Callable[[str], str]) -> None:
    tool("qemu-system-x86_64")
    dev = Running(realised.shell, "dev", "kernel", "--timeout", "1m")
    try:
        wait_until(lambda: dev.stdout.count("bus: found, patched\n") == 1, what="the first boot")
        wait_until(lambda: "waits for a change of kernel" in dev.stderr, what="its end")
        assert "no guest has kernel: it boots without a root" in dev.stderr
        edit(realised.root / PATCH, "found, patched", "found, patched twice")
        wait_until(lambda: "bus: found, patched twice" in dev.stdout, what="the second boot")
        assert f"changed: {PATCH}" in dev.stderr
        assert {"kernel.patched", "kernel"} <= set(built(dev.stderr))
        dev.signal(signal.SIGINT)
        assert dev.wait() == 130
    finally:
        dev.end()
    assert processes_with(str(realised.shell.store)) == []
    assert_whole(realised.shell)


def test_a_recipe_that_is_wrong_for_a_while(realised: TinyProject) -> None:
    recipe = realised.root / "recipes/kernel.yml"
    right = recipe.read_text()
    dev = Running(realised.shell, "dev", "kernel", "--no-boot")
    try:
        wait_until(lambda: dev.stdout.count("-kernel\n") == 1, what="the first build")
        recipe.write_text(right.replace("timeout", "time-out"))
        wait_until(lambda: "[recipe-invalid]" in dev.stderr, what="the error")
        recipe.write_text(right.replace("timeout: 5m", "localversion: -dev"))
        wait_until(lambda: dev.stdout.count("-kernel\n") == 2, what="the second build")
        dev.signal(signal.SIGINT)
        assert dev.wait() == 130
    finally:
        dev.end()


def test_a_save_ends_the_build_that_runs(realised: TinyProject) -> None:
    realised.shell.run("root", "remove", "tiny/kernel")
    slow = realised.root / "recipes/slow.yml"
    slow.write_text("kind: build\ntoolchain: toolchain\nscript: |\n  echo begun\n  sleep 1000\n")
    dev = Running(realised.shell, "dev", "slow", "--no-boot")
    try:
        wait_until(lambda: "slow: build begins" in dev.stderr, what="the build")
        slow.write_text("kind: build\ntoolchain: toolchain\nscript: |\n  echo quick > $out\n")
        wait_until(lambda: dev.stdout.endswith("-slow\n"), what="the second build")
        dev.signal(signal.SIGINT)
        assert dev.wait() == 130
    finally:
        dev.end()
    assert processes_with("sleep 1000") == []


def test_what_does_not_go_together(realised: TinyProject) -> None:
    refused = realised.shell.run("dev", "kernel", "--no-boot", "--append", "quiet", status=2)
    assert code(refused.stderr) == "usage"
    unknown = realised.shell.run("dev", "kernels", status=2)
    assert code(unknown.stderr) == "recipe-unknown"
