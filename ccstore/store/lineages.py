"""Lineages of what is rooted: `lineages/<project id>/<TARGET>`, JSON in one zstd frame each.

One is written whenever a target is realised, after its root, and collected with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from ccstore.store import files
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock
from ccstore.store.roots import checked, root_files

if TYPE_CHECKING:  # most commands open a store and read none
    from ccstore.model.lineage import Lineage

_MAX_SIZE = 1 << 28  # bytes, decompressed; a damaged file must not eat the memory


class Lineages:
    """The lineages that one store keeps."""

    def __init__(self, layout: Layout, gc_lock: GcLock) -> None:
        self._layout = layout
        self._gc_lock = gc_lock

    def record(self, name: str, lineage: Lineage) -> None:
        """Keeps what the root `name` was made from. Raises `read-only-store`, `disk-full`."""
        file = self._layout.lineages / checked(name)
        data = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lineage.to_json().encode())
        with explained(self._layout.root), self._gc_lock.shared():
            file.parent.mkdir(exist_ok=True)
            files.write_atomically(file, data)

    def get(self, name: str) -> Lineage | None:
        """None if there is none, or none that can be read: it is a help, and nothing rests on it."""
        return _read(self._layout.lineages / checked(name))

    def of_project(self, project: str) -> Iterator[Lineage]:
        """Those of every root of a project."""
        for file in root_files(self._layout.lineages, project):
            found = _read(file)
            if found:
                yield found


def _read(file: Path) -> Lineage | None:
    from ccstore.model.lineage import Lineage

    with contextlib.suppress(OSError, ValueError, zstandard.ZstdError):
        data = zstandard.ZstdDecompressor().decompress(files.read(file), max_output_size=_MAX_SIZE)
        return Lineage.from_json(data.decode())
    return None
