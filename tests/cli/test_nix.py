"""Identity as Nix has it: a real Nix gives every object of a store the name that ccstore gave it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TinyProject

CONF = """build-users-group =
sandbox = false
substituters =
experimental-features = nix-command
"""
Nix = Callable[..., list[str]]


@pytest.fixture
def nix(tool: Callable[[str], str], tmp_path: Path) -> Nix:
    """Runs a Nix whose store lies in a folder of the test; its logical store directory is /nix/store."""
    state = tmp_path / "nix"
    state.mkdir()
    (state / "nix.conf").write_text(CONF)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NIX_")}
    clean |= {"NIX_CONF_DIR": str(state), "NIX_USER_CONF_FILES": "", "HOME": str(state)}

    def run(name: str, *arguments: str) -> list[str]:
        argv = [tool(name), "--store", str(state / "root"), *arguments]
        return subprocess.run(
            argv, env=clean, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.splitlines()

    return run


def test_every_object_has_the_name_that_nix_gives_it(
    session_kernel: TinyProject, nix: Nix, tmp_path: Path
) -> None:
    objects = sorted((session_kernel.shell.store / "objects").iterdir())
    assert {each.name.partition("-")[2] for each in objects} >= {
        "kernel",
        "kernel-dev",
        "kernel-tree",
        "toolchain",
    }
    copies = []
    for each in objects:
        digest, _, name = each.name.partition("-")
        copies.append(tmp_path / "copies" / digest / name)
        copies[-1].parent.mkdir(parents=True)
        subprocess.run(["cp", "-al", each, copies[-1]], check=True)
    added = nix("nix-store", "--add", *map(str, copies))
    assert added == [f"/nix/store/{each.name}" for each in objects]


def test_hash_agrees_with_nix(session_kernel: TinyProject, nix: Nix) -> None:
    shell = session_kernel.shell
    for path in ("patches", "config/20-greeting.config", "tinylinux.tar.xz"):
        absolute = str(session_kernel.root / path)
        assert shell.run("hash", path).stdout.splitlines() == nix("nix", "hash", "path", absolute)
        printed = shell.run("hash", "--store-path", path).stdout.splitlines()
        assert printed == nix("nix-store", "--add", absolute)
    named = shell.run("hash", "--store-path", "--name", "other", "patches").stdout
    assert named.endswith("-other\n")


def test_hash_says_what_is_wrong(session_kernel: TinyProject) -> None:
    shell = session_kernel.shell
    assert "[file-missing]" in shell.run("hash", "nowhere", status=2).stderr
    assert (
        "[name-invalid]"
        in shell.run("hash", "--store-path", "--name", "two words", "patches", status=2).stderr
    )
