"""What a collection decides on, worked out inside the index: which objects are live, and which realisations stay.

Sets of rows are temporary tables, so neither objects nor realisations ever become values of Python's all at once: a
store of a million objects is marked in the memory that their numbers take. Only a collection has such tables, and
there is one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.store.database import Database

_TABLES = {
    "named": "base TEXT PRIMARY KEY",
    "needed": "id INTEGER PRIMARY KEY",
    "recorded": "id INTEGER PRIMARY KEY",
    "live": "id INTEGER PRIMARY KEY",
    "gone": "id INTEGER PRIMARY KEY",
    "kept": "derivation TEXT PRIMARY KEY",
}
_CLOSURE = """WITH RECURSIVE found (id) AS ({start} UNION
    SELECT behind.id FROM found JOIN inputs ON inputs.realisation = found.id JOIN realisations AS behind
    ON behind.derivation = inputs.derivation AND behind.output = inputs.output)
    INSERT OR IGNORE INTO temp.{table} SELECT id FROM found"""
_LIVE = """INSERT OR IGNORE INTO temp.live SELECT object FROM realisations
    WHERE object IS NOT NULL AND id IN (SELECT id FROM temp.needed)"""
_BARE = """SELECT id FROM realisations WHERE object IN (SELECT id FROM temp.live)
    UNION SELECT id FROM realisations WHERE base IN (SELECT base FROM temp.named)
    UNION SELECT id FROM temp.needed"""
_KEPT = """INSERT OR IGNORE INTO temp.kept SELECT derivation FROM realisations
    WHERE id IN (SELECT id FROM temp.recorded)"""
_DEAD = """SELECT id, base, registered FROM objects
    WHERE id NOT IN (SELECT id FROM temp.live) ORDER BY registered, id"""
_LOST = """derivation NOT IN (SELECT derivation FROM temp.kept)
    AND (object IS NULL OR object IN (SELECT id FROM temp.gone))"""
_STAYING = """SELECT derivation FROM temp.kept UNION SELECT derivation FROM realisations
    WHERE object NOT IN (SELECT id FROM temp.live) AND object NOT IN (SELECT id FROM temp.gone)"""
_STAYS = """SELECT 1 FROM objects WHERE base = :base AND id NOT IN (SELECT id FROM temp.gone)
    UNION SELECT 1 FROM temp.named WHERE base = :base"""
_FORGET = (
    f"DELETE FROM realisations WHERE {_LOST}",  # noqa: S608
    "UPDATE realisations SET object = NULL WHERE object IN (SELECT id FROM temp.gone)",
    "DELETE FROM objects WHERE id IN (SELECT id FROM temp.gone)",
    "DELETE FROM files WHERE object NOT IN (SELECT id FROM objects)",
)
_COUNT_LOST = f"SELECT count(*) FROM realisations WHERE {_LOST}"  # noqa: S608


class Marks:
    """Of one collection, between `begin` and `end`, under the exclusive `gc.lock`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def begin(self) -> Iterator[None]:
        """Makes the tables, and drops them in the end; a context manager."""
        with self._database.connected() as connection:
            connection.execute("PRAGMA temp_store = MEMORY")  # the disk may be full
            self._drop(connection)
            for name, columns in _TABLES.items():
                connection.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
        try:
            yield
        finally:
            with self._database.connected() as connection:
                self._drop(connection)

    @staticmethod
    def _drop(connection: sqlite3.Connection) -> None:
        for name in _TABLES:
            connection.execute(f"DROP TABLE IF EXISTS temp.{name}")

    def mark(self, names: Iterable[str], roots: Iterable[OutputId], *, keep_inputs: bool) -> None:
        """Begins with base names that are live and realisations that roots name."""
        with self._database.connected() as connection:
            connection.executemany("INSERT OR IGNORE INTO temp.named VALUES (?)", ((name,) for name in names))
            connection.execute(
                "INSERT OR IGNORE INTO temp.live"
                " SELECT id FROM objects WHERE base IN (SELECT base FROM temp.named)"
            )
            start = "SELECT id FROM realisations WHERE derivation = ? AND output = ?"
            connection.executemany(f"INSERT OR IGNORE INTO temp.needed {start}", list(roots))
            connection.execute(_CLOSURE.format(start="SELECT id FROM temp.needed", table="needed"))
            if keep_inputs:
                connection.execute(_LIVE)
                connection.execute(
                    "INSERT OR IGNORE INTO temp.named SELECT base FROM realisations"
                    " WHERE object IS NULL AND id IN (SELECT id FROM temp.needed)"
                )
            connection.execute(_CLOSURE.format(start=_BARE, table="recorded"))
            # all outputs of a derivation or none: one that is not known would be built anew, and with it the others
            connection.execute(_KEPT)

    def dead(self) -> Iterator[tuple[int, StorePath, int]]:
        """Objects that are not live, those registered first coming first: the row's number, the path and when."""
        for number, base, registered in self._database.stream(_DEAD):
            digest, _, name = str(base).partition("-")  # what is no name of an object is found to be missing
            yield int(str(number)), StorePath(digest, name), int(str(registered))

    def condemn(self, numbers: Iterable[int]) -> None:
        """These objects go."""
        with self._database.connected() as connection:
            connection.executemany("INSERT INTO temp.gone VALUES (?)", ((number,) for number in numbers))

    def lost(self) -> int:
        """How many realisations go."""
        [[count]] = self._database.stream(_COUNT_LOST)
        return int(str(count))

    def named(self) -> set[str]:
        """Base names that are live, whether or not an object has them."""
        return {str(base) for [base] in self._database.stream("SELECT base FROM temp.named")}

    def stays(self, base: str) -> bool:
        """Whether an object is there afterwards."""
        with self._database.connected() as connection:
            return connection.execute(_STAYS, {"base": base}).fetchone() is not None

    def derivations(self) -> Iterator[str]:
        """Those of which realisations stay."""
        return (str(each) for [each] in self._database.stream(_STAYING))

    def forget(self) -> None:
        """Takes out of the index all that goes, in one transaction."""
        with self._database.transaction() as connection:
            for statement in _FORGET if self._any_gone() else _FORGET[:1]:
                connection.execute(statement)

    def _any_gone(self) -> bool:
        return any(self._database.stream("SELECT 1 FROM temp.gone LIMIT 1"))
