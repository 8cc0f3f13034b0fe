"""Outputs that come back from elsewhere, put where the sandbox would have left them.

An output that began as an input comes back as a whole tree. What in it is still as it was is not written; the rest
becomes what overlayfs would have made of it, an upper folder: new and changed files, and a character device 0:0 for
what was removed (since Linux 5.8 anyone may make that one). A folder that was replaced needs no mark of its own, as
each thing that it hides has one.

Nothing that comes back is trusted: no name leads out of the output, and nothing is written below a link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ccstore.errors import CcError
from ccstore.model.objects import Entry
from ccstore.ports import Tree


class Output:
    """One output, told entry by entry, folders before what is in them; paths are relative, "" is the output."""

    def __init__(self, place: Path, base: Tree | None = None) -> None:
        self._place = place
        self._tree = base
        self._base = {entry.path: entry for entry in base.entries()} if base else {}
        self._folders: set[str] = set()
        self._seen: set[str] = set()
        self._unchanged: set[str] = set()

    def folder(self, path: str) -> None:
        os.mkdir(self._new(path), 0o755)  # noqa: PTH102
        self._folders.add(path)

    def symlink(self, path: str, target: str) -> None:
        known = self._base.get(path)
        place = self._new(path)
        if known is None or known.type != "symlink" or known.target != target:
            os.symlink(target, place)  # noqa: PTH211

    def file(self, path: str, executable: bool) -> BinaryIO:
        """A new file, open for writing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self._new(path), flags, 0o755 if executable else 0o644), "wb")

    def special(self, path: str, kind: int) -> None:
        """A FIFO or a device, for registration to refuse."""
        if kind != stat.S_IFIFO and self._base:
            raise invalid(f"{path}: a device in an output that began as an input")
        os.mknod(self._new(path), kind | 0o600, 0)

    def candidate(self, path: str, executable: bool, size: int) -> Entry | None:
        """What the file was in the input, if it can still be the same: then its content decides."""
        known = self._base.get(path)
        if known is None or (known.type, known.executable, known.size) != ("file", executable, size):
            return None
        return known

    def unchanged(self, path: str) -> None:
        """The file is what it was in the input."""
        self._check(path)
        self._seen.add(path)
        self._unchanged.add(path)

    def open(self, path: str) -> BinaryIO:
        """A file that was told before, for reading. Raises OSError."""
        if path not in self._seen:
            raise invalid(f"{path!r} is no file of this output")
        if path in self._unchanged and self._tree:
            return self._tree.open(path)
        return os.fdopen(os.open(self.place(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")

    def place(self, path: str) -> str:
        return os.path.join(self._place, path) if path else str(self._place)

    def finish(self) -> None:
        """To be called when everything was told: marks what is gone."""
        if self._base and "" not in self._folders:
            raise invalid("an output that began as an input is gone, or no folder any more")
        for path in self._gone():
            os.mknod(self.place(path), stat.S_IFCHR, os.makedev(0, 0))

    def _gone(self) -> Iterator[str]:
        """The topmost of what the input had and the output has not; what a new file hides needs no mark."""
        for path in self._base:
            if path not in self._seen and path.rpartition("/")[0] in self._folders:
                yield path

    def _new(self, path: str) -> str:
        self._check(path)
        self._seen.add(path)
        return self.place(path)

    def _check(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        if path and (parent not in self._folders or name in ("", ".", "..") or "\0" in name):
            raise invalid(f"{path!r} cannot be in an output")


def invalid(message: str) -> CcError:
    return CcError("output-invalid", message, hint="an output holds files, folders and symbolic links")
