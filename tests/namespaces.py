"""Namespaces of one's own, in which any user may mount. Imports little: a fuzzer instruments what comes after."""

from __future__ import annotations

import os
from pathlib import Path

from ccstore.executor import enter


def unshare() -> None:
    """New user and mount namespaces for this process, which keeps its user and group; raises OSError."""
    user, group = os.geteuid(), os.getegid()
    # lost with root; /proc/self is closed else
    enter.check(enter.libc.prctl(enter.PR_SET_DUMPABLE, 1, 0, 0, 0))
    enter.check(enter.libc.unshare(enter.CLONE_NEWUSER | enter.CLONE_NEWNS))
    enter.write("/proc/self/setgroups", "deny")
    enter.write("/proc/self/uid_map", f"{user} {user} 1")
    enter.write("/proc/self/gid_map", f"{group} {group} 1")
    enter.mount("", "/", "", enter.MS_REC | enter.MS_PRIVATE)


def mount_tmpfs(folder: Path, options: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    enter.mount("tmpfs", str(folder), "tmpfs", 0, options)


def allow_writing_only_below(folder: Path) -> None:
    """From now on every file system but `folder`, which must be there, is read-only to this process."""
    enter.mount(str(folder), str(folder), "", enter.MS_BIND)
    enter.restrict("/", enter.MS_RDONLY)
    kept = os.statvfs(folder).f_flag & enter.KEPT_FLAGS & ~enter.MS_RDONLY
    enter.mount("", str(folder), "", enter.MS_REMOUNT | enter.MS_BIND | kept)
