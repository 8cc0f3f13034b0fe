"""A disk of partitions, named by a GPT (UEFI specification, chapter 5) that sfdisk writes at both ends.

Before the first partition and after the last is an edge, in which the GPTs are. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
else:  # inside the sandbox, where there is no ccstore
    import image_common as common

NARROW = 32 << 10  # bytes: an edge that is large enough for a GPT of 128 partitions
WIDE = common.MIB  # what disks usually have
SECTOR = 512
LINUX_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"  # the type "Linux filesystem data"


def make_disk(disk: Path, root: common.Root, edge: int, partitions: list[tuple[str, Path]]) -> list[int]:
    """Writes a disk of named partitions with the given contents; returns where each begins, in bytes."""
    starts, end = [], edge
    for _, content in partitions:
        starts.append(end)
        end += common.round_up(content.stat().st_size, common.BLOCK)
    with disk.open("wb") as file:
        file.truncate(end + edge)
    lines = [
        "label: gpt",
        f"label-id: {root.uuid_for('disk')}",
        "unit: sectors",
        f"first-lba: {edge // SECTOR}",
    ]
    for (name, content), start in zip(partitions, starts, strict=True):
        sectors = common.round_up(content.stat().st_size, SECTOR) // SECTOR
        identity = root.uuid_for(f"partition {name}")
        lines.append(
            f"start={start // SECTOR}, size={sectors}, type={LINUX_DATA}, uuid={identity}, name={name}"
        )
    script = "\n".join(lines) + "\n"
    sfdisk = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)]
    subprocess.run(sfdisk, input=script, text=True, check=True)
    for (_, content), start in zip(partitions, starts, strict=True):
        common.copy_into(disk, start, content)
    return starts
