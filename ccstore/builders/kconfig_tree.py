"""kernel.kconfig: what of a kernel's tree can decide its configuration (runs inside the sandbox; stdlib only).

Input `tree`. $out becomes a copy without what only compilers and readers use: C, assembly, headers, device trees,
documents and tables. Below scripts/ everything stays, since Kconfig and make compile and run what is there. It is a
step of its own so that a change in the code of a driver ends here, and the configuration is not made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

TREE = Path("/in/tree")
OUT = Path("/out/out")
LEFT_OUT = (".c", ".h", ".S", ".s", ".dts", ".dtsi", ".rst", ".txt", ".json", ".yaml", ".svg")
WHOLE = ("scripts",)


def wanted(top: Path) -> Iterator[str]:
    """Paths of files and links, relative to `top`."""
    for folder, folders, names in os.walk(top):
        place = os.path.relpath(folder, top)
        whole = place.split("/")[0] in WHOLE
        names += [name for name in folders if Path(folder, name).is_symlink()]
        for name in names:
            if whole or not name.endswith(LEFT_OUT):
                yield os.path.normpath(f"{place}/{name}")


def main() -> None:
    for path in wanted(TREE):
        target = OUT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / path, target, follow_symlinks=False)


if __name__ == "__main__":
    main()
