"""The fast answer of `verify`: is an object, whole and in its canonical form, what its manifest says?

Most objects are, so this asks no more than it must: the manifest, in NAR order, leads through the tree, and each
file is opened and read once. In a full run its bytes also make the NAR, whose SHA-256 is taken in a thread beside. An
object that is not whole is looked at again by `verify`, which finds what exactly is wrong with it.

A large store is shared out among processes, one object at a time: `serve` is what each of them runs.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import xxhash

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.store import manifest, workers
from ccstore.store.canonical import FOLDER_MODE, MTIME_NS, file_mode
from ccstore.store.layout import Layout
from ccstore.store.manifest import Header, Record

LARGE = 256 << 20  # bytes: what takes less is done before another Python has started
_FOLDER = stat.S_IFDIR | FOLDER_MODE
_MODES = {b"f": stat.S_IFREG | file_mode(False), b"x": stat.S_IFREG | file_mode(True)}


class _DifferentError(Exception):
    """The object is not what its manifest says."""


def is_whole(layout: Layout, info: ObjectInfo, full: bool) -> bool:
    """Whether the object is what its manifest says; `full`: and what its name says, by SHA-256 of all of it."""
    path = info.path
    try:
        header, records = manifest.load(layout.manifest(path))
        if header.info != info or StorePath.of_content(path.name, info.nar_hash) != path:
            return False
        if not full:
            _Comparison(layout.object(path), records).run()
            return True
        with nar.Hasher() as hasher:
            _Hashed(layout.object(path), records, hasher).run()
            return hasher.result()[0] == info.nar_hash
    except (_DifferentError, CcError, OSError, ValueError, KeyError):
        return False


class _Comparison:
    """Goes through an object by its manifest; raises what `is_whole` takes for a no."""

    def __init__(self, place: Path, records: Iterator[Record]) -> None:
        self._place = os.fsencode(place)
        self._records = records
        self._counts: dict[bytes, int] = {}  # entries of each folder

    def run(self) -> None:
        counts, place = self._counts, self._place
        for kind, path, size, payload in self._records:
            where = place
            if path:
                where = b"%b/%b" % (place, path)
                counts[path.rpartition(b"/")[0]] += 1
            if kind == b"d":
                self.folder(where, path)
                counts[path] = 0
            elif kind == b"l":
                self.link(where, path, payload)
            else:
                self.file(where, path, _MODES[kind], size, payload[32:])
        # all that should be there is: nothing else can have been added if there is as much
        for folder, count in counts.items():
            if len(os.listdir(os.path.join(place, folder))) != count:
                raise _DifferentError

    def folder(self, where: bytes, path: bytes) -> None:
        status = os.lstat(where)
        if status.st_mode != _FOLDER or status.st_mtime_ns != MTIME_NS:
            raise _DifferentError

    def link(self, where: bytes, path: bytes, target: bytes) -> None:
        if os.lstat(where).st_mtime_ns != MTIME_NS or os.readlink(where) != target:  # noqa: PTH115
            raise _DifferentError

    def file(self, where: bytes, path: bytes, mode: int, size: int, xxh3: bytes) -> None:
        descriptor = os.open(where, nar.READ)
        try:
            status = os.fstat(descriptor)
            if status.st_mode != mode or status.st_size != size or status.st_mtime_ns != MTIME_NS:
                raise _DifferentError
            data = os.read(descriptor, size + 1) if size <= nar.CHUNK else b""
        finally:
            os.close(descriptor)
        if size > nar.CHUNK:
            self.large(where, path, mode, size, xxh3)
        elif xxhash.xxh3_128_digest(data) != xxh3:
            raise _DifferentError
        else:
            self.content(path, mode, size, data)

    def content(self, path: bytes, mode: int, size: int, data: bytes) -> None:
        """Called with every small file that is what it should be."""

    def large(self, where: bytes, path: bytes, mode: int, size: int, xxh3: bytes) -> None:
        state = xxhash.xxh3_128()
        for data in nar.read_large(where, size):
            state.update(data)
        if state.digest() != xxh3:
            raise _DifferentError


class _Hashed(_Comparison):
    """Also feeds the object's NAR to `hasher`, about a MiB at a time."""

    def __init__(self, place: Path, records: Iterator[Record], hasher: nar.Hasher) -> None:
        super().__init__(place, records)
        self._hasher = hasher
        self._parts: list[bytes] = [nar.MAGIC]
        self._size = 0
        self._open: list[bytes] = []  # what paths in each folder begin with that is not closed yet

    def run(self) -> None:
        super().run()
        self._close(b"")
        self._flush()

    def _flush(self) -> None:
        self._hasher.feed(b"".join(self._parts))
        self._parts.clear()
        self._size = 0

    def _begin(self, path: bytes) -> None:
        """Ends the folders that `path` is not in, and begins its entry."""
        if self._open and not path.startswith(self._open[-1]):
            self._close(path)
        if path:
            self._parts += (nar.ENTRY, nar.string(path.rpartition(b"/")[2]), nar.NODE)

    def _close(self, following: bytes) -> None:
        while self._open and not (following and following.startswith(self._open[-1])):
            self._parts.append(nar.CLOSE + nar.CLOSE if self._open.pop() else nar.CLOSE)

    def folder(self, where: bytes, path: bytes) -> None:
        super().folder(where, path)
        self._begin(path)
        self._parts.append(nar.DIRECTORY)
        self._open.append(path + b"/" if path else b"")

    def link(self, where: bytes, path: bytes, target: bytes) -> None:
        super().link(where, path, target)
        self._begin(path)
        self._parts += (nar.SYMLINK, nar.string(target), nar.CLOSE, nar.CLOSE if path else b"")

    def content(self, path: bytes, mode: int, size: int, data: bytes) -> None:
        self._begin(path)
        tail = nar.file_tail(size)
        self._parts += (nar.file_head(size, mode == _MODES[b"x"]), data, tail + nar.CLOSE if path else tail)
        self._size += size
        if self._size > nar.CHUNK:
            self._flush()

    def large(self, where: bytes, path: bytes, mode: int, size: int, xxh3: bytes) -> None:
        self._begin(path)
        self._parts.append(nar.file_head(size, mode == _MODES[b"x"]))
        self._flush()
        state = xxhash.xxh3_128()
        for data in nar.read_large(where, size):
            state.update(data)
            self._hasher.feed(data)
        if state.digest() != xxh3:
            raise _DifferentError
        self._parts.append(nar.file_tail(size) + (nar.CLOSE if path else b""))


