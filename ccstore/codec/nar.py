"""NAR, the serialisation of a file tree whose SHA-256 identifies a store object (DESIGN, rule 1).

Source: Nix manual, "Nix Archive". A NAR knows files with one executable bit, folders and symbolic links; it has
no times, no owners, no other modes. Everything in it is a string: its length as a little-endian 64-bit number,
its bytes, zeros up to a multiple of eight.

    nar       = "nix-archive-1" node
    node      = "(" "type" body ")"
    body      = "regular" ["executable" ""] "contents" BYTES
              | "symlink" "target" TARGET
              | "directory" { "entry" "(" "name" NAME "node" node ")" }   names strictly ascending as raw bytes

There is exactly one NAR for a tree, and the reader takes no other (code `nar-invalid`). Depth is bounded by
nothing but memory: writer and reader keep their own stacks.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256

CHUNK = 1 << 20
_LENGTH = struct.Struct("<Q")
_PADDING = tuple(bytes(n) for n in range(8))
_BY_NAME = attrgetter("name")
_AHEAD = 8  # chunks that may wait for the hashing thread


def string(data: bytes) -> bytes:
    """`data` as a NAR holds it."""
    return _LENGTH.pack(len(data)) + data + _PADDING[-len(data) & 7]


MAGIC = string(b"nix-archive-1")
OPEN = string(b"(") + string(b"type")
CLOSE = string(b")")
DIRECTORY = OPEN + string(b"directory")
SYMLINK = OPEN + string(b"symlink") + string(b"target")
REGULAR = OPEN + string(b"regular") + string(b"contents")
EXECUTABLE = OPEN + string(b"regular") + string(b"executable") + string(b"") + string(b"contents")
ENTRY = string(b"entry") + string(b"(") + string(b"name")
NODE = string(b"node")


def file_head(size: int, executable: bool) -> bytes:
    """What comes before the `size` bytes of a file."""
    return (EXECUTABLE if executable else REGULAR) + _LENGTH.pack(size)


def file_tail(size: int) -> bytes:
    """What comes after the `size` bytes of a file."""
    return _PADDING[-size & 7] + CLOSE


def sorted_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    """The entries of `folder` in NAR order."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=_BY_NAME)


class Walk:
    """Goes through the tree at `root` in NAR order and gives its NAR in pieces of at most about 1 MiB.

    What happens to each file, link and folder on the way can be overridden; the methods return or yield the
    pieces of the NAR that stand for it. Raises CcError with the code `refusal` for what is neither file, folder
    nor link (it is not opened), `file-changed` for a file that is written to meanwhile, and OSError.
    """

    refusal = "nar-invalid"

    def __init__(self, root: Path) -> None:
        self.root = os.fsencode(root)

    def pieces(self) -> Iterator[bytes]:
        yield MAGIC
        mode = os.lstat(self.root).st_mode
        if stat.S_ISDIR(mode):
            yield from self._tree()
        elif stat.S_ISLNK(mode):
            yield from self.link(self.root)
        elif stat.S_ISREG(mode):
            yield from self.file(self.root)
        else:
            raise self._unsupported(self.root)

    def _tree(self) -> Iterator[bytes]:
        yield DIRECTORY
        stack = [(self.root, iter(self.enter(self.root)))]
        while stack:
            folder, entries = stack[-1]
            for entry in entries:
                path = entry.path
                yield ENTRY + string(entry.name) + NODE
                if entry.is_dir(follow_symlinks=False):
                    yield DIRECTORY
                    stack.append((path, iter(self.enter(path))))
                    break
                if entry.is_file(follow_symlinks=False):
                    yield from self.file(path)
                elif entry.is_symlink():
                    yield from self.link(path)
                else:
                    raise self._unsupported(path)
                yield CLOSE
            else:
                stack.pop()
                self.leave(folder)
                yield CLOSE + CLOSE if stack else CLOSE

    def enter(self, folder: bytes) -> list[os.DirEntry[bytes]]:
        return sorted_entries(folder)

    def leave(self, folder: bytes) -> None:
        """Called when everything in `folder` is done."""

    def link(self, path: bytes) -> tuple[bytes, ...]:
        return (SYMLINK + string(os.readlink(path)) + CLOSE,)  # noqa: PTH115  bytes, and in a hurry

    def file(self, path: bytes) -> Iterable[bytes]:
        descriptor = os.open(path, READ)
        try:
            status = os.fstat(descriptor)
            size = status.st_size
            head = file_head(size, bool(status.st_mode & stat.S_IXUSR))
            if size <= CHUNK:
                return (head, read_all(descriptor, size, path), file_tail(size))
        finally:
            os.close(descriptor)
        return self._large(path, size, head)

    def _large(self, path: bytes, size: int, head: bytes) -> Iterator[bytes]:
        yield head
        yield from read_large(path, size)
        yield file_tail(size)

    def _unsupported(self, path: bytes) -> CcError:
        return CcError(
            self.refusal,
            "only files, folders and symbolic links can be in a store object",
            where=os.fsdecode(path),
            hint="remove the socket, FIFO or device",
        )


# O_NONBLOCK: if a FIFO takes a file's place meanwhile, opening it must not wait for a writer
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


def read_all(descriptor: int, size: int, path: bytes) -> bytes:
    """The `size` bytes of an open file; `file-changed` if it has more or fewer."""
    data = os.read(descriptor, size + 1)
    if len(data) != size:
        raise changed(path)
    return data


def read_large(path: bytes, size: int) -> Iterator[bytes]:
    """The `size` bytes of a file in pieces; `file-changed` if it has more or fewer."""
    left = size
    with os.fdopen(os.open(path, READ), "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            left -= len(data)
            yield data
    if left:
        raise changed(path)


def changed(path: bytes) -> CcError:
    """The error for a file whose length is not what it was a moment ago."""
    return CcError(
        "file-changed",
        "the file was written to while it was read",
        where=os.fsdecode(path),
        hint="try again when nothing writes to it",
    )


def chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """`parts`, small ones joined to about 1 MiB."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= CHUNK:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)


def dump(path: Path, sink: Callable[[bytes], object]) -> None:
    """Writes the NAR of the tree at `path` to `sink`, in chunks of about 1 MiB. Raises as `Walk` does."""
    for chunk in chunks(Walk(path).pieces()):
        sink(chunk)


def nar_hash(path: Path) -> tuple[Sha256, int]:
    """SHA-256 of the NAR of `path` and its length in bytes. Raises as `Walk` does."""
    return hash_walk(Walk(path))


def hash_walk(walk: Walk) -> tuple[Sha256, int]:
    """Goes through `walk` to the end; the SHA-256 and the length of the NAR it gives."""
    with Hasher() as hasher:
        for chunk in chunks(walk.pieces()):
            hasher.feed(chunk)
        return hasher.result()


class Hasher:
    """SHA-256 in a thread of its own: hashing holds no GIL, so it runs beside the walk that feeds it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._queue: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._run, name="nar-hash", daemon=True)
        self._thread.start()

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def _run(self) -> None:
        while (chunk := self._queue.get()) is not None:
            self._hash.update(chunk)
            self._size += len(chunk)

    def _finish(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def feed(self, chunk: bytes) -> None:
        self._queue.put(chunk)

    def result(self) -> tuple[Sha256, int]:
        """The digest of everything fed so far and its length; nothing can be fed afterwards."""
        self._finish()
        return Sha256(self._hash.digest()), self._size
