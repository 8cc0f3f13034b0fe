"""A session: one run of ccstore that adds to a store, and what it needs kept while it runs.

Threads of a process share it. Everything that it leaves half made bears its name, and counts as rubbish once the
lock on its temporary roots is gone (temproots.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ccstore.codec.compression import Readable
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath, check_name
from ccstore.ports import Fault, no_fault
from ccstore.store import files
from ccstore.store.database import Database
from ccstore.store.failures import explained
from ccstore.store.layout import STAGING_PREFIX, Layout
from ccstore.store.locks import GcLock
from ccstore.store.objects import Objects
from ccstore.store.temproots import TemporaryRoots

if TYPE_CHECKING:  # whoever only pushes makes no object
    from ccstore.store.register import Registration


class Session:
    """Made by `Store.session`; a context manager. Every method may raise `disk-full` and `read-only-store`."""

    def __init__(self, layout: Layout, database: Database, gc_lock: GcLock, objects: Objects) -> None:
        self._layout = layout
        self._database = database
        self._gc_lock = gc_lock
        self._objects = objects
        self._numbers = itertools.count(1)
        self.id = files.unique("")
        with explained(layout.root):
            self._roots = TemporaryRoots(layout, self.id, gc_lock)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._roots.close()

    def protect(self, path: StorePath) -> None:
        """From now on until the session ends no collection deletes `path`; ask `has` again afterwards."""
        with explained(self._layout.root):
            self._roots.add(path)

    def _new_name(self, label: str = "") -> str:
        return f"{STAGING_PREFIX}{self.id}-{next(self._numbers)}{label}"

    @contextmanager
    def staging(self, label: str) -> Iterator[Path]:
        """An empty folder on the store's file system, removed afterwards with all that is still in it.

        `label` is for people who look. A full disk or a read-only file system inside it becomes a CcError.
        """
        shown = re.sub(r"[^A-Za-z0-9.]+", "-", f"-{label}")[:60] if label else ""
        path = self._layout.objects / self._new_name(shown)
        with explained(self._layout.root):
            path.mkdir(0o700)
            try:
                yield path
            finally:
                files.remove(path)

    def register(
        self,
        path: Path,
        name: str,
        *,
        expected: Sha256 | None = None,
        replace: Collection[StorePath] = (),
        fault: Fault = no_fault,
    ) -> ObjectInfo:
        """Makes the file or tree at `path`, which lies in a staging folder, an object; it is moved, not copied.

        `expected` is the NAR hash that it must have; objects of `replace` are damaged and give their place to it.
        Afterwards nothing is at `path`, and the object is protected. Raises `output-missing`,
        `output-invalid`, `hash-mismatch`, `name-invalid`.
        """
        checked_name(name)
        with explained(self._layout.root), _output_must_exist(path):
            return self._registration(fault).run(path, name, expected, replace=replace)

    def register_nar(
        self,
        source: Readable,
        name: str,
        expected: Sha256,
        *,
        replace: Collection[StorePath] = (),
        fault: Fault = no_fault,
    ) -> ObjectInfo:
        """Makes the tree that the NAR in `source` describes an object; `expected` is the hash of the NAR.

        Nothing in `source` is believed. Raises as `register`, `nar-invalid`, and what reading `source` raises.
        """
        checked_name(name)
        with explained(self._layout.root):
            return self._registration(fault).unpack(source, name, expected, replace)

    def register_overlay(
        self,
        base: StorePath,
        upper: Path,
        name: str,
        *,
        replace: Collection[StorePath] = (),
        fault: Fault = no_fault,
    ) -> ObjectInfo:
        """Makes the object that the overlayfs upper folder `upper` over the object `base` shows.

        Unchanged files are hard links to the base's. Raises as `register`, and `not-found` for the base.
        """
        from ccstore.store import overlay

        checked_name(name)
        self.protect(base)
        tree = self._objects.tree(base)
        with explained(self._layout.root), _output_must_exist(upper):
            known = overlay.complete(upper, tree.path, tree.entries())
            return self._registration(fault).run(upper, name, known=known, replace=replace)

    def add(
        self,
        source: Path,
        name: str,
        *,
        expected: Sha256 | None = None,
        replace: Collection[StorePath] = (),
        fault: Fault = no_fault,
    ) -> ObjectInfo:
        """Copies a file or tree from anywhere into the store. Raises as `register`, and `file-missing`."""
        with self.staging(name) as staging:
            try:
                files.copy(source, staging / "copy")
            except FileNotFoundError as error:
                raise CcError(
                    "file-missing",
                    "there is no such file",
                    where=str(error.filename),
                    hint="correct its path, or put it there",
                ) from error
            except PermissionError as error:
                raise CcError(
                    "file-missing",
                    "the file cannot be read",
                    where=str(error.filename),
                    hint="see to it that you may read it",
                ) from error
            fault("copy")
            return self.register(staging / "copy", name, expected=expected, replace=replace, fault=fault)

    def _registration(self, fault: Fault) -> Registration:
        from ccstore.store.register import Registration

        return Registration(self._layout, self._database, self._gc_lock, self._roots, self._new_name, fault)


def checked_name(name: str) -> str:
    """`name`, if an object can have it; raises CcError `name-invalid`."""
    try:
        check_name(name)
    except ValueError as error:
        raise CcError("name-invalid", str(error), hint="choose another name") from error
    return name


@contextmanager
def _output_must_exist(path: Path) -> Iterator[None]:
    if not path.is_symlink() and not path.exists():
        raise CcError(
            "output-missing",
            "nothing is there to register",
            where=str(path),
            hint="whatever makes it has to leave a file or a folder there",
        )
    yield
