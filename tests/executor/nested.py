"""Namespaces of a test's own, in which even an ordinary user may mount and change settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ccstore.executor import enter

from .conftest import in_child


def in_namespaces(action: Callable[[], object]) -> None:
    """Runs `action` in a child with its own user and mount namespaces; an assertion in it fails the test."""
    in_child(action, _unshare)


def _unshare() -> None:
    user, group = os.geteuid(), os.getegid()
    enter.check(
        enter.libc.prctl(enter.PR_SET_DUMPABLE, 1, 0, 0, 0)
    )  # lost with root; /proc/self is closed else
    enter.check(enter.libc.unshare(enter.CLONE_NEWUSER | enter.CLONE_NEWNS))
    enter.write("/proc/self/setgroups", "deny")
    enter.write("/proc/self/uid_map", f"{user} {user} 1")
    enter.write("/proc/self/gid_map", f"{group} {group} 1")
    enter.mount("", "/", "", enter.MS_REC | enter.MS_PRIVATE)


def mount_tmpfs(folder: Path, options: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    enter.mount("tmpfs", str(folder), "tmpfs", 0, options)
