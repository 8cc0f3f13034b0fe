"""erofs and squashfs: compressed file systems that cannot be written to. Stdlib only; runs inside the sandbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import image_common as common
else:  # inside the sandbox, where there is no ccstore
    import image_common as common


def make_erofs(root: common.Root, image: Path) -> None:
    """Writes the root as erofs to `image`, whose size is a multiple of 4096 bytes."""
    options = ["-x-1", "-zlz4hc", "-C65536", f"-T{common.epoch()}", f"-U{root.uuid_for('erofs')}"]
    common.in_root(root, "mkfs.erofs", "-d0", *options, image, common.TREE)
    size = image.stat().st_size
    os.truncate(image, common.round_up(size, common.BLOCK))


def make_squashfs(root: common.Root, image: Path) -> None:
    """Writes the root as squashfs to `image`; the time of the file system is SOURCE_DATE_EPOCH, by itself."""
    options = ["-no-xattrs", "-comp", "zstd", "-b", "128K", "-noappend", "-no-progress", "-quiet"]
    options += ["-processors", os.environ["CCSTORE_CORES"]]
    common.in_root(root, "mksquashfs", common.TREE, image, *options)
    size = image.stat().st_size
    os.truncate(image, common.round_up(size, common.BLOCK))
