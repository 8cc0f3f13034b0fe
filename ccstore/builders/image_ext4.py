"""An ext4 file system that is the same whoever makes it, whenever.

It has a journal, because Clear Containers' runtime mounts it with `data=ordered`. What mke2fs leaves of the machine
that it ran on (change times, fractions of seconds, generations) is overwritten inode by inode by debugfs; the rest of
an inode comes from the archive. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
else:  # inside the sandbox, where there is no ccstore
    import image_common as common

JOURNAL = 4 * common.MIB  # bytes; the least that ext4 takes with blocks of 4096
SMALLEST = 10 * common.MIB  # bytes; a journal may take half of what is free, and not less than its 4 MiB
INODE = 256  # bytes
RESERVED_INODES = 11  # with lost+found
FEATURES = (
    "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)
_TIMES = ("atime", "ctime", "mtime", "crtime")


def make_ext4(root: common.Root, image: Path) -> None:
    """Writes an ext4 file system to `image`, whose size is a multiple of 2 MiB."""
    inodes, size = measure(root.archive)
    identity = root.uuid_for("ext4")
    with image.open("wb") as file:
        file.truncate(size)
    extended = f"hash_seed={root.uuid_for('ext4 hash seed')},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    options = ["-t", "ext4", "-O", FEATURES, "-b", common.BLOCK, "-I", INODE, "-N", inodes, "-m", 0]
    options += ["-J", f"size={JOURNAL // common.MIB}", "-U", identity, "-E", extended, "-d", common.TREE]
    common.in_root(root, "mke2fs", "-q", "-F", *map(str, options), image, env=_clock())
    normalise(image)
    common.tool("e2fsck", "-f", "-n", image, env=_clock())


def measure(archive: Path) -> tuple[int, int]:
    """How many inodes the archive needs, and how many bytes its file system."""
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        entries = [entry for entry in tar if not entry.islnk()]
        names = sum(len(entry.name) + 16 for entry in tar)
    inodes = len(entries) + RESERVED_INODES + 1
    blocks = sum(common.round_up(entry.size or 1, common.BLOCK) // common.BLOCK for entry in entries)
    data = (blocks + 64) * common.BLOCK + 2 * names + inodes * INODE + JOURNAL
    return inodes, max(SMALLEST, common.round_up(data + data // 50, 2 * common.MIB))


def normalise(image: Path) -> None:
    """Overwrites what an inode has from the machine that made it."""
    commands = common.BUILD / "debugfs.commands"
    lines = []
    for inode in used_inodes(image):
        lines += [f"sif <{inode}> {name} @{common.epoch()}" for name in _TIMES]
        lines += [f"sif <{inode}> {name}_extra 0" for name in _TIMES]
        lines.append(f"sif <{inode}> generation 0")
    commands.write_text("\n".join(lines) + "\n")
    common.tool("debugfs", "-w", "-f", commands, image, env=_clock(), quiet=True)


def used_inodes(image: Path) -> Iterator[int]:
    listing = common.tool("dumpe2fs", image, quiet=True)
    [total] = re.findall(r"^Inode count: +(\d+)", listing, re.M)
    free: set[int] = set()
    for line in re.findall(r"^  Free inodes: (.*)$", listing, re.M):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            free.update(range(int(first), int(last or first) + 1))
    return (inode for inode in range(1, int(total) + 1) if inode not in free)


def _clock() -> dict[str, str]:
    return {"E2FSPROGS_FAKE_TIME": str(common.epoch())}
