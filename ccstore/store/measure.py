"""How much room on the disk deleting things would give back.

Asking for the sizes of very many objects takes as long as all the rest of a dry collection: `Sizes` has that done in
another process meanwhile. `serve` is what it runs.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from ccstore.store import workers
from ccstore.store.files import BLOCK

MANY = 50_000  # objects: with fewer it is done before another Python has started
Place = Path | str  # of a file: where there are very many, pathlib takes its time


class Measure:
    """Adds up paths that are to be deleted together: a file counts once its last name is among them."""

    def __init__(self) -> None:
        self._names: Counter[tuple[int, int]] = Counter()

    def add(self, path: Place) -> int:
        """Bytes that deleting `path` would free beyond what was added before; 0 if it is not there."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return 0
        size = self._count(status)
        return size + sum(map(self._count, _inside(path))) if stat.S_ISDIR(status.st_mode) else size

    def add_all(self, paths: Iterable[Place]) -> int:
        return sum(self.add(path) for path in paths)

    def _count(self, status: os.stat_result) -> int:
        size = status.st_blocks * BLOCK
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            return size
        key = (status.st_dev, status.st_ino)
        self._names[key] += 1
        return size if self._names[key] == status.st_nlink else 0


class Sizes:
    """What deleting objects in `folder` would free; a context manager, after which no process is left."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names: list[Sequence[str]] = []
        self._worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sizes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker:
            self._worker.kill()
            self._worker.communicate()

    def add(self, names: Sequence[str]) -> None:
        """These objects too, by their base names. Those added first decide whether there is a process for it."""
        with contextlib.suppress(OSError):  # then it is done here
            if not self._names and len(names) >= MANY and workers.can_start():
                self._worker = workers.start("ccstore.store.measure", self._folder)
            if self._worker and self._worker.stdin:
                self._worker.stdin.write("".join([f"{name}\n" for name in names]).encode())
        self._names.append(names)

    def total(self) -> int:
        """Bytes, in all; nothing can be added any more."""
        if self._worker:
            answer, _ = self._worker.communicate()
            if self._worker.returncode == 0:
                return int(answer)
        return _freed(self._folder, chain.from_iterable(self._names))


def serve() -> None:
    """Prints what deleting the objects would free that the lines of standard input name."""
    workers.outlive_interrupts()
    print(_freed(sys.argv[1], (line.rstrip("\n") for line in sys.stdin)))


def _freed(folder: str, names: Iterable[str]) -> int:
    return Measure().add_all(f"{folder}/{name}" for name in names)


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
