"""How much room on the disk deleting things would give back."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from ccstore.store.files import BLOCK


class Measure:
    """Adds up paths that are to be deleted together: a file counts once its last name is among them."""

    def __init__(self) -> None:
        self._names: Counter[tuple[int, int]] = Counter()

    def add(self, path: Path) -> int:
        """Bytes that deleting `path` would free beyond what was added before; 0 if it is not there."""
        return sum(map(self._count, _each(path)))

    def add_all(self, paths: Iterable[Path]) -> int:
        return sum(self.add(path) for path in paths)

    def _count(self, status: os.stat_result) -> int:
        size = status.st_blocks * BLOCK
        if stat.S_ISDIR(status.st_mode):
            return size
        key = (status.st_dev, status.st_ino)
        self._names[key] += 1
        return size if self._names[key] == status.st_nlink else 0


def disk_usage(paths: Iterable[Path]) -> int:
    """Bytes that `paths` and all in them take on the disk; a file with several names counts once."""
    found = {(each.st_dev, each.st_ino): each.st_blocks * BLOCK for path in paths for each in _each(path)}
    return sum(found.values())


def _each(path: Path) -> Iterator[os.stat_result]:
    """The status of `path` and of all in it; nothing if it is not there."""
    try:
        yield path.lstat()
    except FileNotFoundError:
        return
    if path.is_dir() and not path.is_symlink():
        for folder, folders, names in os.walk(path):
            yield from (os.lstat(os.path.join(folder, name)) for name in (*folders, *names))
