"""From the tarball to the patched tree in the store, by ccstore and by Nix with the same tools."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.benchmark.measure import Command, compare
from tests.conftest import REPOSITORY, write

WANTED, RUNS = 0.9, 5
SCRIPT = """mkdir "$out"
tar -xJf "$source" -C "$out" --strip-components=1
cd "$out"
for each in "$patches"/*.patch; do patch -s -p1 <"$each"; done
"""
EXPRESSION = """derivation {
  name = "patched-%d"; system = builtins.currentSystem; builder = "/bin/sh"; PATH = "%s";
  args = [ "-e" "%s" ]; source = builtins.storePath "%s"; patches = builtins.storePath "%s";
}
"""


def row(folder: Path, ours: Command, tarball: Path, nix: Mapping[str, str]) -> str:
    """`ours` makes `kernel.patched` from the tarball; a row of the table."""
    patches = folder / "patches"
    patches.mkdir()
    for each in sorted((REPOSITORY / "kernel/patches-6.1").glob("*.patch")):
        write(patches / each.name, each.read_text())
    added = [_run(["nix-store", "--add", str(each)], nix) for each in (tarball, patches)]
    script = write(folder / "patched.sh", SCRIPT)
    numbers = itertools.count()
    expression = folder / "patched.nix"

    def not_built_yet() -> None:
        write(expression, EXPRESSION % (next(numbers), os.environ["PATH"], script, *added))
        os.sync()

    argv = ["nix-build", "--no-out-link", str(expression)]
    theirs = Command("nix-build", argv, env=nix, prepare=not_built_yet)
    result = compare("tarball to registered patched tree", WANTED, ours, theirs, RUNS)
    return result.row("unpack, patch and register by `nix-build`")


def _run(argv: list[str], nix: Mapping[str, str]) -> str:
    found = subprocess.run(argv, env={**os.environ, **nix}, capture_output=True, text=True, check=True)
    return found.stdout.strip()
