"""Garbage collection: what no root and no running session needs.

Under the exclusive `gc.lock`, in this order: read the temporary roots (first: a session that ends right now has
written its roots by then), read the roots, follow the realisations, choose the dead, forget them in the index in
one transaction, rename them to `objects/.trash-*`, remove their small files. The trash is deleted after the lock
is released. A collection that is killed leaves objects that the index does not know, or trash; the next one
removes both.

Live are the objects of roots and of temporary roots; with `keep_inputs` also every object in the closure of a
root's realisation. The *records* in those closures (realisations, derivations, logs) stay in either case, so that
`plan` can still follow them, and so do the records of every object that is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.events import Finished, Noted, Progressed, Sink, Started, ignore
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store import files, locks, temproots
from ccstore.store.closure import closure
from ccstore.store.database import Fact
from ccstore.store.failures import explained
from ccstore.store.layout import STAGING_PREFIX, TRASH_PREFIX, Layout
from ccstore.store.manifest import Header
from ccstore.store.measure import Measure, disk_usage
from ccstore.store.rebuild import object_names, realisation_files
from ccstore.store.roots import root_files
from ccstore.store.store import Store

LEFTOVER_AGE = (
    30 * 24 * 3600
)  # seconds that a failed build's log and folder, or half a download, may still be wanted
TARGET = "gc"


@dataclass(frozen=True, slots=True)
class GcOptions:
    """`max_size`: stop when all objects take no more bytes than that, the oldest go first; `older_than`: only
    objects that were registered more than so many seconds ago."""

    dry_run: bool = False
    max_size: int | None = None
    older_than: float | None = None
    keep_inputs: bool = True


@dataclass(frozen=True, slots=True)
class GcReport:
    """`deleted` objects (or those that would be); `freed` bytes on the disk, a file with several names once;
    `kept` objects; `realisations` and `logs` deleted; `rubbish`: leftovers of what was interrupted."""

    deleted: tuple[StorePath, ...] = ()
    freed: int = 0
    kept: int = 0
    realisations: int = 0
    logs: int = 0
    rubbish: int = 0


@dataclass(slots=True)
class _Doomed:
    objects: list[StorePath] = field(default_factory=list)
    facts: set[OutputId] = field(default_factory=set)
    records: list[Path] = field(default_factory=list)  # manifests, derivations, realisations, lineages
    rubbish: list[Path] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    kept: int = 0


def collect(store: Store, options: GcOptions | None = None, sink: Sink = ignore) -> GcReport:
    """Deletes what is dead. Raises `read-only-store`, and `store-unusable` for a root that cannot be read."""
    options = options or GcOptions()
    begun = time.monotonic()
    store.require_writable()
    sink(Started(TARGET, "collect"))
    with explained(store.root):
        report = _Collection(store, options, sink).run()
    sink(Finished(TARGET, "collect", time.monotonic() - begun))
    return report


def holders(store: Store, path: StorePath) -> list[str]:
    """What keeps `path` alive: names of roots (also those whose closure it is in) and running sessions."""
    facts = store.database.facts()
    found = []
    for root in store.roots.list():
        needs = closure(facts, [root.realisation]) if root.realisation else set()
        if root.path == path or any(facts[each].base == path.base for each in needs):
            found.append(f"root {root.name}")
    with explained(store.root), locks.gc_exclusive(store.layout.gc_lock):
        if path.base in temproots.living(store.layout.temproots).names:
            found.append("a session that is running")
    return found


class _Collection:
    def __init__(self, store: Store, options: GcOptions, sink: Sink) -> None:
        self._store = store
        self._layout: Layout = store.layout
        self._options = options
        self._sink = sink
        self._now = time.time()

    def run(self) -> GcReport:
        measure = Measure()
        with locks.gc_exclusive(self._layout.gc_lock):
            doomed = self._choose(measure)
            trash = [] if self._options.dry_run else self._move_aside(doomed)
        if self._options.dry_run:
            paths = [self._layout.object(path) for path in doomed.objects]
            return self._report(doomed, Measure().add_all(paths))
        return self._report(doomed, self._delete(trash))

    def _report(self, doomed: _Doomed, freed: int) -> GcReport:
        return GcReport(
            deleted=tuple(doomed.objects),
            freed=freed,
            kept=doomed.kept,
            realisations=len(doomed.facts),
            logs=len(doomed.logs),
            rubbish=len(doomed.rubbish),
        )

    def _choose(self, measure: Measure) -> _Doomed:
        living = temproots.living(self._layout.temproots)
        self._index_what_a_crash_left_out()
        facts = self._store.database.facts()
        live, records = self._mark(facts, living.names)
        headers = self._store.database.objects()
        dead = self._select(headers, live, measure)
        gone = {path.base for path in dead}
        registered = {each.info.path.base for each in headers}
        doomed = _Doomed(kept=len(headers) - len(dead))
        stray = [path for path in object_names(self._layout) if path.base not in registered | live]
        doomed.objects = dead + stray
        left = (registered | live) - gone
        doomed.facts = {
            each.id for each in facts.values() if each.id not in records and each.base not in left
        }
        kept = {each.derivation for each in facts.keys() - doomed.facts}
        doomed.records = self._dead_records(facts, kept, left)
        doomed.rubbish = self._rubbish(living.sessions)
        doomed.logs = self._dead_logs(kept, {each.derivation for each in doomed.facts})
        return doomed

    def _index_what_a_crash_left_out(self) -> None:
        """Files are the truth: a realisation that was written and not yet indexed counts like any other."""
        known = {f"{each}.json" for each in self._store.database.facts()}
        new = [file for file in realisation_files(self._layout) if file.name not in known]
        found = []
        for file in new:
            try:
                realisation = Realisation.from_json(files.read(file).decode())
            except ValueError:
                continue  # `_dead_records` removes it
            if file.name == f"{realisation.id}.json":
                found.append(realisation)
        if found:
            self._store.database.add_realisations(found)

    def _mark(self, facts: dict[OutputId, Fact], names: set[str]) -> tuple[set[str], set[OutputId]]:
        """Base names of live objects, and the realisations whose records stay."""
        roots = self._store.roots.list()
        live = names | {root.path.base for root in roots}
        needed = closure(facts, [root.realisation for root in roots if root.realisation])
        if self._options.keep_inputs:
            live |= {facts[each].base for each in needed}
        bare = [each.id for each in facts.values() if each.base in live]
        kept = {each.derivation for each in needed | closure(facts, bare)}
        # all outputs of a derivation or none: one that is not known would be built anew, and with it the others
        return live, {each for each in facts if each.derivation in kept}

    def _select(self, headers: list[Header], live: set[str], measure: Measure) -> list[StorePath]:
        """Those that are dead (the oldest first) and that age and size let go."""
        age, limit = self._options.older_than, self._options.max_size
        excess = None if limit is None else disk_usage(map(self._place, headers)) - limit
        chosen: list[StorePath] = []
        for header in headers:
            if excess is not None and excess <= 0:
                break
            if header.info.path.base in live or (age is not None and self._now - header.registered < age):
                continue
            chosen.append(header.info.path)
            if excess is not None:
                excess -= measure.add(self._place(header))
        return chosen

    def _place(self, header: Header) -> Path:
        return self._layout.object(header.info.path)

    def _dead_records(self, facts: dict[OutputId, Fact], kept: set[str], left: set[str]) -> list[Path]:
        """Files about what does not stay, and those that a crash kept out of the index."""
        layout = self._layout
        known = {layout.realisation(each) for each in facts}
        found = [file for file in realisation_files(layout) if file not in known]
        found += [file for file in layout.derivations.iterdir() if file.name not in kept]
        found += [
            file for file in layout.manifests.iterdir() if file.name not in left and file.name[0] != "."
        ]
        rooted = {file.relative_to(layout.roots) for file in root_files(layout.roots)}
        lineages = root_files(layout.lineages)
        return found + [file for file in lineages if file.relative_to(layout.lineages) not in rooted]

    def _rubbish(self, sessions: set[str]) -> list[Path]:
        """What sessions that ended left half made, and trash of collections that were interrupted."""
        layout = self._layout
        found: list[Path] = []
        by_project = [*layout.roots.iterdir(), *layout.lineages.iterdir()]
        for folder in (layout.root, layout.derivations, layout.realisations, *by_project):
            found += folder.glob(files.UNFINISHED + "*")
        for path in (*layout.objects.iterdir(), *layout.manifests.iterdir()):
            session = path.name.removeprefix(STAGING_PREFIX).partition("-")[0]
            staging = path.name.startswith(STAGING_PREFIX) and session not in sessions
            if staging or path.name.startswith((TRASH_PREFIX, files.UNFINISHED)):
                found.append(path)
        for folder in (layout.partial, layout.failed, layout.evaluations):
            found += [path for path in folder.iterdir() if self._is_old(path)]
        return found

    def _is_old(self, path: Path) -> bool:
        try:
            return self._now - path.lstat().st_mtime > LEFTOVER_AGE
        except FileNotFoundError:  # these folders are not under the lock
            return False

    def _dead_logs(self, kept: set[str], dying: set[str]) -> list[Path]:
        """A log whose derivation has no realisation is that of a failed build, or of one that runs."""
        found = []
        for file in self._layout.logs.iterdir():
            derivation = file.name.removesuffix(".zst")
            if derivation in kept:
                continue
            if derivation in dying or self._is_old(file):
                found.append(file)
        return found

    def _move_aside(self, doomed: _Doomed) -> list[Path]:
        self._store.database.remove([path.base for path in doomed.objects], doomed.facts)
        trash = []
        locks.remove_free(file for file in self._layout.locks.iterdir() if file != self._layout.gc_lock)
        for path in doomed.objects:
            aside = self._layout.objects / files.unique(TRASH_PREFIX)
            if _rename(self._layout.object(path), aside):
                trash.append(aside)
        for output in doomed.facts:
            files.remove(self._layout.realisation(output))
        # under the lock: later somebody may have written a file of the same name anew
        for file in doomed.logs + doomed.records:
            files.remove(file)
        return trash + doomed.rubbish

    def _delete(self, trash: Iterable[Path]) -> int:
        freed = 0
        for path in trash:
            try:
                freed += files.remove(path)
            except OSError as error:
                self._sink(Noted(f"could not delete {path}: {error.strerror}", TARGET, warning=True))
            self._sink(Progressed(TARGET, freed, None, "bytes"))
        return freed


def _rename(old: Path, new: Path) -> bool:
    if not os.path.lexists(old):
        return False  # registered, but somebody removed it by hand
    old.rename(new)
    return True
