"""`gc --optimise`: files of registered objects that hold the same become links to one inode.

Each object, the oldest first, is compared with older ones while others go on with their work. Then, under the
exclusive `gc.lock` and if no running session needs it, it is marked (optimising.py), each file that is to be shared
is replaced by a link made elsewhere, the folders get their mode and time back, and the mark is removed. A kill in
between leaves files that hold what they held, and folders that whoever opens the store next settles.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

from ccstore.events import Progressed, Sink
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault
from ccstore.store import manifest, optimising, temproots
from ccstore.store.failures import explained
from ccstore.store.files import BLOCK
from ccstore.store.layout import Layout
from ccstore.store.manifest import Record
from ccstore.store.session import Session
from ccstore.store.sharing import NOTHING, Finder, Pair, Shared, key, place, put, shareable
from ccstore.store.store import Store


def optimise(store: Store, target: str, sink: Sink, fault: Fault) -> Shared:
    """Shares all that can be shared; progress goes to `sink` as that of `target`. Raises `disk-full` and such."""
    done = NOTHING
    with explained(store.root):
        _index(store)
        repeated = store.database.repeated()
        for number, base in enumerate(repeated, 1):
            with store.session() as session:
                done += _Optimisation(store, session, StorePath.parse(base), fault).run()
            sink(Progressed(target, number, len(repeated), "objects"))
    return done


def _index(store: Store) -> None:
    """Objects of which the index has no files: they were registered before it had any, or taken in by a repair."""
    for base in store.database.without_files():
        path = StorePath.parse(base)
        records = _records(store.layout, path)
        if records:
            store.database.add_files(path, map(key, records))


def _records(layout: Layout, path: StorePath) -> list[Record]:
    """The files of an object that can be shared; none if its manifest is gone or damaged, which `verify` reports."""
    try:
        return shareable(manifest.load(layout.manifest(path))[1])
    except (FileNotFoundError, ValueError):
        return []


class _Optimisation:
    """Of one object."""

    def __init__(self, store: Store, session: Session, path: StorePath, fault: Fault) -> None:
        self._store = store
        self._layout = store.layout
        self._session = session
        self._path = path
        self._tree = os.fsencode(store.layout.object(path))
        self._fault = fault

    def run(self) -> Shared:
        self._session.protect(self._path)
        if not self._store.objects.has(self._path):
            return Shared()  # collected meanwhile
        records = _records(self._layout, self._path)
        holders = self._store.database.holders(map(key, records), self._path, older=True)
        finder = Finder(self._layout, self._store.database)
        pairs = list(finder.pairs(self._tree, records, holders, trusted=False))
        if not pairs:
            return NOTHING
        with self._session.staging("optimise") as staging, self._store.gc_lock.exclusive():
            return NOTHING if self._in_use() else self._replace(pairs, os.fsencode(staging / "link"))

    def _in_use(self) -> bool:
        """Whether a build may have it mounted: under an overlay nothing should change."""
        living = temproots.living(self._layout.temproots)
        return any(self._path.base in each.names for name, each in living.items() if name != self._session.id)

    def _replace(self, pairs: list[Pair], temporary: bytes) -> Shared:
        with optimising.marked(self._layout, self._path, self._fault):
            return put(self._tree, pairs, lambda: temporary, self._fault)


@dataclass(slots=True)
class Forecast:
    """What `optimise` would do, by names and inodes alone: no byte is compared."""

    store: Store
    _becomes: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    _names: Counter[tuple[int, int]] = field(default_factory=Counter)

    def run(self, without: Set[str]) -> Shared:
        """`without` are base names of objects that will not be there."""
        done = NOTHING
        with explained(self.store.root):
            _index(self.store)
            for base in self.store.database.repeated():
                if base not in without:
                    for target, source in self._candidates(StorePath.parse(base), without):
                        done += self._count(target, source)
        return done

    def _candidates(self, path: StorePath, without: Set[str]) -> Iterator[tuple[bytes, bytes]]:
        database, layout = self.store.database, self.store.layout
        records = _records(layout, path)
        holders = database.holders(map(key, records), path, older=True)
        bases = {
            each: next(base for base in both if base not in without)
            for each, both in holders.items()
            if not without >= set(both)
        }
        for record, source in Finder(layout, database).candidates(records, bases):
            yield place(os.fsencode(layout.object(path)), record), source

    def _count(self, target: bytes, source: bytes) -> Shared:
        try:
            new, old = os.lstat(source), os.lstat(target)
        except OSError:
            return NOTHING
        mine = (old.st_dev, old.st_ino)
        wanted = (new.st_dev, new.st_ino)
        wanted = self._becomes.get(wanted, wanted)
        if mine == wanted:
            return NOTHING
        self._becomes[mine] = wanted
        self._names[mine] += 1
        return Shared(1, old.st_blocks * BLOCK if self._names[mine] == old.st_nlink else 0)
