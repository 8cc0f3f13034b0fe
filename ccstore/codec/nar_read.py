"""Reading NARs from strangers: a stream is unpacked below one new path, and only if it is the one NAR of a tree.

Refused with `nar-invalid`: anything but the exact form in `ccstore.codec.nar`, padding that is not zero, names
that are empty, `.`, `..`, longer than 255 bytes, hold `/` or NUL, or do not ascend strictly (so no name comes
twice and no link is ever followed), and bytes after the end. Files are created with O_EXCL, relative to the open
folder that they belong to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ccstore.codec import nar
from ccstore.codec.compression import Readable
from ccstore.errors import CcError

_MAX_NAME = 255
_MAX_TARGET = 4095
_MAX_WORD = 16
_BLOCK = 1 << 18
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_ENTRY = nar.ENTRY[16:]  # after the word `entry`
_FILE = nar.NODE + nar.REGULAR
_END = nar.CLOSE + nar.CLOSE


def unpack(source: Readable, target: Path) -> None:
    """Makes the tree that the NAR in `source` describes, at `target`, which must not exist.

    Files get the modes 0644 or 0755. After an error what was made so far is left for the caller to remove.
    Raises CcError `nar-invalid`, `file-changed` if somebody moves the tree meanwhile, and OSError from reading and
    writing.
    """
    Unpacking(source).run(target)


class Unpacking:
    """Makes a tree from its NAR; what becomes of each folder, file and link can be overridden.

    Paths are relative to the tree, b"" for itself.
    """

    file_modes = (0o644, 0o755)  # without and with the executable bit

    def __init__(self, source: Readable) -> None:
        self._reader = _Reader(source.read)

    def run(self, target: Path) -> None:
        """Raises CcError `nar-invalid`, `file-changed`, and OSError."""
        self._reader.expect(nar.MAGIC)
        with _Place(target.parent) as place:
            self._node(place, os.fsencode(target.name))
        self._reader.expect_end()

    def enter(self, path: bytes) -> None:
        """Called when a folder has been made."""

    def leave(self, descriptor: int, path: bytes) -> None:
        """Called when everything in a folder is done."""

    def file(self, descriptor: int, path: bytes, size: int, executable: bool) -> None:
        """Writes the `size` bytes of a file, which `contents` gives."""
        for piece in self.contents(size):
            write_all(descriptor, piece)

    def link(self, parent: int, name: bytes, path: bytes, target: bytes) -> None:
        """Called when a link has been made."""

    def contents(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes in pieces; all of them have to be taken."""
        while size:
            piece = self._reader.some(size)
            size -= len(piece)
            yield piece

    def all_contents(self, size: int) -> bytes:
        """The next `size` bytes at once: for small files."""
        return self._reader.exact(size)

    def _node(self, place: _Place, name: bytes) -> None:
        if not self._leaf_or_folder(place.descriptor, name, b""):
            return
        place.enter(name, b"")
        while place.depth:
            self._next(place)

    def _next(self, place: _Place) -> None:
        """Makes the next entry of the folder, or leaves it."""
        reader = self._reader
        name = _next_name(reader, place)
        if name is None:
            self.leave(place.descriptor, place.path)
            place.leave()
            if place.depth:
                reader.expect(nar.CLOSE)
            return
        path = place.path + b"/" + name if place.path else name
        if reader.skip(_FILE):  # most entries: at once what the rest takes step by step
            self._contents(place.descriptor, name, path, executable=False)
            reader.expect(_END)
            return
        reader.expect(nar.NODE)
        if self._leaf_or_folder(place.descriptor, name, path):
            place.enter(name, path)
        else:
            reader.expect(nar.CLOSE)

    def _leaf_or_folder(self, parent: int, name: bytes, path: bytes) -> bool:
        """Makes what comes next; True if it is a folder, which is still empty then."""
        reader = self._reader
        reader.expect(nar.OPEN)
        kind = reader.string(_MAX_WORD)
        if kind == b"directory":
            os.mkdir(name, 0o755, dir_fd=parent)
            self.enter(path)
            return True
        if kind == b"regular":
            self._file(parent, name, path)
        elif kind == b"symlink":
            reader.expect(nar.string(b"target"))
            target = reader.string(_MAX_TARGET)
            if not target or b"\0" in target:
                raise reader.invalid(f"{target!r} cannot be the target of a link")
            os.symlink(target, name, dir_fd=parent)
            self.link(parent, name, path, target)
        else:
            raise reader.invalid(f"unknown type {kind!r}")
        reader.expect(nar.CLOSE)
        return False

    def _file(self, parent: int, name: bytes, path: bytes) -> None:
        reader = self._reader
        word = reader.string(_MAX_WORD)
        executable = word == b"executable"
        if executable:
            reader.expect(nar.string(b""))
            word = reader.string(_MAX_WORD)
        if word != b"contents":
            raise reader.invalid(f"'contents' expected, not {word!r}")
        self._contents(parent, name, path, executable=executable)

    def _contents(self, parent: int, name: bytes, path: bytes, *, executable: bool) -> None:
        size = self._reader.length()
        descriptor = os.open(name, _NEW, self.file_modes[executable], dir_fd=parent)
        try:
            self.file(descriptor, path, size, executable)
        finally:
            os.close(descriptor)
        self._reader.padding(size)