def scrub(layout: Layout, headers: Sequence[Header], full: bool) -> Iterator[tuple[Header, bool]]:
    """Each registered object, and whether it is whole and registered as what it is; in any order.

    As many processes work on it as are worth it.
    """
    size = sum(each.info.nar_size for each in headers)
    count = min(len(os.sched_getaffinity(0)), len(headers))
    if size < LARGE or count < 2 or not workers.can_start():
        for header in headers:
            yield header, is_whole(layout, header.info, full)
        return
    # the largest first: nobody must begin it when the others are done
    waiting = iter(sorted(headers, key=lambda each: -each.info.nar_size))
    taking = threading.Lock()
    done: SimpleQueue[tuple[Header, bool]] = SimpleQueue()

    def take() -> Header | None:
        with taking:
            return next(waiting, None)

    with ThreadPoolExecutor(count) as threads, _workers(count, layout, full) as started:
        for worker in started:
            threads.submit(_feed, worker, take, done)
        for _ in headers:
            yield done.get()


def _feed(
    worker: subprocess.Popen[bytes], take: Callable[[], Header | None], done: SimpleQueue[tuple[Header, bool]]
) -> None:
    while header := take():
        done.put((header, _ask(worker, header)))


def _ask(worker: subprocess.Popen[bytes], header: Header) -> bool:
    """What the worker says; nothing, if it died, is no for an answer."""
    assert worker.stdin
    assert worker.stdout
    try:
        info = header.info
        worker.stdin.write(f"{info.path.base} {info.nar_hash.hex} {info.nar_size}\n".encode())
        worker.stdin.flush()
        return worker.stdout.readline() == b"whole\n"
    except OSError:
        return False


@contextmanager
def _workers(count: int, layout: Layout, full: bool) -> Iterator[list[subprocess.Popen[bytes]]]:
    words = (str(layout.root), "full" if full else "fast")
    started = [workers.start("ccstore.store.scrub", *words) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def serve() -> None:
    """Answers for each object in a line of standard input, until that ends."""
    workers.outlive_interrupts()
    layout, full = Layout(Path(sys.argv[1])), sys.argv[2] == "full"
    for line in sys.stdin:
        base, nar_hash, size = line.split()
        info = ObjectInfo(StorePath.parse(base), Sha256(bytes.fromhex(nar_hash)), int(size))
        whole = is_whole(layout, info, full)
        print("whole" if whole else "damaged", flush=True)
