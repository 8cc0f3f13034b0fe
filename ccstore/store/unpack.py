"""A NAR from elsewhere becomes a tree in canonical form, hashed on the way: nothing is written and read again.

The result is what `canonical.canonicalise` gives of the same tree. Decompression, which happens in the reading of
the stream, and the hash of the NAR have threads of their own.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import xxhash

from ccstore.codec import nar
from ccstore.codec.compression import Readable
from ccstore.codec.nar_read import Unpacking, write_all
from ccstore.store.canonical import FOLDER_MODE, TIMES, Scan, check_depth, file_mode, remove_xattrs
from ccstore.store.manifest import file_record, folder_record, link_record

_BLOCK = 1 << 18
_AHEAD = 16  # blocks that may wait


def unpack(source: Readable, target: Path) -> Scan:
    """Makes the tree that the NAR in `source` describes at `target`, a new path.

    Raises CcError `nar-invalid`, `output-invalid` for one nested too deep, what reading `source` raises, and OSError.
    After an error what was made so far is left for the caller to remove.
    """
    with nar.Hasher() as hasher, _read_ahead(source, hasher) as stream:
        unpacking = _Canonical(stream, inherits="system.posix_acl_default" in os.listxattr(target.parent))
        unpacking.run(target)
        nar_hash, nar_size = hasher.result()
    return Scan(nar_hash, nar_size, unpacking.records)


class _Canonical(Unpacking):
    file_modes = (file_mode(False), file_mode(True))

    def __init__(self, source: Readable, *, inherits: bool) -> None:
        super().__init__(source)
        self.records: list[bytes] = []
        self._inherits = inherits  # new files get attributes that nobody asked for
        self._umask = _umask()

    def enter(self, path: bytes) -> None:
        check_depth(path)
        self.records.append(folder_record(path))

    def leave(self, descriptor: int, path: bytes) -> None:
        os.fchmod(descriptor, FOLDER_MODE)
        self._settle(descriptor, FOLDER_MODE)

    def link(self, parent: int, name: bytes, path: bytes, target: bytes) -> None:
        self.records.append(link_record(path, target))
        os.utime(name, ns=TIMES, dir_fd=parent, follow_symlinks=False)

    def file(self, descriptor: int, path: bytes, size: int, executable: bool) -> None:
        if size <= nar.CHUNK:
            data = self.all_contents(size)
            write_all(descriptor, data)
            digests = hashlib.sha256(data).digest() + xxhash.xxh3_128_digest(data)
        else:
            digests = self._large(descriptor, size)
        self._settle(descriptor, self.file_modes[executable])
        self.records.append(file_record(path, size, executable, digests))

    def _settle(self, descriptor: int, mode: int) -> None:
        if self._inherits:
            remove_xattrs(descriptor)
        if self._inherits or mode & self._umask:
            os.fchmod(descriptor, mode)
        os.utime(descriptor, ns=TIMES)

    def _large(self, descriptor: int, size: int) -> bytes:
        sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
        for piece in self.contents(size):
            write_all(descriptor, piece)
            sha256.update(piece)
            xxh3.update(piece)
        return sha256.digest() + xxh3.digest()


def _umask() -> int:
    """What new files do not get of their mode; all of it where the kernel does not say."""
    try:
        with Path("/proc/self/status").open(
            encoding="utf-8"
        ) as file:  # os.umask would change it for other threads
            return next(int(line.split()[1], 8) for line in file if line.startswith("Umask:"))
    except (OSError, StopIteration):
        return 0o777


class _Ahead:
    """Reads a stream in a thread of its own, and feeds all of it to a hasher."""

    def __init__(self, source: Readable, hasher: nar.Hasher) -> None:
        self._source, self._hasher = source, hasher
        self._blocks: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nar-read", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                block = self._source.read(_BLOCK)
                if block:
                    self._hasher.feed(block)
                self._put(block)
                if not block:
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, block: bytes | BaseException) -> None:
        while not self._ended.is_set():
            try:
                self._blocks.put(block, timeout=0.1)
            except queue.Full:
                continue
            return

    def read(self, size: int, /) -> bytes:
        """The next block, which may be longer than `size`; none at the end, and as often as it is asked."""
        block = self._blocks.get()
        if isinstance(block, BaseException):
            self._blocks.put(block)
            raise block
        if not block:
            self._blocks.put(block)
        return block

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@contextmanager
def _read_ahead(source: Readable, hasher: nar.Hasher) -> Iterator[_Ahead]:
    ahead = _Ahead(source, hasher)
    try:
        yield ahead
    finally:
        ahead.close()
