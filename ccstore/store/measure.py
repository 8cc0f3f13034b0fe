"""How much room on the disk deleting things would give back."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from ccstore.store.files import BLOCK

Place = Path | str  # of a file: where there are very many, pathlib takes its time


class Measure:
    """Adds up paths that are to be deleted together: a file counts once its last name is among them."""

    def __init__(self) -> None:
        self._names: Counter[tuple[int, int]] = Counter()

    def add(self, path: Place) -> int:
        """Bytes that deleting `path` would free beyond what was added before; 0 if it is not there."""
        return sum(map(self._count, _each(path)))

    def add_all(self, paths: Iterable[Place]) -> int:
        return sum(self.add(path) for path in paths)

    def _count(self, status: os.stat_result) -> int:
        size = status.st_blocks * BLOCK
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            return size
        key = (status.st_dev, status.st_ino)
        self._names[key] += 1
        return size if self._names[key] == status.st_nlink else 0


def disk_usage(paths: Iterable[Place]) -> int:
    """Bytes that `paths` and all in them take on the disk; a file with several names counts once."""
    total = 0
    shared: dict[tuple[int, int], int] = {}
    for status in (each for path in paths for each in _each(path)):
        size = status.st_blocks * BLOCK
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            total += size
        else:
            shared[status.st_dev, status.st_ino] = size
    return total + sum(shared.values())


def _each(path: Place) -> Iterable[os.stat_result]:
    """The status of `path` and of all in it; nothing if it is not there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ()
    return chain((status,), _inside(path)) if stat.S_ISDIR(status.st_mode) else (status,)


def _inside(path: Place) -> Iterator[os.stat_result]:
    for folder, folders, names in os.walk(path):
        yield from (os.lstat(os.path.join(folder, name)) for name in (*folders, *names))
