"""Tar archives, written as streams of bytes: names in the order given, of 1970-01-01 00:00:01.

Format: POSIX.1-2017, pax. Names and links are text with surrogateescape, so that every byte string survives.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, BinaryIO

END = bytes(2 * tarfile.BLOCKSIZE)
_CHUNK = 1 << 20
_TIME = 1  # as the files of the store have it


def folder(name: str, mode: int = 0o755, owner: int = 0) -> bytes:
    return _header(name, tarfile.DIRTYPE, mode, owner)


def symlink(name: str, target: str, owner: int = 0) -> bytes:
    return _header(name, tarfile.SYMTYPE, 0o777, owner, target=target)


def text(name: str, data: bytes, mode: int = 0o644, owner: int = 0) -> bytes:
    return _header(name, tarfile.REGTYPE, mode, owner, len(data)) + data + _padding(len(data))


def file(name: str, content: BinaryIO, size: int, mode: int = 0o644, owner: int = 0) -> Iterator[bytes]:
    """One file of `size` bytes. Raises EOFError if there are fewer, and OSError."""
    yield _header(name, tarfile.REGTYPE, mode, owner, size)
    left = size
    while left:
        chunk = content.read(min(left, _CHUNK))
        if not chunk:
            raise EOFError(f"{name} is shorter than {size} bytes")
        left -= len(chunk)
        yield chunk
    yield _padding(size)


def _header(name: str, kind: Any, mode: int, owner: int, size: int = 0, target: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime, member.size = kind, mode, _TIME, size
    member.uid = member.gid = owner
    member.linkname = target
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
