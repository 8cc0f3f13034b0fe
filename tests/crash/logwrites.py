"""The log of every write to a disk that QEMU's `blklogwrites` keeps, and what the disk holds if its power is cut.

The format is that of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a super block
and, from the next sector on, entries of one sector, each followed by what it wrote; all numbers are little-endian.

    super   u64 magic, u64 version, u64 number of entries, u32 bytes in a sector
    entry   u64 sector, u64 number of sectors, u64 flags, u64 length of a mark's text

What was written before a flush began is on the disk when the flush ends; of what came later any part may be.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAGIC, VERSION = 0x6A736677736872, 1
FLUSH, FUA, DISCARD = 1, 2, 4
_SUPER, _ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")


@dataclass(frozen=True)
class Write:
    """`data` at byte `at`; None discards `size` bytes. `flags` as in the log: a flush has no data."""

    at: int
    size: int
    flags: int
    data: bytes | None


def read(log: Path) -> Iterator[Write]:
    """The entries of a log in the order in which they were written. Raises ValueError if it is none."""
    with log.open("rb") as file:
        magic, version, count, sector = _SUPER.unpack(file.read(_SUPER.size))
        if (magic, version) != (MAGIC, VERSION):
            raise ValueError(f"{log} is no log of writes")
        position = sector
        for _ in range(count):
            file.seek(position)
            at, number, flags, _ = _ENTRY.unpack(file.read(_ENTRY.size))
            position += sector
            size = number * sector
            data = None
            if not flags & DISCARD:
                file.seek(position)
                data = file.read(size)
                position += size
            yield Write(at * sector, size, flags, data)


@dataclass
class Cut:
    """What a disk holds whose power is cut: all that was flushed, and some of what was not. `marks` are texts written
    raw at or after byte `marks_at`, all of them before the cut."""

    image: Path
    marks_at: int
    marks: list[str] = field(default_factory=list)
    pending: list[Write] = field(default_factory=list)

    def take(self, write: Write) -> None:
        """Goes on by one entry of the log: `image` is what is certainly on the disk."""
        if write.flags & FLUSH:
            for each in self.pending:
                apply(self.image, each)
            self.pending.clear()
        if write.data and write.at >= self.marks_at:
            self.marks.append(write.data.rstrip(b"\0").decode())
        elif write.size and write.flags & FUA:
            apply(self.image, write)
        elif write.size:
            self.pending.append(write)

    def with_some_of_the_rest(self, copy: Path, source: random.Random) -> None:
        """Makes `copy`, a copy of the image, what the disk may also hold."""
        for each in self.pending:
            if source.random() < 0.5:
                apply(copy, each)


def apply(image: Path, write: Write) -> None:
    with image.open("r+b") as file:
        file.seek(write.at)
        file.write(bytes(write.size) if write.data is None else write.data)
