"""Temporary roots: what running sessions need, written down where a collection sees it.

`temproots/<session>` holds one base name a line and is locked for as long as its session lives. A file whose
lock can be had belongs to a session that ended without tidying up: whatever is named after it is rubbish.
A file is created and appended to under the shared `gc.lock`, so no collection ever sees one that is not locked
yet, and a name that was appended is seen by every collection that decides afterwards.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.model.storepath import StorePath
from ccstore.store import files, locks
from ccstore.store.layout import Layout


class TemporaryRoots:
    """The file of one session; threads may share it."""

    def __init__(self, layout: Layout, session: str) -> None:
        self._gc_lock = layout.gc_lock
        self._file = layout.temproots / session
        self._named: set[StorePath] = set()
        self._lock = threading.Lock()
        with locks.gc_shared(self._gc_lock):
            self._descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            if not locks.try_lock(self._descriptor):
                raise AssertionError(f"a new file is locked: {self._file}")

    def add(self, path: StorePath) -> None:
        """Returns once no later collection can delete `path`; raises OSError."""
        with self._lock:
            if path in self._named:
                return
            with locks.gc_shared(self._gc_lock):
                os.write(self._descriptor, f"{path.base}\n".encode())
            self._named.add(path)

    def close(self) -> None:
        self._file.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(slots=True)
class Living:
    """What a collection may not touch: sessions that run, and the base names that they hold."""

    sessions: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)


def living(folder: Path) -> Living:
    """Reads all temporary roots and removes those of dead sessions; to be called under the exclusive lock."""
    found = Living()
    for file in list(folder.iterdir()):
        if not file.is_file():
            files.remove(file)  # nobody's session, or one that ended just now
            continue
        try:
            descriptor = os.open(file, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            if locks.try_lock(descriptor):
                file.unlink(missing_ok=True)
            else:
                found.sessions.add(file.name)
                found.names.update(
                    os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode().splitlines()
                )
        finally:
            os.close(descriptor)
    return found
