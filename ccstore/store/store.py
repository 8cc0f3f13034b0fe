"""A store: where everything that ccstore makes is kept. `layout.py` says what lies where."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import TracebackType

from ccstore.errors import CcError
from ccstore.events import Noted, Sink
from ccstore.store import files, optimising, reserve
from ccstore.store.checks import Checks
from ccstore.store.database import Database, newer_store
from ccstore.store.failures import EXPLAINED, explained, is_writable, read_only
from ccstore.store.history import History
from ccstore.store.layout import STORE_FORMAT, Layout
from ccstore.store.lineages import Lineages
from ccstore.store.locks import GcLock, Locks
from ccstore.store.logs import Logs
from ccstore.store.objects import Objects
from ccstore.store.realisations import Realisations
from ccstore.store.rebuild import rebuild
from ccstore.store.roots import Roots
from ccstore.store.session import Session
from ccstore.store.temproots import gc_lock

_FORMAT_LINE = "ccstore-store {}\n"


class Store:
    """An open store; made by `Store.open`, a context manager, safe to share between threads."""

    def __init__(self, layout: Layout, database: Database, *, writable: bool) -> None:
        self.layout = layout
        self.root = layout.root
        self.writable = writable
        self.database = database
        self.gc_lock: GcLock = gc_lock(layout)
        self.objects = Objects(layout, database)
        self.realisations = Realisations(layout, database, self.gc_lock)
        self.checks = Checks(layout, self.gc_lock)
        self.roots = Roots(layout, self.gc_lock, self.objects)
        self.lineages = Lineages(layout, self.gc_lock)
        self.locks = Locks(layout.locks)
        self.logs = Logs(layout)
        self.history = History(layout)
        self.index_was_lost = False  # and has been made again, by whoever opened this

    @classmethod
    def open(cls, root: Path, *, create: bool = True) -> Store:
        """Opens the store at `root`, made first if it is not there and `create` is set.

        One that cannot be written to opens too, for reading. Raises `not-found`, `read-only-store` (it would
        have to be made), `newer-store`, `store-unusable`, `disk-full`.
        """
        layout = Layout(root.absolute())
        with explained(layout.root):
            if not layout.format.exists():
                if not create:
                    raise _no_store(layout.root)
                _create(layout)
            _check_format(layout)
            return _open(layout)

    @classmethod
    def open_sound(cls, root: Path) -> Store:
        """Opens a store whose index may be broken: makes it again from the files if it is. Raises as `open` does.

        A broken one is kept as `index.sqlite.broken`. Nobody else should use the store then.
        """
        try:
            opened = cls.open(root, create=False)
            try:
                opened.database.check()
            except BaseException:
                opened.close()
                raise
            return opened
        except CcError as error:
            if error.code != "store-unusable":
                raise
        layout = Layout(root.absolute())
        with explained(layout.root), gc_lock(layout).exclusive():
            _check_format(layout)
            if layout.index.exists():
                layout.index.rename(layout.broken_index)
        return cls.open(root, create=False)

    def rebuild_index(self) -> list[str]:
        """Makes the index again from the files, while others use it; returns the files that it has no use for."""
        self.require_writable()
        self.index_was_lost = False
        return rebuild(self.layout, self.database, self.gc_lock)

    def session(self) -> Session:
        """Begins to add to the store. Raises `read-only-store`, `disk-full`."""
        self.require_writable()
        with explained(self.layout.root):
            reserve.keep(self.layout)
        return Session(self.layout, self.database, self.gc_lock, self.objects)

    def watch(self, sink: Sink) -> None:
        """From now on `sink` is told for whom this store waits."""
        self.gc_lock.on_wait = lambda holder: sink(Noted(f"waits for {holder}, which changes the store"))

    def require_writable(self) -> None:
        """Raises `read-only-store` if nothing can be written."""
        if not self.writable:
            raise read_only(self.root)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(layout: Layout) -> Store:
    writable = is_writable(layout.root)
    if writable:
        for folder in layout.folders():  # version control and backups lose empty ones
            folder.mkdir(exist_ok=True)
        optimising.settle(layout, gc_lock(layout))
    if layout.index.exists():
        room = partial(reserve.spend_if_needed, layout)
        database = Database(layout.root, layout.index, writable=writable, make_room=room)
        return Store(layout, database, writable=writable)
    if not writable:
        raise read_only(layout.root)
    was_lost = any(layout.objects.iterdir()) or any(layout.realisations.iterdir())
    opened = _open_without_index(layout)
    opened.index_was_lost = was_lost
    return opened


def _open_without_index(layout: Layout) -> Store:
    """The index is filled under another name, so that nobody takes half an index for the whole."""
    temporary = layout.index.with_name(files.unique(files.UNFINISHED))
    try:
        database = Database(layout.root, temporary, writable=True, new=True)
        try:
            rebuild(layout, database, gc_lock(layout))
        finally:
            database.close()
        with gc_lock(layout).exclusive():
            if not layout.index.exists():
                # the lost one's: SQLite would play it back into this one
                layout.index.with_name("index.sqlite-journal").unlink(missing_ok=True)
                files.sync_folder(layout.root)
                temporary.rename(layout.index)
                files.sync_folder(layout.root)
    finally:
        temporary.unlink(missing_ok=True)
        Path(f"{temporary}-journal").unlink(missing_ok=True)
    return Store(layout, Database(layout.root, layout.index, writable=True), writable=True)


def _create(layout: Layout) -> None:
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        for folder in layout.folders():
            folder.mkdir(exist_ok=True)
        files.write_atomically(layout.format, _FORMAT_LINE.format(STORE_FORMAT).encode())
    except PermissionError as error:
        raise read_only(layout.root) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise CcError(
            "store-unusable",
            "a file is where a folder of the store should be",
            where=str(error.filename),
            hint="move it away, or choose another store with --store or CCSTORE_STORE",
        ) from error
    except OSError as error:
        if error.errno in EXPLAINED:
            raise
        raise CcError(
            "store-unusable",
            f"no store can be made there: {error.strerror}",
            where=str(layout.root),
            hint="choose another place with --store or CCSTORE_STORE",
        ) from error


def _check_format(layout: Layout) -> None:
    try:
        text = files.read(layout.format).decode(errors="replace")
    except ValueError as error:
        text = str(error)
    word, _, number = text.strip().partition(" ")
    if word != "ccstore-store" or not number.isdecimal():
        raise CcError(
            "store-unusable",
            f"not a ccstore store: the file 'format' says {text[:80]!r}",
            where=str(layout.root),
            hint="choose another store with --store or CCSTORE_STORE",
        )
    if int(number) > STORE_FORMAT:
        raise newer_store(layout.root, f"its format is {number}, this is {STORE_FORMAT}")


def _no_store(root: Path) -> CcError:
    return CcError(
        "not-found", "there is no store", where=str(root), hint="`ccstore realize TARGET` makes one"
    )
