"""Locks between processes and threads, all of them flock(2) on files below `locks/`.

A lock is bound to the open file, so two threads of one process exclude each other as two processes do, and the
kernel lets go of it when its holder dies, however that happens. A lock file that is no longer needed is removed
by its holder; whoever waited for it notices that the name is gone or means another file, and starts over.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ccstore.errors import CcError
from ccstore.ports import Cancel
from ccstore.store import files
from ccstore.store.failures import explained

_POLL = 0.05  # seconds


@contextmanager
def gc_shared(lock: Path) -> Iterator[None]:
    """While a root, a temporary root, a realisation or a registration is written: no collection decides."""
    with _held(lock, fcntl.LOCK_SH):
        yield


@contextmanager
def gc_exclusive(lock: Path) -> Iterator[None]:
    """While a collection decides what is dead."""
    with _held(lock, fcntl.LOCK_EX):
        yield


@contextmanager
def _held(lock: Path, how: int) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_free(paths: Iterable[Path]) -> None:
    """Removes those of the lock files `paths` that nobody holds; each is held meanwhile."""
    for path in paths:
        if not path.is_file():
            files.remove(path)  # no lock of ours
            continue
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                if try_lock(descriptor) and _same_file(descriptor, path):
                    path.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def removable(
    path: Path, on_wait: Callable[[], None] | None = None, cancel: Cancel | None = None
) -> Iterator[int]:
    """Holds the lock file `path` alone and removes it in the end; gives its descriptor.

    `on_wait` is called once if somebody else holds it. Raises CcError `interrupted` when `cancel` is set
    while waiting.
    """
    descriptor = _acquire(path, on_wait or (lambda: None), cancel or Cancel())
    try:
        yield descriptor
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, on_wait: Callable[[], None], cancel: Cancel) -> int:
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if try_lock(descriptor) and _same_file(descriptor, path):
            return descriptor
        os.close(descriptor)
        if cancel.cancelled:
            raise CcError("interrupted", f"stopped while waiting for {path.name}")
        if not told:
            on_wait()
            told = True
        time.sleep(_POLL)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


class Locks:
    """The locks that the store's users ask for themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def derivation(
        self, derivation_id: str, on_wait: Callable[[str], None], cancel: Cancel | None = None
    ) -> Iterator[None]:
        """Held by whoever builds or fetches `derivation_id`; others wait, then find the result.

        `on_wait` is told once who holds it. Raises CcError `interrupted` when `cancel` is set meanwhile, and
        `read-only-store` or `disk-full`.
        """
        path = self._folder / derivation_id
        with ExitStack() as stack:
            with explained(self._folder.parent):
                descriptor = stack.enter_context(removable(path, lambda: on_wait(holder(path)), cancel))
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _myself())
            yield


def _myself() -> bytes:
    command = " ".join(sys.argv)[:200]
    me = {"pid": os.getpid(), "host": platform.node(), "command": command, "since": int(time.time())}
    return json.dumps(me).encode() + b"\n"


def holder(path: Path) -> str:
    """Who holds the lock file `path`, for a message."""
    try:
        found = json.loads(path.read_text().splitlines()[-1])
        since = time.strftime("%H:%M:%S", time.localtime(found["since"]))
        return f"process {found['pid']} on {found['host']} ({found['command']}), since {since}"
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "another process"
