"""Temporary roots: what running sessions need, written down where a collection sees it.

`temproots/<session>` names its process in the first line (JSON, `locks.Holder`) and holds one base name in each
line after it; it is locked for as long as its session lives. A file whose lock can be had belongs to a session that
ended without tidying up: whatever is named after it is rubbish. A file is created and appended to under the shared
`gc.lock`, so no collection ever sees one that is not locked yet, and a name that was appended is seen by every
collection that decides afterwards.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ccstore.model.storepath import StorePath
from ccstore.store import files, locks
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock, Holder


def gc_lock(layout: Layout) -> GcLock:
    """The lock of a store's collections, for whoever opens it."""
    return GcLock(layout.gc_lock, lambda: sharers(layout.temproots))


class TemporaryRoots:
    """The file of one session; threads may share it."""

    def __init__(self, layout: Layout, session: str, gc_lock: GcLock) -> None:
        self._gc_lock = gc_lock
        self._file = layout.temproots / session
        self._named: set[StorePath] = set()
        self._lock = threading.Lock()
        with self._gc_lock.shared():
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            try:
                if not locks.try_lock(self._descriptor):
                    raise AssertionError(f"a new file is locked: {self._file}")
                os.write(self._descriptor, Holder.this_process().line)
            except BaseException:
                self.close()
                raise

    def add(self, path: StorePath) -> None:
        """Returns once no later collection can delete `path`; raises OSError."""
        with self._lock:
            if path in self._named:
                return
            with self._gc_lock.shared():
                os.write(self._descriptor, f"{path.base}\n".encode())
            self._named.add(path)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the disk may be read-only by now; a collection removes it
            self._file.unlink()
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Living:
    """A session that runs: its process, and the base names that it holds."""

    holder: Holder | None
    names: frozenset[str]


def living(folder: Path) -> Mapping[str, Living]:
    """All sessions that run; removes the files of dead ones. To be called under the exclusive lock."""
    found = {}
    for file in list(folder.iterdir()):
        if not file.is_file():
            files.remove(file)  # nobody's session, or one that ended just now
        elif alive := _living(file):
            found[file.name] = alive
    return found


def sharers(folder: Path) -> list[Holder]:
    """The processes of the sessions that run, as far as can be told without a lock."""
    found = [locks.holder(file, line=0) for file in sorted(folder.iterdir()) if file.is_file()]
    return [each for each in found if each and each.may_be_alive]


def _living(file: Path) -> Living | None:
    try:
        descriptor = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if locks.try_lock(descriptor):
            file.unlink(missing_ok=True)
            return None
        first, *names = os.pread(descriptor, os.fstat(descriptor).st_size, 0).split(b"\n")
        return Living(Holder.parse(first), frozenset(name.decode() for name in names if name))
    finally:
        os.close(descriptor)
