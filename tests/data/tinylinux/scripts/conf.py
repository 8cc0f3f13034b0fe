"""What scripts/kconfig/conf is to Linux: `conf.py allnoconfig|tinyconfig|defconfig|<name>_defconfig|…|syncconfig`."""

import io
import os
import re
import sys
from pathlib import Path

import kconfiglib


class Kconfig(kconfiglib.Kconfig):
    def _open(self, filename, mode):
        file = super()._open(filename, mode)
        return io.StringIO(re.sub(r"(?m)^\tmodules$", "\toption modules", file.read())) if mode == "r" else file


def main(target):
    source, objects = Path(os.environ["srctree"]), Path(os.environ["objtree"])
    os.chdir(objects)
    tree = Kconfig(os.environ["KBUILD_KCONFIG"], warn=False)
    presets = source / "arch/x86/configs" / ("tiny.config" if target == "tinyconfig" else target)
    if target in ("allnoconfig", "tinyconfig"):
        for symbol in tree.unique_defined_syms:
            if symbol.orig_type in (kconfiglib.BOOL, kconfiglib.TRISTATE) and not symbol.choice:
                symbol.set_value("n")
    if target in ("olddefconfig", "syncconfig"):
        tree.load_config(".config")
    elif presets.exists():
        tree.load_config(str(presets), replace=False)
    elif target not in ("allnoconfig", "defconfig"):
        sys.exit(f"*** Can't find default configuration {target!r}!")
    tree.write_config(".config", header="# Tinylinux configuration\n")
    if target == "syncconfig":
        for folder in ("include/generated", "include/config"):
            Path(folder).mkdir(parents=True, exist_ok=True)
        tree.write_autoconf("include/generated/autoconf.h", header="")
        lines = Path(".config").read_text().splitlines(keepends=True)
        Path("include/config/auto.conf").write_text("".join(line for line in lines if line[0] == "C"))


main(sys.argv[1])
