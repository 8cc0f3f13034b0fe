"""How much room on the disk deleting things would give back.

Asking for the sizes of very many objects takes as long as the rest of a dry collection: `Sizes` has another process
do that meanwhile. `serve` is what it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import IO, cast

from ccstore.store import workers
from ccstore.store.files import BLOCK

MANY = 50_000  # objects: with fewer it is done before another Python has started
PART = 10_000  # objects that are measured in one go
Place = Path | str  # of a file: where there are very many, pathlib takes its time


class Measure:
    """Adds up paths that are to be deleted together: a file counts once its last name is among them."""

    def __init__(self) -> None:
        # files with several names, by device and inode: names found, names in all, bytes
        self._shared: dict[tuple[int, int], tuple[int, int, int]] = {}

    def add(self, path: Place) -> int:
        """Bytes that deleting `path` would free beyond what was added before; 0 if it is not there."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return 0
        if stat.S_ISDIR(status.st_mode):
            return sum(map(self._count, (status, *_inside(path))))
        return self._count(status)

    def add_all(self, paths: Iterable[Place]) -> int:
        return sum(self.add(path) for path in paths)

    def unfinished(self) -> list[tuple[int, ...]]:
        """Files that have more names than were found, for `go_on`."""
        return [(*file, *shared) for file, shared in self._shared.items() if shared[0] < shared[1]]

    def go_on(self, unfinished: Iterable[Sequence[int]]) -> int:
        """Bytes that become free by what was found in other paths."""
        return sum(self._add((device, inode), *shared) for device, inode, *shared in unfinished)

    def _count(self, status: os.stat_result) -> int:
        size = status.st_blocks * BLOCK
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            return size
        return self._add((status.st_dev, status.st_ino), 1, status.st_nlink, size)

    def _add(self, file: tuple[int, int], names: int, of: int, size: int) -> int:
        found = names + (self._shared[file][0] if file in self._shared else 0)
        self._shared[file] = found, of, size
        return size if found == of else 0


class Sizes:
    """What deleting objects in `folder` would free; a context manager, after which no process is left.

    Where there are very many, a helper measures them while more are added, and what is left then beside `total`.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._parts: Parts = SimpleQueue()
        self._helper: _Helper | None = None

    def __enter__(self) -> Sizes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._helper:
            self._helper.end()

    def add(self, names: Iterable[str]) -> list[str]:
        """These objects too, by their base names, which are returned. Those added first decide whether there is a
        helper."""
        added: list[str] = []
        names = iter(names)
        while part := list(islice(names, PART)):
            added += part
            self._parts.put(part)
            if len(added) >= MANY and not self._helper:
                self._helper = _started(self._folder, self._parts)
        return added

    def total(self, others: Iterable[Place] = ()) -> int:
        """Bytes, in all, with `others` that are no objects; nothing can be added any more."""
        self._parts.put(None)
        measure = Measure()
        freed = sum(measure.add_all(_places(self._folder, part)) for part in _taken(self._parts))
        freed += measure.add_all(others)
        return freed + self._helper.result(measure) if self._helper else freed


Parts = SimpleQueue[list[str] | None]  # base names; None is the end


def _taken(parts: Parts) -> Iterator[list[str]]:
    """Parts, to the end, which stays there for whoever takes others."""
    while part := parts.get():
        yield part
    parts.put(None)


def _places(folder: str, names: Iterable[str]) -> Iterator[str]:
    return (f"{folder}/{name}" for name in names)


def _started(folder: str, parts: Parts) -> _Helper | None:
    with contextlib.suppress(OSError):  # then it is done here
        if workers.can_start():
            return _Helper(folder, parts, workers.start("ccstore.store.measure", folder))
    return None


class _Helper:
    """Takes parts to their end, and has another process measure them."""

    def __init__(self, folder: str, parts: Parts, worker: subprocess.Popen[bytes]) -> None:
        self._folder, self._parts, self._worker = folder, parts, worker
        self._given: list[list[str]] = []
        self._answer = b""
        self._thread = Thread(target=self._run, name="measure", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        given, told = cast(IO[bytes], self._worker.stdin), cast(IO[bytes], self._worker.stdout)
        with contextlib.suppress(OSError, ValueError):  # it died, which `result` sees
            for part in _taken(self._parts):
                self._given.append(part)
                given.write("\n".join([*part, "\n"]).encode())
                given.flush()
                told.readline()  # what comes next goes to whoever is free first
            given.close()
            self._answer = told.read()

    def result(self, measure: Measure) -> int:
        """Bytes that its parts free beyond what was added to `measure`, where it ends if the process died."""
        self._thread.join()
        if self._worker.wait() == 0 and self._answer:
            freed, unfinished = json.loads(self._answer)
            return int(freed) + measure.go_on(unfinished)
        return sum(measure.add_all(_places(self._folder, part)) for part in self._given)

    def end(self) -> None:
        self._worker.kill()
        self._parts.put(None)
        self._thread.join()
        with contextlib.suppress(BrokenPipeError), self._worker:
            pass


def serve() -> None:
    """Measures what the lines of standard input name; an empty one is answered, and the end with the whole."""
    workers.outlive_interrupts()
    os.chdir(sys.argv[1])  # a short path is found sooner
    measure, freed = Measure(), 0
    for line in sys.stdin:
        if line != "\n":
            freed += measure.add(line[:-1])
        else:
            print(flush=True)
    print(json.dumps([freed, measure.unfinished()]))


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
        for name in (*folders, *names):
            # gone meanwhile; or what a build left: a folder that its owner cannot enter, a path that is too long
            with contextlib.suppress(OSError):
                yield os.lstat(os.path.join(folder, name))
