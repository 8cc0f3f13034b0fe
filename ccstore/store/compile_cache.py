"""What compilers made before, kept by ccache for the next build with the same toolchain (`realize --assist`).

    <store>/ccache/<toolchain's object>-<uid>/      ccache's own format, which it keeps within its size

A folder is for one toolchain and one user. Builds write to it, so nothing in it is trusted beyond what a realisation
says that was made with it (purity `assisted`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ccstore.model.storepath import StorePath
from ccstore.store.layout import Layout


def compile_cache(layout: Layout, toolchain: StorePath) -> Path:
    """The folder for builds in `toolchain` by this user, which is made if it is not there. Raises OSError."""
    folder = layout.compile_caches / f"{toolchain.base}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def dead_compile_caches(layout: Layout, stays: Callable[[str], bool]) -> list[Path]:
    """Folders whose toolchain, told by its base name, does not stay."""
    return [each for each in layout.compile_caches.iterdir() if not stays(each.name.rpartition("-")[0])]
