"""The folders that a build has written to, seen from outside: nothing in them can be trusted."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_REPORT = 1 << 20  # bytes


def empty_folder(folder: Path) -> None:
    """Removes all that is in `folder`, which stays. Raises OSError.

    Folders may be read-only and nested deeper than a path may be long (or a stack deep), so each is moved to the
    top before it is emptied, under a name that no build can have guessed. Links are not followed.
    """
    prefix = f".{os.urandom(8).hex()}-"
    numbers = itertools.count()
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pending = list(_sweep(top, ".", lambda: f"{prefix}{next(numbers)}"))
        while pending:
            name = pending.pop()
            pending += _sweep(top, name, lambda: f"{prefix}{next(numbers)}")
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _sweep(top: int, name: str, new_name: Callable[[], str]) -> Iterator[str]:
    """Unlinks the files of the folder `name` of `top` and moves its folders to `top`; their new names."""
    here = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    try:
        with os.scandir(here) as entries:
            found = [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
        for entry, is_folder in found:
            if not is_folder:
                os.unlink(entry, dir_fd=here)
                continue
            os.chmod(entry, 0o700, dir_fd=here)
            moved = new_name()
            os.rename(entry, moved, src_dir_fd=here, dst_dir_fd=top)
            yield moved
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
