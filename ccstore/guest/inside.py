"""Looks into a container's root from the host, for what its agent would refuse without a reason.

Links are followed as the guest will: an absolute one starts at the container's root, and none leads out of it.
"""

from __future__ import annotations

from pathlib import Path

from ccstore.errors import CcError

MAX_LINKS = 40  # as the kernel
MOUNTED = ("dev", "proc", "sys")  # by the agent, over whatever the root has there


def check(root: Path, workdir: str, user: str | None, group: str | None) -> None:
    """Raises `file-missing` for a folder that the container does not have, `usage` for a user or a group."""
    try:
        _check_workdir(root, workdir)
        _check_names(root, user, group)
    except PermissionError as error:
        hint = "give --rootfs a folder that you may read all of"
        message = f"the container's root cannot be read: {error.filename}: {error.strerror}"
        raise CcError("file-missing", message, hint=hint) from error


def _check_workdir(root: Path, workdir: str) -> None:
    first = next((part for part in workdir.split("/") if part not in ("", ".")), "")
    if first not in MOUNTED and not inside(root, workdir).is_dir():
        message = f"there is no folder {workdir} in the container's root"
        raise CcError("file-missing", message, where=str(root), hint="--workdir wants a folder that is there")


def _check_names(root: Path, user: str | None, group: str | None) -> None:
    for kind, name, file in (("user", user, "/etc/passwd"), ("group", group, "/etc/group")):
        if name is not None and not name.isdecimal() and name not in _names(inside(root, file)):
            message = f"there is no {kind} {name} in the container's {file}"
            raise CcError("usage", message, where=str(root), hint="--user takes numbers too: UID[:GID]")


def _names(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return {"root"}  # whom `enter` adds
    return {line.partition(":")[0] for line in lines}


def inside(root: Path, path: str) -> Path:
    """Where on the host `path` of the container is, or would be."""
    left, found, links = path.split("/")[::-1], root, 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            found = found if found == root else found.parent
            continue
        if not (found / part).is_symlink() or links == MAX_LINKS:
            found /= part
            continue
        target = str((found / part).readlink())
        links += 1
        found = root if target.startswith("/") else found
        left += target.split("/")[::-1]
    return found
