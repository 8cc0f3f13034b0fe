"""Unpacks a root file system under fakeroot and runs a command beside it.

    fakeroot -- python3 image_tree.py ROOTFS.TAR FOLDER COMMAND…

Neither the store nor the sandbox's one user can hold owners, devices or set-uid bits; fakeroot remembers what was
asked for and tells it to the tools that make file systems, as long as its session lasts: so both happen in one.
Times are the archive's. Stdlib only; runs inside the sandbox.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path

_NODES = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


def unpack(archive: Path, folder: Path) -> None:
    """The archive is guest_root's own: canonical, so parents come before their children."""
    folder.mkdir(mode=0o755)
    folders = []
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for entry in tar:
            path = folder / entry.name
            if entry.isdir():
                folders.append((path, entry))
                path.mkdir(0o700, exist_ok=True)  # the archive may have an entry for the top
            else:
                _make(tar, entry, path, folder)
                _attributes(path, entry)
    for path, entry in reversed(folders):  # last, because making what is in a folder changes its time
        _attributes(path, entry)


def _make(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path, folder: Path) -> None:
    if entry.islnk():
        path.hardlink_to(folder / entry.linkname)
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.type in _NODES:
        os.mknod(path, _NODES[entry.type] | 0o600, os.makedev(entry.devmajor, entry.devminor))
    else:
        body = tar.extractfile(entry)
        assert body is not None
        with body, path.open("wb") as file:
            shutil.copyfileobj(body, file, 1 << 20)


def _attributes(path: Path, entry: tarfile.TarInfo) -> None:
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if not entry.issym():
        path.chmod(entry.mode & 0o7777)  # after chown, which takes set-uid away
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 (under fakeroot there is only the environment to pass on)
