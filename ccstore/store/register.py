"""Registration: how a file or tree becomes a store object (DESIGN, rule 7).

     1 adopt     move it to objects/.tmp-<session>-<n>, beside where it will lie: as an ordinary user a read-only
                 folder can be renamed, but not moved to another parent
     2 canonical give it its canonical form, hash it; now its name is known. What comes as a NAR is unpacked there in
                 that form and hashed on the way, which is both steps at once
     3 protect   write its name into the session's temporary roots
     4 lock      locks/object-<base>: one registration of this object at a time
     5 re-check  somebody else may have registered the same: theirs is kept
     6 share     files that other objects have too become links to those (sharing.py)
     7 manifest  write it to manifests/.tmp-<session>-<n>
     8 sync      syncfs: all bytes of the object and the manifest are on the disk before a name promises them
     9 place     rename manifest, then object; fsync both folders
    10 index     one SQLite transaction; from here on the object is registered

Whatever stops this between two steps leaves rubbish that `gc` knows by its name (1–8), or an object that is whole
but not registered (9), which the next registration or `gc` replaces or removes. `fault` is called with the name
of each step that is done, so that tests can stop there.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ccstore.codec.compression import Readable
from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import canonical, files, locks, manifest
from ccstore.store.database import Database
from ccstore.store.layout import TRASH_PREFIX, Layout
from ccstore.store.locks import GcLock
from ccstore.store.sharing import Sharing
from ccstore.store.temproots import TemporaryRoots
from ccstore.store.unpack import unpack

STEPS = (
    *("adopt", "canonical", "protect", "lock", "share", "manifest"),
    *("sync", "place-manifest", "place", "index"),
)


class Registration:
    """The protocol for one object; `new_name` gives names that belong to the session."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        gc_lock: GcLock,
        roots: TemporaryRoots,
        new_name: Callable[[], str],
        fault: Fault = no_fault,
    ) -> None:
        self._layout = layout
        self._database = database
        self._gc_lock = gc_lock
        self._roots = roots
        self._new_name = new_name
        self._fault = fault
        self._sharing = Sharing(layout, database, new_name)

    def run(
        self,
        source: Path,
        name: str,
        expected: Sha256 | None = None,
        known: Mapping[bytes, bytes] | None = None,
        replace: Collection[StorePath] = (),
    ) -> ObjectInfo:
        """Registers what lies at `source`, which is gone afterwards whatever happens.

        `known` is for `canonicalise`; an object of `replace` that is there is damaged, and gives its place to
        the new one. Raises `hash-mismatch`, `output-invalid`, and OSError and sqlite3 errors.
        """
        with self._adopted(source) as adopted:
            self._fault("adopt")
            scan = canonical.canonicalise(adopted, known)
            return self._finish(adopted, scan, name, expected, replace, known or ())

    def unpack(
        self, source: Readable, name: str, expected: Sha256, replace: Collection[StorePath] = ()
    ) -> ObjectInfo:
        """Registers the tree that the NAR in `source` describes. Raises as `run`, and `nar-invalid`."""
        adopted = self._layout.objects / self._new_name()
        try:
            scan = unpack(source, adopted)
            self._fault("adopt")
            return self._finish(adopted, scan, name, expected, replace)
        finally:
            files.remove(adopted)

    def _finish(
        self,
        adopted: Path,
        scan: canonical.Scan,
        name: str,
        expected: Sha256 | None,
        replace: Collection[StorePath],
        known: Collection[bytes] = (),
    ) -> ObjectInfo:
        """What follows once the object is in canonical form and hashed."""
        self._fault("canonical")
        if expected is not None and scan.nar_hash != expected:
            raise mismatch(name, expected, scan.nar_hash)
        path = StorePath.of_content(name, scan.nar_hash)
        info = ObjectInfo(path, scan.nar_hash, scan.nar_size)
        self._roots.add(path)
        self._fault("protect")
        with locks.removable(self._layout.locks / f"object-{path.base}"):
            self._fault("lock")
            if path in replace or not self._registered(path):
                keys = self._sharing.run(os.fsencode(adopted), path, scan.records, known)
                self._fault("share")
                self._place(adopted, manifest.Header(info, int(time.time())), scan.records, keys)
        return info

    @contextmanager
    def _adopted(self, source: Path) -> Iterator[Path]:
        adopted = self._layout.objects / self._new_name()
        _close(source)
        source.rename(adopted)
        try:
            yield adopted
        finally:
            files.remove(adopted)

    def _registered(self, path: StorePath) -> bool:
        there = os.path.lexists(self._layout.object(path)) and self._layout.manifest(path).exists()
        return there and self._database.object(path) is not None

    def _place(self, adopted: Path, header: manifest.Header, records: list[bytes], keys: list[int]) -> None:
        path = header.info.path
        temporary = self._layout.manifests / self._new_name()
        trash = self._layout.objects / files.unique(TRASH_PREFIX)
        try:
            temporary.write_bytes(manifest.encode(header, records))
            self._fault("manifest")
            files.sync_file_system(self._layout.objects)
            self._fault("sync")
            with self._gc_lock.shared():
                temporary.replace(self._layout.manifest(path))
                self._fault("place-manifest")
                self._move_into_place(adopted, path, trash)
                self._fault("place")
                self._database.add_object(header, keys)
                self._fault("index")
        finally:
            temporary.unlink(missing_ok=True)
            files.remove(trash)

    def _move_into_place(self, adopted: Path, path: StorePath, trash: Path) -> None:
        target = self._layout.object(path)
        # at once: of a damaged object most may be whole, and a kill must not leave its place empty
        if not os.path.lexists(target):
            adopted.rename(target)
        elif not files.exchange(adopted, target):
            target.rename(trash)
            adopted.rename(target)
        files.sync_folder(self._layout.manifests)
        files.sync_folder(self._layout.objects)


def _close(path: Path) -> None:
    """Takes all from others, who could use what a build left open until it has its canonical form: a set-uid file, or
    one that anybody may write to and then keeps open. And a folder without this could not be moved."""
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
        path.chmod(0o700 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o600)


def mismatch(name: str, wanted: Sha256, got: Sha256) -> CcError:
    return CcError(
        "hash-mismatch",
        f"{name} has other content than expected",
        details=(f"wanted {wanted.sri}", f"got    {got.sri}"),
        hint="if the new content is what you want, put its hash into the recipe",
    )
