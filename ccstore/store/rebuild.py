"""The index, made again from the store's files."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator

from ccstore.errors import CcError
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import Realisation
from ccstore.model.storepath import StorePath
from ccstore.store import canonical, files, manifest, realisations
from ccstore.store.database import Database
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock
from ccstore.store.sharing import key, shareable


def rebuild(layout: Layout, database: Database, gc_lock: GcLock) -> list[str]:
    """Fills the index with every object and realisation that is there; returns what had to be left out.

    An object whose manifest is missing or unreadable is hashed again, and gets a new one if its name is right.
    Raises `disk-full`, `read-only-store`.
    """
    left_out: list[str] = []
    with explained(layout.root), gc_lock.exclusive():
        database.replace(_objects(layout, left_out), _realisations(layout, left_out))
    return left_out


def parsed(names: Iterable[str]) -> Iterator[StorePath]:
    """Those of `names`, in `objects/`, that an object can have."""
    for name in names:
        if not name.startswith("."):
            with contextlib.suppress(ValueError):  # not ours: `verify` reports it as stray, `gc` removes it
                yield StorePath.parse(name)


def _objects(layout: Layout, left_out: list[str]) -> Iterator[tuple[manifest.Header, list[int]]]:
    for path in parsed(sorted(os.listdir(layout.objects))):
        found = _described(layout, path)
        if not found and settle(layout, path):
            found = _described(layout, path)
        if found:
            yield found
        else:
            left_out.append(str(layout.object(path)))


def _described(layout: Layout, path: StorePath) -> tuple[manifest.Header, list[int]] | None:
    """What the object's manifest says of it, and the keys of its files; None if it cannot be used."""
    try:
        header, records = manifest.load(layout.manifest(path))
        keys = [key(record) for record in shareable(records)]
    except (FileNotFoundError, ValueError):
        return None
    return (header, keys) if header.info.path == path else None


def settle(layout: Layout, path: StorePath) -> manifest.Header | None:
    """Gives an object its canonical form and its manifest again; None if its content is not what its name says.

    What repairs changed modes and times and lost manifests. To be called under the exclusive `gc.lock`. Raises
    OSError.
    """
    try:
        scan = canonical.canonicalise(layout.object(path), may_share=True)
    except CcError:  # a special file, put there later
        return None
    if StorePath.of_content(path.name, scan.nar_hash) != path:
        return None
    info = ObjectInfo(path, scan.nar_hash, scan.nar_size)
    header = manifest.Header(info, int(time.time()))
    if layout.manifest(path).is_dir():
        files.remove(layout.manifest(path))
    files.write_atomically(layout.manifest(path), manifest.encode(header, scan.records))
    return header


def _realisations(layout: Layout, left_out: list[str]) -> Iterator[Realisation]:
    for file in realisations.record_files(layout):
        try:
            yield realisations.read(file)
        except ValueError:
            left_out.append(str(file))
