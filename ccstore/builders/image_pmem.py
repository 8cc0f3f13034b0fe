"""A Clear Containers image: a disk with one ext4 partition, behind the header that DAX needs on an nvdimm.

    0        the header; at 4096 a "pfn" info block (Linux, drivers/nvdimm/pfn.h), by which /dev/pmem0 begins at 2 MiB
    2 MiB    the disk: 1 MiB for a GPT, the partition, 1 MiB for the other GPT

Every part is a multiple of 2 MiB, which nvdimm and DAX align to. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
    from ccstore.builders import image_ext4, image_gpt
else:  # inside the sandbox, where there is no ccstore
    import image_common as common
    import image_ext4
    import image_gpt

HEADER = 2 * common.MIB
INFO_BLOCK = 4096  # bytes, and its offset


def make_pmem(root: common.Root, image: Path) -> None:
    """Writes the image to `image`."""
    partition, disk = common.BUILD / "ext4.img", common.BUILD / "disk.img"
    image_ext4.make_ext4(root, partition)
    image_gpt.make_disk(disk, root, image_gpt.WIDE, [("root", partition)])
    with image.open("wb") as file:
        file.write(bytes(INFO_BLOCK) + pfn_info_block())
        file.truncate(HEADER + disk.stat().st_size)
    common.copy_into(image, HEADER, disk)


def pfn_info_block() -> bytes:
    """The 4096 bytes that tell the nvdimm driver to give its pages structs, and where the data begins.

    Signature, two UUIDs of zeros, flags, version 0.2, data offset, pfns 0 (the kernel counts them), mode 1: the
    page structs are in the guest's memory, padding, alignment; a checksum at the end.
    """
    block = bytearray(INFO_BLOCK)
    struct.pack_into("<16s16x16xIHHQQIIII", block, 0, b"NVDIMM_PFN_INFO", 0, 0, 2, HEADER, 0, 1, 0, 0, HEADER)
    struct.pack_into("<Q", block, INFO_BLOCK - 8, fletcher64(bytes(block)))
    return bytes(block)


def fletcher64(data: bytes) -> int:
    low = high = 0
    for (word,) in struct.iter_unpack("<I", data):
        low = (low + word) & 0xFFFFFFFF
        high = (high + low) & 0xFFFFFFFF
    return high << 32 | low
