"""The index: which objects are registered, which realisation gave which object, from which inputs.

The only module that talks to SQLite, with marks.py, which works out in it what a collection decides on. The index
can be made again from the store's files (`rebuild.py`), but as long as it is there it decides what is registered, so
a committed transaction must survive a power cut: journal mode TRUNCATE with `synchronous=FULL` (the journal's
truncation is synced, which mode DELETE would not do). There is no write-ahead log because a store on a read-only
medium or a network file system must still open.

One connection serves all threads of a process, one at a time; transactions are short.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import ObjectInfo
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store.failures import explained
from ccstore.store.manifest import Header

_SCHEMA = Path(__file__).with_name("schema.sql")
_BUSY_SECONDS = 60.0
_AT_ONCE = 500  # values in one query
_ROWS = 10_000
_UNFIT = """SELECT 1 FROM realisations LEFT JOIN objects USING (base)
    WHERE realisations.object IS NOT objects.id LIMIT 1"""
_NAMES = """WITH RECURSIVE part (first) AS
    (SELECT 0 UNION ALL SELECT first + 1000 FROM part WHERE first < (SELECT max(id) FROM {table}))
    SELECT (SELECT group_concat({name}, '/') FROM {rows}
        WHERE {table}.id >= first AND {table}.id < first + 1000 AND {which}) FROM part"""
_HOLDERS = """SELECT key, max(object), min(object) FROM files
    WHERE key IN ({}) AND ({}) GROUP BY key"""
_REPEATED = """SELECT base FROM objects WHERE id IN (SELECT object FROM files AS mine WHERE EXISTS
    (SELECT 1 FROM files AS other WHERE other.key = mine.key AND other.object < mine.object)) ORDER BY id"""

OUTPUT = """SELECT outputs.id FROM derivations JOIN outputs ON outputs.derivation = derivations.id
    WHERE derivations.name = ? AND outputs.name = ?"""
# of what no realisation is left: edges, and the names that no edge leads to
TIDY = (
    "DELETE FROM edges WHERE output IN (SELECT id FROM outputs WHERE base IS NULL)",
    "DELETE FROM outputs WHERE base IS NULL AND NOT EXISTS (SELECT 1 FROM edges WHERE input = outputs.id)",
    "DELETE FROM derivations WHERE NOT EXISTS (SELECT 1 FROM outputs WHERE derivation = derivations.id)",
)

# of files by their key (sharing.py): base names of the newest and the oldest object that has one
Holders = dict[int, tuple[str, str]]


class Fact(NamedTuple):
    """A realisation as the index knows it."""

    id: OutputId
    base: str
    inputs: tuple[OutputId, ...]


def migrations() -> list[str]:
    """The SQL of each migration, the first one first."""
    return re.split(r"^-- migration \d+$", _SCHEMA.read_text(), flags=re.MULTILINE)[1:]


class Database:
    """The open index at `file`, below the store `root`; `new` makes it first. One of an older schema is upgraded if
    it is writable, and `make_room` called before: that takes about as much of the disk again.

    Raises `newer-store`, and as `explained` does: also `store-unusable` for a file that is cut to nothing, which
    SQLite would take for a database without tables, and a collection for a store in which everything is dead.
    """

    def __init__(
        self,
        root: Path,
        file: Path,
        *,
        writable: bool,
        new: bool = False,
        make_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = root
        self._lock = threading.RLock()
        mode = "rwc" if new else "rw" if writable else "ro"
        with explained(root):
            self._connection = sqlite3.connect(
                f"{file.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._set_up(writable, new, make_room)
            except BaseException:
                self._connection.close()
                raise

    def _set_up(self, writable: bool, new: bool, make_room: Callable[[], None]) -> None:
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA synchronous = FULL")
        if writable:
            self._connection.execute("PRAGMA journal_mode = TRUNCATE")
        steps = migrations()
        if not new and self._version() == 0:
            raise sqlite3.DatabaseError("it has lost its content")
        if self._version() > len(steps):
            raise newer_store(self._root, f"its index has schema {self._version()}, this is {len(steps)}")
        if writable and self._version() < len(steps):
            make_room()
            self._migrate(steps)

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, steps: Sequence[str]) -> None:
        with self._transaction():
            for number, step in enumerate(steps, 1):
                if number > self._version():
                    for statement in _statements(step):
                        self._connection.execute(statement)
                    self._connection.execute(f"PRAGMA user_version = {number}")

    def check(self) -> None:
        """Reads every page of the index; raises `store-unusable` if one is damaged, or does not fit another."""
        for view in ("realisations", "inputs"):
            self._rows(f"SELECT derivation, output FROM {view} LIMIT 0")  # noqa: S608  what SQLite's own check lets be
        [[result], *_] = self._rows("PRAGMA integrity_check(1)")
        if result != "ok":
            raise CcError(
                "store-unusable",
                f"the store's index is damaged: {result}",
                where=str(self._root / "index.sqlite"),
                hint="`ccstore verify --rebuild-index` makes it again from the store's files",
            )

    def is_consistent(self) -> bool:
        """Whether rows that belong together do, as every transaction leaves them."""
        return not (self._rows("PRAGMA foreign_key_check") or self._rows(_UNFIT))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self._root):
            self._connection.execute(begin)
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """For as long as nobody else changes the index; all of it or nothing."""
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """The connection, for the calling thread alone. Errors become CcError, as everywhere here."""
        with self._lock, explained(self._root):
            yield self._connection

    def stream(self, query: str, at_once: int = _ROWS) -> Iterator[tuple[object, ...]]:
        """The rows of `query`, never more than `at_once` in memory; nothing may change the index meanwhile."""
        with self.connected() as connection:
            cursor = connection.execute(query)
        while True:
            with self.connected():
                rows = cursor.fetchmany(at_once)
            if not rows:
                return
            yield from rows

    def bases(self, which: str = "true") -> Iterator[str]:
        """Base names of all registered objects, or of those of which the SQL condition `which` is true."""
        return self._names("base", "objects", "objects", which)

    def records(self) -> Iterator[str]:
        """Names of all that lies in `realisations/`."""
        name = "derivations.name || '^' || outputs.name || '.json'"
        rows = "outputs CROSS JOIN derivations ON derivations.id = outputs.derivation"
        return self._names(name, "outputs", rows, "base IS NOT NULL")

    def _names(self, name: str, table: str, rows: str, which: str) -> Iterator[str]:
        """A thousand from each row that SQLite gives, with slashes between: one in each would take twice as long."""
        query = _NAMES.format(name=name, table=table, rows=rows, which=which)
        return chain.from_iterable(str(names).split("/") for [names] in self.stream(query, 1) if names)

    def derivations(self) -> Iterator[str]:
        """Derivations of which there are realisations."""
        return (str(each) for [each] in self.stream("SELECT DISTINCT derivation FROM realisations"))

    def count_objects(self) -> int:
        [[count]] = self._rows("SELECT count(*) FROM objects")
        return int(str(count))

    def has_realised(self, derivation: str) -> bool:
        return bool(self._rows("SELECT 1 FROM realisations WHERE derivation = ? LIMIT 1", (derivation,)))

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._lock, explained(self._root):
            return self._connection.execute(query, values).fetchall()

    def object(self, path: StorePath) -> Header | None:
        rows = self._rows(
            "SELECT base, nar_hash, nar_size, registered FROM objects WHERE base = ?", (path.base,)
        )
        return _header(rows[0]) if rows else None

    def objects(self) -> list[Header]:
        """All registered objects, those registered first coming first."""
        rows = self._rows("SELECT base, nar_hash, nar_size, registered FROM objects ORDER BY registered, id")
        return [_header(row) for row in rows]

    def objects_with(self, nar_hash: Sha256) -> list[Header]:
        rows = self._rows(
            "SELECT base, nar_hash, nar_size, registered FROM objects WHERE nar_hash = ? ORDER BY id",
            (nar_hash.digest,),
        )
        return [_header(row) for row in rows]

    def facts(self) -> dict[OutputId, Fact]:
        """Every realisation with its inputs."""
        edges: dict[object, list[OutputId]] = {}
        with self._transaction("BEGIN"):  # both queries see the same state
            for row, derivation, output in self._rows(
                "SELECT realisation, derivation, output FROM inputs ORDER BY derivation, output"
            ):
                edges.setdefault(row, []).append(OutputId(str(derivation), str(output)))
            rows = self._rows("SELECT id, derivation, output, base FROM realisations")
        facts = [
            Fact(OutputId(str(derivation), str(output)), str(base), tuple(edges.get(row, ())))
            for row, derivation, output, base in rows
        ]
        return {fact.id: fact for fact in facts}

    def realisations_of(self, path: StorePath) -> list[OutputId]:
        rows = self._rows(
            "SELECT derivation, output FROM realisations WHERE base = ? ORDER BY id", (path.base,)
        )
        return [OutputId(str(derivation), str(output)) for derivation, output in rows]

    def holders(self, keys: Iterable[int], path: StorePath, *, older: bool = False) -> Holders:
        """Which objects other than `path` have files of these keys; `older`: of those registered before it only."""
        here = "SELECT id FROM objects WHERE base = ?"
        which = f"object < ({here})" if older else f"object IS NOT ({here})"
        found: dict[int, tuple[int, int]] = {}
        bases: dict[int, str] = {}
        wanted = sorted(set(keys))
        with self._transaction("BEGIN") as connection:
            for at in range(0, len(wanted), _AT_ONCE):
                part = wanted[at : at + _AT_ONCE]
                query = _HOLDERS.format(", ".join("?" * len(part)), which)
                for key, newest, oldest in connection.execute(query, (*part, path.base)):
                    found[key] = newest, oldest
            for number in {each for pair in found.values() for each in pair}:
                [base] = connection.execute("SELECT base FROM objects WHERE id = ?", (number,)).fetchone()
                bases[number] = base
        return {key: (bases[newest], bases[oldest]) for key, (newest, oldest) in found.items()}

    def repeated(self) -> list[str]:
        """Base names of objects with files that older ones seem to have too; the oldest first."""
        return [str(base) for [base] in self._rows(_REPEATED)]

    def without_files(self) -> list[str]:
        """Base names of objects of whose files nothing is known here."""
        return [
            str(base)
            for [base] in self._rows("SELECT base FROM objects WHERE id NOT IN (SELECT object FROM files)")
        ]

    def add_object(self, header: Header, keys: Iterable[int] = ()) -> None:
        """`keys` are those of its files (sharing.py)."""
        with self._transaction() as connection:
            _insert_object(connection, header)
            _insert_files(connection, header.info.path.base, keys)

    def add_files(self, path: StorePath, keys: Iterable[int]) -> None:
        with self._transaction() as connection:
            _insert_files(connection, path.base, keys)

    def add_realisations(self, realisations: Iterable[Realisation]) -> None:
        with self._transaction() as connection:
            for realisation in realisations:
                _insert_realisation(connection, realisation)

    def remove(self, objects: Iterable[str], realisations: Iterable[OutputId]) -> None:
        """Forgets objects (by base name) and realisations in one transaction."""
        with self._transaction() as connection:
            forget = f"UPDATE outputs SET base = NULL, object = NULL WHERE id = ({OUTPUT})"  # noqa: S608
            connection.executemany(forget, list(realisations))
            for statement in TIDY:
                connection.execute(statement)
            bases = [(base,) for base in objects]
            connection.executemany("UPDATE outputs SET object = NULL WHERE base = ?", bases)
            connection.executemany("DELETE FROM objects WHERE base = ?", bases)
            if bases:
                connection.execute("DELETE FROM files WHERE object NOT IN (SELECT id FROM objects)")

    def replace(
        self, objects: Iterable[tuple[Header, Iterable[int]]], realisations: Iterable[Realisation]
    ) -> None:
        """Forgets everything and holds these instead, in one transaction; objects with the keys of their files."""
        with self._transaction() as connection:
            for table in ("files", "edges", "outputs", "derivations", "objects"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
            for header, keys in objects:
                _insert_object(connection, header)
                _insert_files(connection, header.info.path.base, keys)
            for realisation in realisations:
                _insert_realisation(connection, realisation)


def newer_store(root: Path, why: str) -> CcError:
    return CcError(
        "newer-store",
        f"the store was made by a newer version of ccstore: {why}",
        where=str(root),
        hint="upgrade ccstore, or choose another store with --store or CCSTORE_STORE",
    )


def _statements(script: str) -> Iterator[str]:
    lines: list[str] = []
    for line in script.splitlines():
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines.clear()


def _header(row: tuple[object, ...]) -> Header:
    base, nar_hash, nar_size, registered = row
    if not isinstance(nar_hash, bytes):
        raise TypeError("the index holds a hash that is not bytes")
    digest, _, name = str(base).partition("-")  # what is no name of an object is found to be missing
    info = ObjectInfo(StorePath(digest, name), Sha256(nar_hash), int(str(nar_size)))
    return Header(info, int(str(registered)))


def _insert_object(connection: sqlite3.Connection, header: Header) -> None:
    info = header.info
    connection.execute(
        "INSERT INTO objects (base, nar_hash, nar_size, registered) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (base) DO UPDATE SET nar_hash = excluded.nar_hash, nar_size = excluded.nar_size,"
        " registered = excluded.registered",
        (info.path.base, info.nar_hash.digest, info.nar_size, header.registered),
    )
    connection.execute(
        "UPDATE outputs SET object = (SELECT id FROM objects WHERE base = ?1) WHERE base = ?1",
        (info.path.base,),
    )


def _insert_files(connection: sqlite3.Connection, base: str, keys: Iterable[int]) -> None:
    row = connection.execute("SELECT id FROM objects WHERE base = ?", (base,)).fetchone()
    if row:  # else it was collected meanwhile
        # in the order of the table: four times as fast
        rows = ((key, row[0]) for key in sorted(keys))
        connection.executemany("INSERT OR IGNORE INTO files (key, object) VALUES (?, ?)", rows)


def _insert_realisation(connection: sqlite3.Connection, realisation: Realisation) -> None:
    number = _number(connection, realisation.id)
    connection.execute(
        "UPDATE outputs SET base = ?1, object = (SELECT id FROM objects WHERE base = ?1) WHERE id = ?2",
        (realisation.object.path.base, number),
    )
    connection.execute("DELETE FROM edges WHERE output = ?", (number,))
    connection.executemany(
        "INSERT OR IGNORE INTO edges (output, input) VALUES (?, ?)",
        [(number, _number(connection, each)) for each in realisation.inputs],
    )


def _number(connection: sqlite3.Connection, output: OutputId) -> int:
    """Of the row of `output`, which is made if there is none."""
    row = connection.execute(OUTPUT, output).fetchone()
    if row is None:
        connection.execute("INSERT OR IGNORE INTO derivations (name) VALUES (?)", output[:1])
        connection.execute(
            "INSERT INTO outputs (derivation, name) SELECT id, ?2 FROM derivations WHERE name = ?1", output
        )
        row = connection.execute(OUTPUT, output).fetchone()
    return int(row[0])
