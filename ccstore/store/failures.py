"""What the operating system and SQLite refuse, in words that a user can act on."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccstore.errors import CcError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM)
EXPLAINED = (*_FULL, errno.EIO, errno.EROFS, errno.ENAMETOOLONG)


@contextmanager
def explained(root: Path) -> Iterator[None]:
    """Turns what a disk, a file system or SQLite refuses into CcError; `root` is the store's.

    `disk-full`, `disk-failed`, `read-only-store`, `store-unusable`, and `output-invalid` for a path too long for
    Linux; any other OSError passes through.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(root) from error
        if error.errno == errno.EROFS or (error.errno in _DENIED and not is_writable(root)):
            raise read_only(root) from error
        if error.errno == errno.EIO:
            raise disk_failed(root, str(error.filename or "")) from error
        if error.errno == errno.ENAMETOOLONG:
            raise CcError(
                "output-invalid",
                "a path is too long for Linux (4096 bytes)",
                hint="put fewer folders into each other, or give them shorter names",
            ) from error
        raise
    except sqlite3.DatabaseError as error:
        raise _index_failure(root, error) from error


def is_writable(root: Path) -> bool:
    """Whether this process may change the store at `root`."""
    return all(os.access(folder, os.W_OK | os.X_OK) for folder in (root, root / "objects"))


def disk_full(root: Path) -> CcError:
    free = os.statvfs(root)
    return CcError(
        "disk-full",
        f"no space left: {free.f_bavail * free.f_frsize} bytes and {free.f_favail} inodes are free",
        where=str(root),
        hint="`ccstore gc` frees what no root needs; `ccstore --store DIR` uses a store on another disk",
    )


def disk_failed(root: Path, what: str = "") -> CcError:
    return CcError(
        "disk-failed",
        "the disk cannot read or write" + (f" {what}" if what else ""),
        where=str(root),
        hint="`dmesg` says what it reported; on a disk that works again, `ccstore verify --full` says what is whole",
    )


def read_only(root: Path) -> CcError:
    return CcError(
        "read-only-store",
        "the store cannot be written to",
        where=str(root),
        hint="remount it writable, change its owner, or choose another with --store or CCSTORE_STORE",
    )


def _is_read_only(root: Path) -> bool:
    return bool(os.statvfs(root).f_flag & os.ST_RDONLY)


def _index_failure(root: Path, error: sqlite3.DatabaseError) -> CcError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return disk_full(root)
    if name.startswith("SQLITE_IOERR"):
        return read_only(root) if _is_read_only(root) else disk_failed(root, str(root / "index.sqlite"))
    if name.startswith("SQLITE_READONLY"):
        return read_only(root)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return CcError(
            "store-busy",
            "another process holds the store's index",
            where=str(root / "index.sqlite"),
            hint="wait for it, or end it, and run the same command again",
        )
    return CcError(
        "store-unusable",
        f"the store's index failed: {error} ({name or 'no SQLite code'})",
        where=str(root / "index.sqlite"),
        hint="`ccstore verify --rebuild-index` makes it again from the store's files",
    )
