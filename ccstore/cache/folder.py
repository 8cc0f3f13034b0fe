"""A binary cache in a folder of this host, `file:///srv/cache`; a web server may serve the same folder.

Files are written under `.tmp/` and renamed to where they belong once they are on the disk, so nobody ever sees half
of one. A file that is being written is locked; one that is not was left behind by a push that was killed, and the
next push removes it. Small files are replaced under a lock on the folder itself, so of two pushes that add their
signatures to the same file none is lost.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ccstore.cache.problems import absent, invalid
from ccstore.errors import CcError
from ccstore.ports import Fault, RemoteFile, no_fault

TEMPORARY = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderCache:
    """A cache in the folder `root`, which the first push makes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()
        self._swept = False

    def read(self, name: str, limit: int) -> bytes | None:
        descriptor = self._open(name)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file, self._reading():
            data = file.read(limit + 1)
        if len(data) > limit:
            raise invalid(self.url, name, f"it has more than {limit} bytes")
        return data

    def holds(self, name: str, size: int) -> bool:
        try:
            status = (self.root / name).stat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    @contextmanager
    def download(
        self, file: RemoteFile, partial: Path, report: Callable[[int, int | None], None]
    ) -> Iterator[BinaryIO]:
        descriptor = self._open(file.name)
        if descriptor is None:
            raise absent(self.url, file.name)
        with os.fdopen(descriptor, "rb", buffering=0) as opened:
            size = os.fstat(descriptor).st_size
            if size > file.most or (file.size is not None and size != file.size):
                wanted = file.most if file.size is None else file.size
                raise invalid(self.url, file.name, f"it has {size} bytes, {wanted} are wanted")
            yield cast(BinaryIO, _Reported(opened, size, report))

    def _open(self, name: str) -> int | None:
        """A descriptor of the file; None if it is not there."""
        with self._reading():
            try:
                # without O_NONBLOCK a FIFO would be waited for
                descriptor = os.open(self.root / name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise invalid(self.url, name, "it is no file")
        return descriptor

    @contextmanager
    def incoming(self, scratch: Path) -> Iterator[_Incoming]:
        with self._temporary() as incoming:
            yield incoming

    def update(
        self, name: str, change: Callable[[bytes | None], bytes | None], limit: int, fault: Fault = no_fault
    ) -> bool:
        with self._alone():
            data = change(self.read(name, limit))
            if data is None:
                return False
            with self._temporary() as incoming:
                incoming.write(data)
                incoming.place(name, fault)
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self.writing():
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with contextlib.suppress(OSError):  # a network file system may have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _temporary(self) -> Iterator[_Incoming]:
        """A new file in `.tmp/`, which is removed unless it was given a name."""
        with self.writing():
            self._sweep(self.root / TEMPORARY)
            path, file = _new_file(self.root / TEMPORARY)
        with file:
            try:
                yield _Incoming(self, path, file)
            finally:
                path.unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        """Removes what killed pushes left, once for each push."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._swept:
            return
        self._swept = True
        for path in folder.iterdir():
            with contextlib.suppress(OSError), path.open("rb") as file:
                if _try_lock(file):
                    path.unlink()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CcError(
                "unreachable",
                f"the cache cannot be read: {error.strerror}",
                where=self.url,
                hint="see to it that you may read it, or take it out of `caches:`",
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes to the cache."""
        try:
            yield
        except OSError as error:
            full = error.errno in _FULL
            raise CcError(
                "disk-full" if full else "push-refused",
                "no space is left there" if full else f"nothing can be written there: {error.strerror}",
                where=self.url,
                hint="free some space there" if full else "see to it that you may write there",
            ) from error

    def close(self) -> None:
        """Nothing stays open."""


class _Incoming:
    """A file in `.tmp/`."""

    def __init__(self, cache: FolderCache, path: Path, file: BinaryIO) -> None:
        self._cache, self._path, self._file = cache, path, file

    def write(self, data: bytes) -> None:
        with self._cache.writing():
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def place(self, name: str, fault: Fault = no_fault) -> None:
        with self._cache.writing():
            os.fsync(self._file.fileno())
        fault("temporary")
        with self._cache.writing():
            target = self._cache.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(target)
            _sync(target.parent)


class _Reported:
    """Reads a file, and says how far it got."""

    def __init__(self, file: BinaryIO, size: int, report: Callable[[int, int | None], None]) -> None:
        self._file, self._size, self._report = file, size, report
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._done += len(data)
        self._report(self._done, self._size)
        return data


def _new_file(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file, locked. Another push may sweep it away before it is, and then it takes another."""
    while True:
        path = folder / os.urandom(8).hex()
        file = path.open("xb", buffering=0)
        with contextlib.suppress(OSError):  # without locks nobody sweeps
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return path, cast(BinaryIO, file)
        file.close()


def _try_lock(file: BinaryIO) -> bool:
    """Whether this process has the lock now; on a file system without locks nobody has."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
