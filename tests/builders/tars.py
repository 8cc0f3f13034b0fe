"""Tar archives for tests, honest and hostile, written by the standard library's own writer."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

Written = tuple[tarfile.TarInfo, bytes]


def entry(
    name: str, content: bytes = b"", *, type: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644
) -> Written:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = type, link, mode, len(content)
    return info, content


def file(name: str, content: bytes = b"x") -> Written:
    return entry(name, content)


def folder(name: str) -> Written:
    return entry(name, type=tarfile.DIRTYPE, mode=0o755)


def symlink(name: str, target: str) -> Written:
    return entry(name, type=tarfile.SYMTYPE, link=target)


def hardlink(name: str, target: str) -> Written:
    return entry(name, type=tarfile.LNKTYPE, link=target)


def tar(entries: Iterable[Written], format: int = tarfile.GNU_FORMAT) -> bytes:
    """The archive's bytes; an entry whose type has no body is written without one."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def with_checksum(block: bytes) -> bytes:
    """`block`, a header of 512 bytes, with the checksum that it should have."""
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


class Memory:
    """An archive's bytes, as the reader wants them."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def skip(self, size: int) -> bool:
        return len(self.take(size)) == size
