"""The fast answer of `verify`: is an object, whole and in its canonical form, what its manifest says?

Most objects are, so this asks no more than it must: the manifest, in NAR order, leads through the tree, and each
file is opened and read once. In a full run its bytes also make the NAR, whose SHA-256 is taken in a thread beside. An
object that is not whole is looked at again by `verify`, which finds what exactly is wrong with it.

A large store is shared out among processes, one object at a time: `serve` is what each of them runs.
"""

from __future__ import annotations

import os
import signal
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
from ccstore.store import manifest
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
        pieces = _Comparison(layout.object(path), records, full).pieces()
        if full:
            return _hash(pieces) == info.nar_hash
        for _ in pieces:
            pass
    except (_DifferentError, CcError, OSError, ValueError, KeyError):
        return False
    return True


def _hash(pieces: Iterator[bytes]) -> Sha256:
    with nar.Hasher() as hasher:
        for chunk in nar.chunks(pieces):
            hasher.feed(chunk)
        return hasher.result()[0]


class _Comparison:
    """Goes through an object by its manifest; the pieces of its NAR if they are `wanted`, else none."""

    def __init__(self, place: Path, records: Iterator[Record], wanted: bool) -> None:
        self._place = os.fsencode(place)
        self._records = records
        self._wanted = wanted
        self._names: dict[bytes, set[bytes]] = {}
        self._open: list[bytes] = []  # what the paths in each folder begin with that is not closed yet

    def pieces(self) -> Iterator[bytes]:
        wanted = self._wanted
        if wanted:
            yield nar.MAGIC
        for kind, path, size, payload in self._records:
            where = self._place + b"/" + path if path else self._place
            if wanted:
                yield from self._opening(path)
            if path:
                folder, _, name = path.rpartition(b"/")
                self._names[folder].add(name)
            if kind == b"d":
                yield from self._folder(where, path)
            elif kind == b"l":
                yield from self._link(where, payload)
            else:
                yield from self._file(where, _MODES[kind], size, payload[32:])
            if wanted and path and kind != b"d":
                yield nar.CLOSE
        if wanted:
            yield from self._closing(b"")
        self._nothing_was_added()

    def _opening(self, path: bytes) -> Iterator[bytes]:
        yield from self._closing(path)
        if path:
            yield nar.ENTRY + nar.string(path.rpartition(b"/")[2]) + nar.NODE

    def _closing(self, following: bytes) -> Iterator[bytes]:
        """Ends the folders that `following` is not in."""
        while self._open and not (following and following.startswith(self._open[-1])):
            yield nar.CLOSE + nar.CLOSE if self._open.pop() else nar.CLOSE

    def _folder(self, where: bytes, path: bytes) -> Iterator[bytes]:
        status = os.lstat(where)
        if status.st_mode != _FOLDER or status.st_mtime_ns != MTIME_NS:
            raise _DifferentError
        self._names[path] = set()
        if self._wanted:
            self._open.append(path + b"/" if path else b"")
            yield nar.DIRECTORY

    def _link(self, where: bytes, target: bytes) -> Iterator[bytes]:
        if os.lstat(where).st_mtime_ns != MTIME_NS or os.readlink(where) != target:  # noqa: PTH115
            raise _DifferentError
        if self._wanted:
            yield nar.SYMLINK + nar.string(target) + nar.CLOSE

    def _file(self, where: bytes, mode: int, size: int, xxh3: bytes) -> Iterator[bytes]:
        descriptor = os.open(where, nar.READ)
        try:
            status = os.fstat(descriptor)
            if status.st_mode != mode or status.st_size != size or status.st_mtime_ns != MTIME_NS:
                raise _DifferentError
            data = os.read(descriptor, size + 1) if size <= nar.CHUNK else b""
        finally:
            os.close(descriptor)
        if self._wanted:
            yield nar.file_head(size, bool(mode & stat.S_IXUSR))
        if size > nar.CHUNK:
            yield from self._large(where, size, xxh3)
        elif xxhash.xxh3_128_digest(data) != xxh3:
            raise _DifferentError
        elif self._wanted:
            yield data
        if self._wanted:
            yield nar.file_tail(size)

    def _large(self, where: bytes, size: int, xxh3: bytes) -> Iterator[bytes]:
        state = xxhash.xxh3_128()
        for data in nar.read_large(where, size):
            state.update(data)
            if self._wanted:
                yield data
        if state.digest() != xxh3:
            raise _DifferentError

    def _nothing_was_added(self) -> None:
        for folder, names in self._names.items():
            with os.scandir(os.path.join(self._place, folder)) as entries:
                if any(entry.name not in names for entry in entries):
                    raise _DifferentError


def scrub(layout: Layout, headers: Sequence[Header], full: bool) -> Iterator[tuple[Header, bool]]:
    """Each registered object, and whether it is whole and registered as what it is; in any order.

    As many processes work on it as are worth it.
    """
    size = sum(each.info.nar_size for each in headers)
    count = min(len(os.sched_getaffinity(0)), len(headers))
    # an embedded Python has no name, and one that another user started may be out of reach
    startable = bool(sys.executable) and os.access(sys.executable, os.X_OK)
    if size < LARGE or count < 2 or not startable:
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

    with ThreadPoolExecutor(count) as threads, _workers(count, layout, full) as workers:
        for worker in workers:
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
    code = "from ccstore.store.scrub import serve; serve()"
    argv = [sys.executable, "-P", "-c", code, str(layout.root), "full" if full else "fast"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    workers = [subprocess.Popen(argv, env=environment, stdin=pipe, stdout=pipe) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def serve() -> None:
    """Answers for each object in a line of standard input, until that ends; whoever asks is interrupted first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    layout, full = Layout(Path(sys.argv[1])), sys.argv[2] == "full"
    for line in sys.stdin:
        base, nar_hash, size = line.split()
        info = ObjectInfo(StorePath.parse(base), Sha256(bytes.fromhex(nar_hash)), int(size))
        whole = is_whole(layout, info, full)
        print("whole" if whole else "damaged", flush=True)
