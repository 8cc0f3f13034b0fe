"""File systems: the fields of their superblocks that differ without anybody's doing, by name.

Sources: Linux, Documentation/filesystems/ext4/super.rst, fs/erofs/erofs_fs.h, fs/squashfs/squashfs_fs.h.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from ccstore.compare import blobs
from ccstore.compare.causes import RANDOM, TIME
from ccstore.compare.findings import Context, Data, Finding

SUPERBLOCK = 1024  # bytes from its magic on, at most
# name, where the magic is and what; then fields: name, offset, size; a size of 16 is a UUID, else a time
_KINDS: tuple[tuple[str, int, bytes, tuple[tuple[str, int, int], ...]], ...] = (
    (
        "ext4",
        0x438,
        b"\x53\xef",
        (
            ("mount time", 0x42C, 4),
            ("write time", 0x430, 4),
            ("last check", 0x440, 4),
            ("UUID", 0x468, 16),
            ("hash seed", 0x4EC, 16),
            ("creation time", 0x508, 4),
        ),
    ),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0", (("build time", 0x418, 8), ("UUID", 0x430, 16))),
    ("squashfs", 0, b"hsqs", (("modification time", 8, 4),)),
)


def explain(first: Data, second: Data, context: Context) -> Iterator[Finding]:
    """What differs in the superblock, then what does elsewhere."""
    begin = 0
    for name, at, magic, fields in _KINDS:
        if first[at : at + len(magic)] == second[at : at + len(magic)] == magic:
            begin = at + SUPERBLOCK
            for title, offset, size in fields:
                one, other = first[offset : offset + size], second[offset : offset + size]
                if one != other:
                    cause = RANDOM if size == 16 else TIME
                    where = context.at(f"{name} superblock", title)
                    yield where.found(_shown(one), _shown(other), (cause,))
    if begin and first[begin:] != second[begin:]:
        yield from blobs.explain(first, second, context, begin)


def _shown(value: bytes) -> str:
    return str(uuid.UUID(bytes=value)) if len(value) == 16 else str(int.from_bytes(value, "little"))
