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
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.storepath import StorePath
from ccstore.ports import Cancel
from ccstore.store import files
from ccstore.store.failures import explained

_POLL = 0.05  # seconds
_PATIENCE = 0.3  # seconds: what is over by then is not worth a word
ANYBODY = "another process"
OnWait = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, as its file says; `since` is unix time in seconds."""

    pid: int
    host: str
    command: str
    since: int

    @classmethod
    def this_process(cls) -> Holder:
        return cls(os.getpid(), os.uname().nodename, " ".join(sys.argv)[:200], int(time.time()))

    @classmethod
    def parse(cls, line: bytes) -> Holder | None:
        """What `line` wrote; None if it did not."""
        try:
            value = json.loads(line)
            return cls(int(value["pid"]), str(value["host"]), str(value["command"]), int(value["since"]))
        except (ValueError, KeyError, TypeError):
            return None

    @property
    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @property
    def may_be_alive(self) -> bool:
        """Whether nothing says that it has ended."""
        return self.host != os.uname().nodename or Path(f"/proc/{self.pid}").exists()

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host} ({self.command}), since {since}"


class GcLock:
    """`locks/gc.lock`, and whom one waits for who waits for it.

    Whoever holds it alone is named in the file. Those who share it are named by `sharers`: the sessions that run,
    one of which it must be as a rule. `on_wait` is told, once for each wait that is worth it.
    """

    def __init__(self, file: Path, sharers: Callable[[], list[Holder]]) -> None:
        self._file = file
        self._sharers = sharers
        self.on_wait: OnWait = lambda holder: None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While a root, a temporary root, a realisation or a registration is written: no collection decides."""
        with self._held(fcntl.LOCK_SH, self.on_wait) as descriptor:
            if os.fstat(descriptor).st_size:  # of one that was killed
                os.ftruncate(descriptor, 0)
            yield

    @contextmanager
    def exclusive(self, on_wait: OnWait | None = None) -> Iterator[None]:
        """While a collection decides what is dead, or a repair changes objects."""
        with self._held(fcntl.LOCK_EX, on_wait or self.on_wait) as descriptor:
            with contextlib.suppress(OSError):  # a collection is what frees a full disk, named or not
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, Holder.this_process().line, 0)
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)

    @contextmanager
    def _held(self, how: int, on_wait: OnWait) -> Iterator[int]:
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _try_for(_PATIENCE, descriptor, how):
                on_wait(self._names())
                fcntl.flock(descriptor, how)
            yield descriptor
        finally:
            os.close(descriptor)

    def _names(self) -> str:
        alone = holder(self._file)
        return str(alone) if alone else " or ".join(map(str, self._sharers())) or ANYBODY


def _try_for(seconds: float, descriptor: int, how: int) -> bool:
    end = time.monotonic() + seconds
    pause = 0.001
    while not try_lock(descriptor, how):
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _POLL)
    return True


def try_lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
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
        with contextlib.suppress(OSError):  # the disk may be read-only by now; a collection removes free ones
            path.unlink()
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

    def derivation(
        self, derivation_id: str, on_wait: OnWait, cancel: Cancel | None = None
    ) -> AbstractContextManager[None]:
        """Held by whoever builds or fetches `derivation_id`; others wait, then find the result.

        `on_wait` is told once who holds it. Raises CcError `interrupted` when `cancel` is set meanwhile, and
        `read-only-store` or `disk-full`.
        """
        return self._named(derivation_id, on_wait, cancel)

    def object(
        self, path: StorePath, on_wait: OnWait, cancel: Cancel | None = None
    ) -> AbstractContextManager[None]:
        """Held by whoever gets an object from a cache; as `derivation`. Registration has a lock of its own."""
        return self._named(f"substitute-{path.base}", on_wait, cancel)

    def warm(
        self, project: str, step: str, on_wait: OnWait, cancel: Cancel | None = None
    ) -> AbstractContextManager[None]:
        """Held by whoever builds in the build folder that is kept for `step`; as `derivation`."""
        return self._named(_warm(project, step), on_wait, cancel)

    @contextmanager
    def warm_if_free(self, project: str, step: str) -> Iterator[bool]:
        """Holds the lock of `warm` if nobody else does; whether it does."""
        path = self._folder / _warm(project, step)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            held = try_lock(descriptor) and _same_file(descriptor, path)
            yield held
            if held:
                path.unlink()
        finally:
            os.close(descriptor)

    @contextmanager
    def _named(self, name: str, on_wait: OnWait, cancel: Cancel | None) -> Iterator[None]:
        path = self._folder / name
        with ExitStack() as stack:
            with explained(self._folder.parent):
                told = lambda: on_wait(str(holder(path) or ANYBODY))  # noqa: E731
                descriptor = stack.enter_context(removable(path, told, cancel))
                os.ftruncate(descriptor, 0)
                os.write(descriptor, Holder.this_process().line)
            yield


def _warm(project: str, step: str) -> str:
    return f"warm-{project}-{step}"


def holder(path: Path, line: int = -1) -> Holder | None:
    """Who holds the lock file `path`, as far as it says so in its last line, or another one."""
    try:
        return Holder.parse(path.read_bytes().splitlines()[line])
    except (OSError, IndexError):
        return None
