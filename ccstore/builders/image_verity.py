"""A verified disk: erofs in the first partition, the hash tree of dm-verity in the second.

The kernel sets the device up itself (`dm-mod.create=`, Linux, Documentation/admin-guide/device-mapper/dm-init.rst and
verity.rst), so no initramfs is needed. The layout, a tree without a superblock in a second partition, is the one that
Kata Containers builds that command line for from its `kernel_verity_params`. A block that does not fit its hash
panics the guest. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
    from ccstore.builders import image_erofs, image_gpt
else:  # inside the sandbox, where there is no ccstore
    import image_common as common
    import image_erofs
    import image_gpt

_ROOT_HASH = re.compile(r"^Root hash:\s+([0-9a-f]{64})$", re.M)


@dataclass(frozen=True)
class Verity:
    """What one needs to know to verify an image. Offsets are in bytes, from the beginning of the disk."""

    root_hash: str
    salt: str
    data_blocks: int
    data_offset: int
    hash_offset: int

    @property
    def kata(self) -> str:
        """Kata's `kernel_verity_params`."""
        sizes = f"data_block_size={common.BLOCK},hash_block_size={common.BLOCK}"
        return f"root_hash={self.root_hash},salt={self.salt},data_blocks={self.data_blocks},{sizes}"

    def cmdline(self, disk: str) -> str:
        """Kernel parameters that make the verified device of the disk `disk` (`/dev/vda`)."""
        sectors = self.data_blocks * common.BLOCK // image_gpt.SECTOR
        table = (
            f"0 {sectors} verity 1 {disk}1 {disk}2 {common.BLOCK} {common.BLOCK} {self.data_blocks} 0 sha256"
        )
        return f'dm-mod.create="root,,,ro,{table} {self.root_hash} {self.salt} 1 panic_on_corruption"'

    def value(self) -> dict[str, object]:
        return {
            "root-hash": self.root_hash,
            "salt": self.salt,
            "data-blocks": self.data_blocks,
            "data-offset": self.data_offset,
            "hash-offset": self.hash_offset,
            "kata": self.kata,
        }


def make_verity(root: common.Root, image: Path) -> Verity:
    """Writes the disk to `image`."""
    data, tree = common.BUILD / "erofs.img", common.BUILD / "verity.img"
    image_erofs.make_erofs(root, data)
    salt = root.bytes_for("verity salt").hex()
    options = ["--no-superblock", "--hash=sha256", f"--salt={salt}"]
    options += [f"--data-block-size={common.BLOCK}", f"--hash-block-size={common.BLOCK}"]
    found = _ROOT_HASH.search(common.tool("veritysetup", "format", *options, data, tree))
    if not found:
        sys.exit("error: veritysetup names no root hash")
    partitions = [("root", data), ("verity", tree)]
    data_offset, hash_offset = image_gpt.make_disk(image, root, image_gpt.NARROW, partitions)
    blocks = data.stat().st_size // common.BLOCK
    return Verity(found[1], salt, blocks, data_offset, hash_offset)
