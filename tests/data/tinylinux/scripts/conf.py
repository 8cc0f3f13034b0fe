"""What scripts/kconfig/conf is to Linux: `conf.py allnoconfig|tinyconfig|defconfig|<name>_defconfig|…|syncconfig`."""

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import kconfiglib


class Kconfig(kconfiglib.Kconfig):  # type: ignore[misc]  # kconfiglib has no types
    def _open(self, filename: str, mode: str) -> Any:
        file = super()._open(filename, mode)
        return (
            io.StringIO(re.sub(r"(?m)^\tmodules$", "\toption modules", file.read())) if mode == "r" else file
        )


def main(target: str) -> None:
    source, objects = (Path(os.environ[name]) for name in ("srctree", "objtree"))  # make's names
    os.chdir(objects)
    tree = Kconfig(os.environ["KBUILD_KCONFIG"], warn=False)
    preset = source / "arch/x86/configs" / ("tiny.config" if target == "tinyconfig" else target)
    if target in ("allnoconfig", "tinyconfig"):
        switch_off(tree)
    if target in ("olddefconfig", "syncconfig"):
        tree.load_config(".config")
    elif preset.exists():
        tree.load_config(str(preset), replace=False)
    elif target not in ("allnoconfig", "defconfig"):
        sys.exit(f"*** Can't find default configuration {target!r}!")
    tree.write_config(".config", header="# Tinylinux configuration\n")
    if target == "syncconfig":
        write_for_the_build(tree)


def switch_off(tree: Kconfig) -> None:
    for symbol in tree.unique_defined_syms:
        if symbol.orig_type in (kconfiglib.BOOL, kconfiglib.TRISTATE) and not symbol.choice:
            symbol.set_value("n")


def write_for_the_build(tree: Kconfig) -> None:
    for folder in ("include/generated", "include/config"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    tree.write_autoconf("include/generated/autoconf.h", header="")
    lines = Path(".config").read_text().splitlines(keepends=True)
    Path("include/config/auto.conf").write_text("".join(line for line in lines if line[0] == "C"))


main(sys.argv[1])
