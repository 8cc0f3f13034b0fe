"""initrd.img: the root as a compressed cpio archive, written straight from the tar archive.

The format is `newc` (Linux, Documentation/driver-api/early-userspace/buffer-format.rst): a header of hexadecimal
numbers, the name, the body, each padded to 4 bytes. Nothing is unpacked, so owners, devices and names of any bytes
need no privilege. Links to one file share an inode number; the body comes with the last of them, as cpio does it.
Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import stat
import subprocess
import tarfile
from pathlib import Path
from typing import BinaryIO

MAGIC = b"070701"
TRAILER = b"TRAILER!!!"
MOST = 0xFFFFFFFF  # a number has 8 hexadecimal digits
PADDING = 512  # bytes; of the whole archive, as cpio writes it
_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


class TooLargeError(ValueError):
    """A number does not fit into the format."""


def header(name: bytes, mode: int, *, inode: int, links: int, size: int, entry: tarfile.TarInfo) -> bytes:
    """The header of one entry with its name, padded."""
    fields = [inode, mode, entry.uid, entry.gid, links, int(entry.mtime), size, 0, 0]
    fields += [entry.devmajor, entry.devminor, len(name) + 1, 0]
    if max(fields) > MOST:
        raise TooLargeError(
            f"{name.decode(errors='backslashreplace')} has a number above {MOST}: {max(fields)}"
        )
    text = MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return text + bytes(-len(text) % 4)


class Writer:
    """Writes the entries of one tar archive as newc."""

    def __init__(self, tar: tarfile.TarFile, sink: BinaryIO) -> None:
        self._tar = tar
        self._sink = sink
        self._written = 0
        self._entries = tar.getmembers()
        self._inodes: dict[str, int] = {}
        self._links: dict[str, int] = {}
        for entry in self._entries:
            self._links[_first(entry)] = self._links.get(_first(entry), 0) + 1
        self._left = dict(self._links)

    def write(self) -> None:
        for entry in self._entries:
            self._entry(entry)
        self._put(header(TRAILER, 0, inode=0, links=1, size=0, entry=_nothing()))
        self._put(bytes(-self._written % PADDING))

    def _entry(self, entry: tarfile.TarInfo) -> None:
        first = _first(entry)
        source = self._tar.getmember(first) if entry.islnk() else entry
        inode = self._inodes.setdefault(first, len(self._inodes) + 1)
        self._left[first] -= 1
        kind = _KINDS.get(source.type, stat.S_IFREG)
        text = source.linkname.encode("utf-8", "surrogateescape") if source.issym() else b""
        size = len(text) or (source.size if source.isreg() and not self._left[first] else 0)
        name = entry.name.encode("utf-8", "surrogateescape")
        mode = kind | source.mode & 0o7777
        self._put(header(name, mode, inode=inode, links=self._links[first], size=size, entry=source))
        if text:
            self._put(text)
        elif size:
            self._body(source)
        self._put(bytes(-size % 4))

    def _body(self, entry: tarfile.TarInfo) -> None:
        body = self._tar.extractfile(entry)
        assert body is not None
        with body:
            while chunk := body.read(1 << 20):
                self._put(chunk)

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self._written += len(data)


def _first(entry: tarfile.TarInfo) -> str:
    """The name under which an entry's file came first."""
    return entry.linkname if entry.islnk() else entry.name


def _nothing() -> tarfile.TarInfo:
    nothing = tarfile.TarInfo()
    nothing.mtime = 0
    return nothing


COMPRESSOR = ("zstd", "-19", "--single-thread", "--no-progress", "-q", "-c")


def make_initrd(archive: Path, image: Path) -> None:
    """Raises TooLargeError for what newc cannot hold."""
    plain = image.with_suffix(".cpio")
    with (
        tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar,
        plain.open("wb") as sink,
    ):
        Writer(tar, sink).write()
    with plain.open("rb") as source, image.open("wb") as sink:
        subprocess.run(COMPRESSOR, stdin=source, stdout=sink, check=True)
    plain.unlink()
