"""What has arrived of a download, kept so that the next attempt or the next run goes on from there.

On disk: `<path>` is the content so far, `<path>.origin` (JSON: `url`, `validator`) says which server's file it is
the beginning of, when one server's alone. A crash or a Ctrl-C leaves both; a wrong hash and a full disk remove
both. The caller sees to it that one download at a time uses a path (it holds the derivation's lock).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.ports import Cancel
from ccstore.transfer.patience import check

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Partial:
    """A growing file and the SHA-256 of what is in it; a context manager that keeps the file.

    `mixed` is True while some bytes come from an earlier response than the current one.
    """

    def __init__(self, path: Path, cancel: Cancel) -> None:
        self.path = path
        self._origin = _origin(path)
        self.size = 0
        self._hash = hashlib.sha256()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK):
                check(cancel, str(path))
                self._hash.update(chunk)
                self.size += len(chunk)
        self.mixed = self.size > 0

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        with disk_errors(self.path):
            self._file.close()
        if not self.size:
            self.path.unlink(missing_ok=True)
            self._origin.unlink(missing_ok=True)

    @property
    def sha256(self) -> Sha256:
        return Sha256(self._hash.digest())

    def append(self, chunk: bytes) -> None:
        """Raises `disk-full`, and then gives back the room that the content took."""
        try:
            with disk_errors(self.path):
                self._file.write(chunk)
        except CcError:
            os.ftruncate(self._file.fileno(), 0)
            self.size = 0
            raise
        self._hash.update(chunk)
        self.size += len(chunk)

    def restart(self) -> None:
        """Forgets everything that has arrived."""
        with disk_errors(self.path):
            self._file.seek(0)
            self._file.truncate()
        self._origin.unlink(missing_ok=True)
        self.size, self.mixed, self._hash = 0, False, hashlib.sha256()

    def began(self, url: str, validator: str | None) -> None:
        """Notes that the content begins with the answer of `url`, whose ETag or date is `validator`."""
        with disk_errors(self._origin):
            self._origin.write_text(json.dumps({"url": url, "validator": validator}))

    def joined(self, url: str) -> None:
        """Notes that `url` now adds to the content; nobody's validator holds for a mixture."""
        self.mixed = True
        if self._origin_value("url") != url:
            self._origin.unlink(missing_ok=True)

    def validator(self, url: str) -> str | None:
        """The ETag or date under which `url` served the beginning, if it alone did."""
        return self._origin_value("validator") if self._origin_value("url") == url else None

    def move(self, to: Path, executable: bool) -> None:
        """Ends the download: the content goes to `to`."""
        with disk_errors(to):
            self._file.flush()
            shutil.move(self.path, to)
            to.chmod(0o555 if executable else 0o444)
        self._origin.unlink(missing_ok=True)

    def _origin_value(self, key: str) -> str | None:
        try:
            value = json.loads(self._origin.read_text())
        except (FileNotFoundError, ValueError):
            return None
        found = value.get(key) if isinstance(value, dict) else None
        return found if isinstance(found, str) else None


def forget(path: Path) -> None:
    """Removes what has arrived at `path`, which nobody uses now."""
    path.unlink(missing_ok=True)
    _origin(path).unlink(missing_ok=True)


def _origin(path: Path) -> Path:
    return path.with_name(path.name + ".origin")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk into `disk-full` and a read-only one into `read-only-store`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise CcError(
                "disk-full",
                f"no space left while writing {path}",
                hint="free some space (`ccstore gc` frees what no root needs), or use another --store",
            ) from error
        if error.errno == errno.EROFS:
            raise CcError(
                "read-only-store",
                f"{path} is on a read-only file system",
                hint="make it writable, or use another --store",
            ) from error
        raise
