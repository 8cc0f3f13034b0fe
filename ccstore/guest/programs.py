"""Where QEMU is: the host's, one that the user names, or a tree of packages that is run where it lies.

A tree of Debian packages needs no root and no chroot: its dynamic loader is told where the libraries are, QEMU where
its firmware (-L) and its modules (QEMU_MODULE_DIR) are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.errors import CcError

QEMU = "qemu-system-x86_64"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
MULTIARCH = "usr/lib/x86_64-linux-gnu"
FIRMWARE = ("usr/share/qemu", "usr/share/seabios")


@dataclass(frozen=True, slots=True)
class Qemu:
    """How to run it: the first words of its command line, and what is added to the environment."""

    prefix: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)


def host_qemu() -> Qemu | None:
    """The one on PATH."""
    found = shutil.which(QEMU)
    return Qemu((found,)) if found else None


def named_qemu(path: str) -> Qemu:
    """A program of the host by its path. Raises `vmm-missing`."""
    if not os.access(path, os.X_OK) or Path(path).is_dir():
        raise CcError(
            "vmm-missing", f"{path} is no program", hint="--qemu wants a TARGET or a program's path"
        )
    return Qemu((str(Path(path).absolute()),))


def qemu_of(tree: Path) -> Qemu:
    """The one in an unpacked tree of packages. Raises `vmm-missing`."""
    program, loader = tree / "usr/bin" / QEMU, tree / LOADER
    if not program.is_file() or not loader.exists():
        message = f"there is no {QEMU}, or no dynamic loader, in this tree"
        raise CcError("vmm-missing", message, where=str(tree), hint="--qemu wants a recipe such as `qemu`")
    libraries = f"{tree / MULTIARCH}:{tree / 'usr/lib'}"
    prefix = [str(loader), "--library-path", libraries, "--argv0", QEMU, str(program)]
    for folder in FIRMWARE:
        prefix += ["-L", str(tree / folder)]
    return Qemu(prefix, {"QEMU_MODULE_DIR": str(tree / MULTIARCH / "qemu")})
