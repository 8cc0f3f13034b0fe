"""Unpacks a root file system, under fakeroot beside a command that wants it:

    fakeroot -- python3 image_tree.py ROOTFS.TAR FOLDER COMMAND…

Neither the store nor the sandbox's one user can hold owners, devices or set-uid bits; fakeroot remembers what was
asked for and tells it to the tools that make file systems, as long as its session lasts: so both happen in one.
Times are the archive's. No link of the archive is ever followed, wherever it leads. Stdlib only; runs inside the
sandbox, and where ccstore makes a container's root.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import tarfile
from pathlib import Path

_NODES = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


def unpack(archive: Path, folder: Path, *, ordinary: bool = False) -> None:
    """Unpacks an archive in which folders come before what is in them, and files before their other names.

    `ordinary`: owners and devices, which only privileges can give, are left out where they are refused. Raises
    OSError; EINVAL says that the archive is not such a one.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    made: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
        for entry in tar:
            source = made[entry.name] = _source(entry, made)
            path = folder / entry.name
            if ordinary and (source.ischr() or source.isblk()):
                continue
            if entry.islnk() and not source.issym():
                os.link(folder / entry.linkname, path, follow_symlinks=False)
                continue
            _make(tar, source, path)
            if not source.isdir():
                _attributes(path, source, ordinary)
    for name, entry in reversed(made.items()):  # last, because making what is in a folder changes its time
        if entry.isdir():
            _attributes(folder / name, entry, ordinary)


def _source(entry: tarfile.TarInfo, made: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo:
    """The entry, or the one that it is another name of."""
    above = os.path.dirname(entry.name)  # noqa: PTH120 (a name in the archive)
    if above and not (above in made and made[above].isdir()):
        raise OSError(errno.EINVAL, "it is in no folder of the archive", entry.name)
    if not entry.islnk():
        return entry
    source = made.get(entry.linkname)
    if source is None or source.isdir():
        raise OSError(errno.EINVAL, "it is a link to no file of the archive", entry.name)
    return source


def _make(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    """Makes what is not there yet; only the top of the archive is."""
    if entry.isdir():
        path.mkdir(0o700, exist_ok=entry.name == ".")
    elif entry.issym():
        path.symlink_to(entry.linkname)
    elif entry.type in _NODES:
        os.mknod(path, _NODES[entry.type] | 0o600, os.makedev(entry.devmajor, entry.devminor))
    else:
        body = tar.extractfile(entry)
        assert body is not None
        with body, path.open("xb") as file:
            shutil.copyfileobj(body, file, 1 << 20)


def _attributes(path: Path, entry: tarfile.TarInfo, ordinary: bool) -> None:
    try:
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    except OSError as error:
        if not ordinary or error.errno not in (errno.EPERM, errno.EINVAL):
            raise
    if not entry.issym():
        path.chmod(entry.mode & 0o7777)  # after chown, which takes set-uid away
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 (under fakeroot there is only the environment to pass on)
