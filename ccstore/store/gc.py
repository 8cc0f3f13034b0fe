"""Garbage collection: what no root and no running session needs.

Under the exclusive `gc.lock`, in this order: read the temporary roots (first: a session that ends right now has
written its roots by then), read the roots, follow the realisations (again if a crash left some out of the index),
choose the dead, forget them in the index in one transaction, rename them to `objects/.trash-*`, remove their small
files. The trash is deleted after the lock is released. A collection that is killed leaves objects that the index
does not know, or trash; the next one removes both. Sharing what the others have in common comes last, if it was
asked for (optimise.py).

Live are the objects of roots and of temporary roots; with `keep_inputs` also every object in the closure of a
root's realisation. The *records* in those closures (realisations, derivations, logs) stay in either case, so that
`plan` can still follow them, and so do the records of every object that is kept.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from ccstore.events import Finished, Noted, Progressed, Sink, Started, ignore
from ccstore.model.realisation import Realisation
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import files, locks, realisations, reserve, temproots
from ccstore.store.compile_cache import dead_compile_caches
from ccstore.store.failures import explained
from ccstore.store.layout import STAGING_PREFIX, TRASH_PREFIX, Layout
from ccstore.store.marks import Marks
from ccstore.store.measure import Measure, Place, Sizes, disk_usage
from ccstore.store.optimise import Forecast, optimise
from ccstore.store.rebuild import parsed
from ccstore.store.roots import root_files
from ccstore.store.sharing import NOTHING, Shared
from ccstore.store.store import Store
from ccstore.store.warm import old_folders, set_aside

LEFTOVER_AGE = (
    30 * 24 * 3600
)  # seconds that a failed build's log and folder, or half a download, may still be wanted
TARGET = "gc"


@dataclass(frozen=True, slots=True)
class GcOptions:
    """`max_size`: stop when all objects take no more bytes than that, the oldest go first; `older_than`: only
    objects that were registered more than so many seconds ago; `optimise`: share files among those that stay."""

    dry_run: bool = False
    max_size: int | None = None
    older_than: float | None = None
    keep_inputs: bool = True
    optimise: bool = False


@dataclass(frozen=True, slots=True)
class GcReport:
    """`names`: base names of objects that were deleted (or would be); `freed` bytes on the disk, a file with several
    names once; `kept` objects; `realisations` and `logs` deleted; `rubbish`: leftovers of what was interrupted;
    `waited_for` the processes that had to finish something first; `shared` files of objects that stay."""

    names: tuple[str, ...] = ()
    freed: int = 0
    kept: int = 0
    realisations: int = 0
    logs: int = 0
    rubbish: int = 0
    waited_for: tuple[str, ...] = ()
    shared: Shared = NOTHING

    @property
    def deleted(self) -> tuple[StorePath, ...]:
        """The same as paths, which are made anew each time."""
        return tuple(StorePath(*name.split("-", 1)) for name in self.names)


@dataclass(slots=True)
class _Doomed:
    objects: list[str] = field(default_factory=list)  # base names
    realisations: int = 0
    rubbish: list[Path] = field(default_factory=list)
    caches: list[Path] = field(default_factory=list)  # of compilers
    warm: list[Path] = field(default_factory=list)  # build folders
    logs: list[Path] = field(default_factory=list)
    kept: int = 0
    sessions: Collection[str] = ()  # that run


def collect(
    store: Store, options: GcOptions | None = None, sink: Sink = ignore, fault: Fault = no_fault
) -> GcReport:
    """Deletes what is dead. Raises `read-only-store`, and `store-unusable` for a root that cannot be read."""
    options = options or GcOptions()
    begun = time.monotonic()
    store.require_writable()
    sink(Started(TARGET, "collect"))
    with explained(store.root):
        report = _Collection(store, options, sink, fault).run()
    if options.optimise:
        report = replace(report, shared=_optimise(store, report, options, sink, fault))
    sink(Finished(TARGET, "collect", time.monotonic() - begun))
    return report


def _optimise(store: Store, report: GcReport, options: GcOptions, sink: Sink, fault: Fault) -> Shared:
    if options.dry_run:
        return Forecast(store).run(set(report.names))
    return optimise(store, TARGET, sink, fault)


class _Collection:
    def __init__(self, store: Store, options: GcOptions, sink: Sink, fault: Fault) -> None:
        self._store = store
        self._layout: Layout = store.layout
        self._objects = str(store.layout.objects)
        self._database = store.database
        self._marks = Marks(store.database)
        self._options = options
        self._sink = sink
        self._fault = fault
        self._waited_for: list[str] = []
        self._now = time.time()

    def run(self) -> GcReport:
        with Sizes(self._objects) as sizes:
            with self._store.gc_lock.exclusive(self._wait), self._marks.begin():
                self._fault("lock")
                reserve.spend_if_needed(self._layout)
                doomed = self._choose(sizes)
                self._fault("choose")
                trash = [] if self._options.dry_run else self._move_aside(doomed)
            if self._options.dry_run:
                return self._report(doomed, sizes.total([*doomed.rubbish, *doomed.caches, *doomed.warm]))
        freed = self._delete(trash)
        with contextlib.suppress(OSError):  # whoever adds to the store is told
            reserve.keep(self._layout)
        return self._report(doomed, freed)

    def _report(self, doomed: _Doomed, freed: int) -> GcReport:
        return GcReport(
            names=tuple(doomed.objects),
            freed=freed,
            kept=doomed.kept,
            realisations=doomed.realisations,
            logs=len(doomed.logs),
            rubbish=len(doomed.rubbish) + len(doomed.caches) + len(doomed.warm),
            waited_for=tuple(self._waited_for),
        )

    def _wait(self, holder: str) -> None:
        self._waited_for.append(holder)
        self._sink(Noted(f"waits for {holder}, which changes the store", TARGET))

    def _choose(self, sizes: Sizes) -> _Doomed:
        layout = self._layout
        living = temproots.living(layout.temproots)
        roots = self._store.roots.list()
        names = {name for each in living.values() for name in each.names}
        mark = partial(
            self._marks.mark,
            names | {root.path.base for root in roots},
            [root.realisation for root in roots if root.realisation],
            keep_inputs=self._options.keep_inputs,
        )
        with ThreadPoolExecutor(1) as beside:  # the index is at it for as long as large folders take
            records, there = (
                beside.submit(os.listdir, each) for each in (layout.realisations, layout.objects)
            )
            mark()
        left_out, unfinished = self._left_out(records.result())
        del records  # which may be very many
        if left_out:
            self._database.add_realisations(left_out)
            mark()
        measured = sizes.add if self._options.dry_run else list
        chosen = measured(self._select())
        strangers = self._strangers(there.result())
        whole = measured(path.base for path in parsed(strangers))
        doomed = _Doomed(kept=self._database.count_objects() - len(chosen), sessions=living.keys())
        doomed.objects = [*chosen, *whole]
        doomed.realisations = self._marks.lost()
        doomed.rubbish = [*unfinished, *self._rubbish(living.keys(), strangers)]
        doomed.caches = dead_compile_caches(layout, self._marks.stays)
        doomed.warm = old_folders(layout, self._is_old)
        doomed.logs = self._dead_logs()
        return doomed

    def _left_out(self, records: list[str]) -> tuple[list[Realisation], list[Path]]:
        """What a crash left of `records`, the names in `realisations/`: those that were written and not yet indexed,
        which count like any other, as files are the truth, and those that were not written to the end."""
        folder = self._layout.realisations
        new = _strange(records, self._database.records, hidden=True)
        found = []
        for name in new:
            if not name.startswith("."):
                with contextlib.suppress(ValueError):  # `_dead_records` removes it
                    found.append(realisations.read(folder / name))
        return found, [folder / name for name in new if name.startswith(files.UNFINISHED)]

    def _strangers(self, there: list[str]) -> list[str]:
        """What of the names in `objects/` is not registered and belongs to nobody."""
        return sorted(set(_strange(there, self._database.bases, hidden=True)) - self._marks.named())

    def _select(self) -> Iterator[str]:
        """Base names of those that are dead and that age and size let go; the others are spared."""
        if self._options.older_than is not None or self._options.max_size is not None:
            self._marks.spare(list(self._spared(self._options.older_than, self._options.max_size)))
        return self._marks.dead()

    def _spared(self, age: float | None, limit: int | None) -> Iterator[int]:
        """The oldest go first, until what is left is small enough."""
        measure = Measure()
        excess = math.inf if limit is None else self._usage() - limit
        for number, base, registered in self._marks.by_age():
            if excess <= 0 or (age is not None and self._now - registered < age):
                yield number
            elif limit is not None:
                excess -= measure.add(self._place(base))

    def _usage(self) -> int:
        return disk_usage(map(self._place, self._database.bases()))

    def _place(self, base: str) -> str:
        return f"{self._objects}/{base}"

    def _dead_records(self, sessions: Collection[str]) -> Iterator[Place]:
        """Files of which the index, which has forgotten what goes, knows nothing."""
        layout, database = self._layout, self._database
        for folder in (layout.checks, layout.realisations):
            yield from (f"{folder}/{name}" for name in _without(folder, database.records))
        derivations = _without(layout.derivations, database.derivations)
        yield from (f"{layout.derivations}/{name}" for name in derivations)
        manifests, named = _without(layout.manifests, database.bases, hidden=True), self._marks.named()
        for name in manifests:
            if not (name in named or _is_staging(name, sessions)):
                yield f"{layout.manifests}/{name}"
        rooted = {file.relative_to(layout.roots) for file in root_files(layout.roots)}
        lineages = root_files(layout.lineages)
        yield from (file for file in lineages if file.relative_to(layout.lineages) not in rooted)

    def _rubbish(self, sessions: Collection[str], strangers: list[str]) -> list[Path]:
        """What sessions that ended left half made, trash of collections that were interrupted, and what is not ours.

        `strangers` is what lies in `objects/` and is not known.
        """
        layout = self._layout
        found: list[Path] = []
        by_project = [*layout.roots.iterdir(), *layout.lineages.iterdir()]
        for folder in (layout.root, layout.derivations, layout.checks, *by_project):
            found += (folder / name for name in _hidden(folder, files.UNFINISHED))
        ours = {path.base for path in parsed(strangers)}
        found += [
            layout.objects / name for name in strangers if not (name in ours or _is_staging(name, sessions))
        ]
        for folder in (layout.partial, layout.failed, layout.evaluations):
            found += [path for path in folder.iterdir() if self._is_old(path)]
        # nobody holds a lock for these
        found += [path for path in layout.evaluations.glob(files.UNFINISHED + "*") if not _is_written(path)]
        if self._is_old(layout.broken_index):
            found.append(layout.broken_index)
        return found

    def _is_old(self, path: Path) -> bool:
        try:
            return self._now - path.lstat().st_mtime > LEFTOVER_AGE
        except FileNotFoundError:  # these folders are not under the lock
            return False

    def _dead_logs(self) -> list[Path]:
        """A log whose derivation has no realisation is that of a failed build, or of one that runs."""
        logs = self._layout.logs
        found = []
        for name in _without(logs, self._marks.logs, hidden=True):
            if self._database.has_realised(name.removesuffix(".zst")) or self._is_old(logs / name):
                found.append(logs / name)
        return found

    def _move_aside(self, doomed: _Doomed) -> list[Place]:
        self._marks.forget(objects=bool(doomed.objects))
        self._fault("forget")
        locks.remove_free(file for file in self._layout.locks.iterdir() if file != self._layout.gc_lock)
        trash: list[Place] = [*self._rename(doomed.objects), *self._set_aside(doomed), *doomed.rubbish]
        # under the lock: later somebody may have written a file of the same name anew. Logs first, or a kill would
        # leave them behind as those of builds that failed
        for file in chain(doomed.logs, self._dead_records(doomed.sessions)):
            files.remove(file)
            self._fault("record")
        return trash

    def _set_aside(self, doomed: _Doomed) -> list[Path]:
        """Gives what builds might use the names of trash; returns those that nobody uses now."""
        trash = []
        for folder in [*doomed.caches, *doomed.warm]:
            aside = self._layout.objects / files.unique(TRASH_PREFIX)
            if folder in doomed.caches:
                folder.rename(aside)
            elif not set_aside(self._layout, folder, aside):
                continue
            trash.append(aside)
        return trash

    def _rename(self, dead: list[str]) -> list[str]:
        """Gives dead objects the names of trash; returns those that are there."""
        objects, prefix = self._layout.objects, files.unique(TRASH_PREFIX)
        trash = []
        for number, base in enumerate(dead):
            aside = f"{objects}/{prefix}-{number}"
            # registered, but somebody removed it by hand
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{objects}/{base}", aside)  # noqa: PTH104
                trash.append(aside)
            self._fault("move")
        return trash

    def _delete(self, trash: list[Place]) -> int:
        freed = 0
        for path in trash:
            try:
                freed += files.remove(path)
            except OSError as error:
                self._sink(Noted(f"could not delete {path}: {error.strerror}", TARGET, warning=True))
            self._fault("delete")
            self._sink(Progressed(TARGET, freed, None, "bytes"))
        return freed


def _without(folder: Path, known: Callable[[], Iterable[str]], *, hidden: bool = False) -> list[str]:
    """Names in `folder` that are not among those of `known`; those that begin with a dot if `hidden` is set."""
    return _strange(os.listdir(folder), known, hidden=hidden)


def _strange(names: list[str], known: Callable[[], Iterable[str]], *, hidden: bool) -> list[str]:
    """As a rule there are none, which the sums of their hashes say in a third of the time that sets take."""
    dotted = [name for name in names if name[0] == "."]
    strange: set[str] = set()
    if len(names) > len(dotted) and _sum(names) - _sum(dotted) != _sum(known()):
        strange.update(names)
        strange.difference_update(dotted)
        strange.difference_update(known())
    return sorted([*strange, *dotted] if hidden else strange)


def _sum(names: Iterable[str]) -> int:
    return sum(map(hash, names))


def _hidden(folder: Path, prefix: str) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(prefix)]


def _is_written(evaluation: Path) -> bool:
    return Path("/proc", evaluation.name.removeprefix(files.UNFINISHED)).exists()


def _is_staging(name: str, sessions: Collection[str]) -> bool:
    """Whether a session that runs is making it."""
    return name.startswith(STAGING_PREFIX) and name.removeprefix(STAGING_PREFIX).partition("-")[0] in sessions
