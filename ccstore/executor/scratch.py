"""The folders that a build has written to, seen from outside: nothing in them can be trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_REPORT = 1 << 20  # bytes
MAX_DEPTH = 2000  # characters of a path: PATH_MAX is 4096 bytes, a name at most 255


def empty_folder(folder: Path) -> None:
    """Removes all that is in `folder`, which stays. Raises OSError.

    Folders may be read-only, and nested deeper than a path may be long or a stack deep: one that is too deep is
    moved to the top first, under a name that no build can have guessed. Links are not followed.
    """
    prefix = f".{os.urandom(8).hex()}"
    emptied: list[str] = []
    pending = ["."]
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while pending:
            place = pending.pop()
            emptied.append(place)
            for name in _unlink_files(top, place):
                path = f"{place}/{name}"
                if len(path) > MAX_DEPTH:
                    short = f"{prefix}-{len(emptied)}-{len(pending)}"
                    os.rename(path, short, src_dir_fd=top, dst_dir_fd=top)
                    path = short
                pending.append(path)
        for place in reversed(emptied[1:]):  # what was found in a folder comes after it
            os.rmdir(place, dir_fd=top)
    finally:
        os.close(top)


def _unlink_files(top: int, place: str) -> list[str]:
    """Leaves nothing but folders in `place`, each of them writable; their names."""
    here = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        with os.scandir(here) as entries:
            found = [
                (
                    each.name,
                    each.stat(follow_symlinks=False).st_mode if each.is_dir(follow_symlinks=False) else 0,
                )
                for each in entries
            ]
        for name, mode in found:
            if not mode:
                os.unlink(name, dir_fd=here)
            elif mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(name, stat.S_IRWXU, dir_fd=here)
        return [name for name, mode in found if mode]
    finally:
        os.close(here)


def read_report(path: Path) -> Mapping[str, Any] | None:
    """What the builder wrote to explain itself, or None if it wrote nothing.

    Raises ValueError, saying why, if it is not a JSON object in a plain file of at most MAX_REPORT bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"it cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError("it is not a plain file")
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_REPORT + 1)
    if len(data) > MAX_REPORT:
        raise ValueError(f"it is longer than {MAX_REPORT} bytes")
    try:
        report = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    if not isinstance(report, dict):
        raise ValueError("it is not a JSON object")
    return report