def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`, whatever one call of the system takes."""
    while (written := os.write(descriptor, data)) < len(data):
        data = data[written:]


class _Place:
    """The open folder that is being filled, its path in the tree, and the last name in it.

    One descriptor is open, however deep folders are nested: a NAR of 200 kB may have as many of them in one another
    as a process may have files open. Those above are found again by `..`, which must be what they were.
    """

    def __init__(self, folder: Path) -> None:
        self.descriptor = os.open(folder, _FOLDER)
        self.path = self.last = b""
        self._above: list[tuple[os.stat_result, bytes, bytes]] = []

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @property
    def depth(self) -> int:
        return len(self._above)

    def enter(self, name: bytes, path: bytes) -> None:
        self._above.append((os.fstat(self.descriptor), self.path, self.last))
        self._move(name)
        self.path, self.last = path, b""

    def leave(self) -> None:
        before, self.path, self.last = self._above.pop()
        self._move(b"..")
        if not os.path.samestat(before, os.fstat(self.descriptor)):
            hint = "try again when nothing else works in the store"
            raise CcError("file-changed", "a folder was moved while it was filled", hint=hint)

    def _move(self, name: bytes) -> None:
        there = os.open(name, _FOLDER, dir_fd=self.descriptor)
        os.close(self.descriptor)
        self.descriptor = there


def _next_name(reader: _Reader, place: _Place) -> bytes | None:
    """The name of the next entry of the folder, None when it has no more."""
    if not reader.skip(nar.ENTRY):
        word = reader.string(_MAX_WORD)
        if word == b")":
            return None
        if word != b"entry":
            raise reader.invalid(f"'entry' or ')' expected, not {word!r}")
        reader.expect(_ENTRY)
    name = reader.string(_MAX_NAME)
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise reader.invalid(f"{name!r} cannot name a file")
    if name <= place.last:
        raise reader.invalid(f"the name {name!r} comes after {place.last!r}")
    place.last = name
    return name


class _Reader:
    """Takes a stream apart into strings, and knows how far it got."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._buffer = b""
        self._at = 0
        self._before = 0  # bytes of the stream before the buffer

    def invalid(self, message: str) -> CcError:
        return CcError(
            "nar-invalid",
            f"not a NAR: {message} (near byte {self._before + self._at})",
            hint="the file is damaged or was not made by a Nix-compatible tool",
        )

    def some(self, limit: int) -> bytes:
        """The next 1 to `limit` bytes."""
        if self._at == len(self._buffer):
            self._before += self._at
            self._buffer = self._read(_BLOCK)
            self._at = 0
            if not self._buffer:
                raise self.invalid("it is cut short")
        data = self._buffer[self._at : self._at + limit]
        self._at += len(data)
        return data

    def exact(self, size: int) -> bytes:
        data = self.some(size) if size else b""
        while len(data) < size:
            data += self.some(size - len(data))
        return data

    def skip(self, data: bytes) -> bool:
        """Goes past `data` if it comes next, all of it in the buffer; False decides nothing."""
        if self._buffer.startswith(data, self._at):
            self._at += len(data)
            return True
        return False

    def expect(self, data: bytes) -> None:
        if self.skip(data):
            return
        found = self.exact(len(data))
        if found != data:
            raise self.invalid(f"{data!r} expected, not {found!r}")

    def length(self) -> int:
        return int.from_bytes(self.exact(8), "little")

    def padding(self, size: int) -> None:
        if any(self.exact(-size & 7)):
            raise self.invalid("padding that is not zero")

    def string(self, limit: int) -> bytes:
        size = self.length()
        if size > limit:
            raise self.invalid(f"a string of {size} bytes where at most {limit} can be")
        data = self.exact(size)
        self.padding(size)
        return data

    def expect_end(self) -> None:
        if self._at < len(self._buffer) or self._read(1):
            raise self.invalid("bytes after the end")
