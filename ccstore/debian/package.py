"""One Debian package: an `ar` archive of `debian-binary`, `control.tar.*` and `data.tar.*`.

Both tar archives are decompressed into a spool (a nameless temporary file), so that they can be listed as a
whole before anything is unpacked, and each file's bytes copied from there afterwards. Nothing but Python is
used: a host need not have dpkg, tar or xz.

Source: deb(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ccstore.builders import archive
from ccstore.errors import CcError

CHUNK = 1 << 20  # bytes
MAX_UNPACKED = 8 << 30  # bytes of one package, so that a bomb ends before the disk does
MAX_CONTROL = 16 << 20
ZSTD_INPUT = 2048  # bytes: each may stand for some 32,000


@dataclass(slots=True)
class Spool:
    """A nameless file that decompressed archives are appended to."""

    file: BinaryIO
    end: int = 0


@dataclass(frozen=True, slots=True)
class Packed:
    """An entry of a package, and where in the spool its bytes lie."""

    member: archive.Member
    spool: int
    offset: int


@dataclass(frozen=True, slots=True)
class Package:
    """What a package holds. `control` is its paragraph of metadata."""

    name: str
    control: str
    entries: tuple[Packed, ...]


class _Spooled:
    """The bytes [start, end) of a spool, as an archive's source."""

    def __init__(self, spool: int, start: int, end: int) -> None:
        self._spool = spool
        self.at = start
        self._end = end

    def take(self, size: int) -> bytes:
        data = os.pread(self._spool, min(size, self._end - self.at), self.at)
        self.at += len(data)
        return data

    def skip(self, size: int) -> bool:
        self.at += size
        return self.at <= self._end


def read_package(name: str, path: Path, spool: Spool) -> Package:
    """Lists the package `name` that lies at `path`.

    Raises `archive-refused` if it is no Debian package, if it is another package, or if one of its entries could
    reach outside the tree.
    """
    try:
        with path.open("rb") as file:
            control = _read_control(_decompressed(file, "control.tar"))
            start = spool.end
            for chunk in _limited(_decompressed(file, "data.tar"), MAX_UNPACKED):
                spool.file.write(chunk)
                spool.end += len(chunk)
        spool.file.flush()
        entries = tuple(_list(spool.file.fileno(), start, spool.end))
    except archive.ArchiveRefused as refused:
        raise refusal(name, str(refused)) from refused
    if _field(control, "Package") != name:
        raise refusal(name, f"it is the package {_field(control, 'Package')!r}")
    return Package(name, control, entries)


def refusal(name: str, reason: str) -> CcError:
    return CcError(
        "archive-refused",
        f"the package {name} is refused: {reason}",
        hint="nothing of it was unpacked; see if the lock names the right file",
    )


def _list(spool: int, start: int, end: int) -> Iterator[Packed]:
    check = archive.TreeCheck(absolute_links=True, max_bytes=MAX_UNPACKED)
    source = _Spooled(spool, start, end)
    for member in archive.members(source):
        check.add(member)
        yield Packed(member, spool, source.at)


def _read_control(chunks: Iterator[bytes]) -> str:
    """The text of the file `control` in a package's first tar archive."""
    data = b"".join(_limited(chunks, MAX_CONTROL))
    source = _Memory(data)
    for member in archive.members(source):
        if member.path == b"control" and member.kind is archive.FILE:
            return data[source.at : source.at + member.size].decode("utf-8", "replace").strip()
    raise archive.ArchiveRefused(b"control.tar", "has no file control")


class _Memory:
    """Bytes in memory, as an archive's source."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        self.at += len(taken)
        return taken

    def skip(self, size: int) -> bool:
        self.at += size
        return self.at <= len(self._data)


def _field(control: str, key: str) -> str:
    for line in control.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.lower() == key.lower():
            return value.strip()
    return ""


def _limited(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    for chunk in chunks:
        limit -= len(chunk)
        if limit < 0:
            raise archive.ArchiveRefused(b"", "it is larger than it may be")
        yield chunk


def _decompressed(file: BinaryIO, prefix: str) -> Iterator[bytes]:
    """The content of the member `prefix` or `prefix.<compression>`."""
    from debian.arfile import ArError, ArFile

    file.seek(0)
    try:
        found = [each for each in ArFile(fileobj=file).getmembers() if each.name.startswith(prefix)]
    except (ArError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the package's
        raise archive.ArchiveRefused(b"", f"it is no Debian package ({error})") from error
    if len(found) != 1:
        raise archive.ArchiveRefused(b"", f"it has {len(found)} members {prefix}.*, not one")
    name = found[0].name
    stream = _opened(found[0], name.removeprefix(prefix))
    try:
        while chunk := stream.read(CHUNK):
            yield chunk
    except _damage() as error:
        raise archive.ArchiveRefused(os.fsencode(name), f"cannot be decompressed ({error})") from error


def _damage() -> tuple[type[Exception], ...]:
    import lzma
    import zlib

    import zstandard

    return (lzma.LZMAError, zlib.error, zstandard.ZstdError, OSError, EOFError)


class _Zstd:
    """Decompresses zstd frames; zstandard's own reader takes a stream that is cut short for one that ends."""

    def __init__(self, packed: BinaryIO) -> None:
        self._chunks = self._frames(packed)

    def read(self, size: int) -> bytes:
        """The next bytes, however many; none at the end. Raises EOFError for a stream that is cut short."""
        return next((chunk for chunk in self._chunks if chunk), b"")

    def _frames(self, packed: BinaryIO) -> Iterator[bytes]:
        import zstandard

        rest = packed.read(ZSTD_INPUT)
        while True:
            frame = zstandard.ZstdDecompressor().decompressobj()
            while not frame.eof:
                if not rest:
                    raise EOFError("it is cut short")
                yield frame.decompress(rest)
                rest = frame.unused_data or packed.read(ZSTD_INPUT)
            if not rest:
                return


def _opened(member: Any, suffix: str) -> Any:
    """A file object with what `member` holds once decompressed."""
    import bz2
    import gzip
    import lzma

    readers: dict[str, Callable[[Any], Any]] = {
        "": lambda packed: packed,
        ".gz": lambda packed: gzip.GzipFile(fileobj=packed),
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".lzma": lzma.LZMAFile,
        ".zst": _Zstd,
    }
    if suffix not in readers:
        raise archive.ArchiveRefused(os.fsencode(suffix), "is an unknown compression")
    return readers[suffix](member)
