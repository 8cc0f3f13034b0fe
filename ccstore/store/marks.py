"""What a collection decides on, worked out inside the index: which objects stay, and which realisations.

Sets of rows are temporary tables of their numbers, so neither objects nor realisations ever become values of
Python's all at once: a store of a million objects is marked in the memory that their numbers take. Only a collection
has such tables, and there is one at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from ccstore.model.realisation import OutputId
from ccstore.store.database import OUTPUT, TIDY, Database

_TABLES = {
    "named": "base TEXT PRIMARY KEY",
    "recorded": "place INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE",  # in the order of their being found
    "stays": "id INTEGER PRIMARY KEY",
    "kept": "id INTEGER PRIMARY KEY",  # derivations
}
# from the outputs that were found last
_FOLLOW = """INSERT OR IGNORE INTO temp.recorded (id)
    SELECT input FROM temp.recorded CROSS JOIN edges ON output = recorded.id WHERE place > ?"""
_STAY = """INSERT OR IGNORE INTO temp.stays SELECT object FROM outputs
    WHERE object IS NOT NULL AND id IN (SELECT id FROM temp.recorded)"""
_ABSENT = """INSERT OR IGNORE INTO temp.named SELECT base FROM outputs
    WHERE base IS NOT NULL AND object IS NULL AND +id IN (SELECT id FROM temp.recorded)"""
_BARE = """INSERT OR IGNORE INTO temp.recorded (id)
    SELECT id FROM outputs WHERE object IN (SELECT id FROM temp.stays) AND id NOT IN (SELECT id FROM temp.recorded)
    UNION ALL SELECT id FROM outputs WHERE base IN (SELECT base FROM temp.named)"""
_KEPT = """INSERT OR IGNORE INTO temp.kept SELECT derivation FROM outputs
    WHERE base IS NOT NULL AND id IN (SELECT id FROM temp.recorded)"""
_DEAD = "id NOT IN (SELECT id FROM temp.stays)"
_BY_AGE = f"SELECT id, base, registered FROM objects WHERE {_DEAD} ORDER BY registered, id"  # noqa: S608
_LOST = """SELECT outputs.id FROM derivations CROSS JOIN outputs ON outputs.derivation = derivations.id
    WHERE derivations.id NOT IN (SELECT id FROM temp.kept) AND base IS NOT NULL
    AND (object IS NULL OR object NOT IN (SELECT id FROM temp.stays))"""
_STAYING = """SELECT name FROM derivations WHERE id IN (SELECT id FROM temp.kept
    UNION SELECT derivation FROM outputs WHERE object IN (SELECT id FROM temp.stays))"""
_STAYS = """SELECT 1 FROM objects WHERE base = :base AND id IN (SELECT id FROM temp.stays)
    UNION SELECT 1 FROM temp.named WHERE base = :base"""
_FORGET_RECORDS = (f"UPDATE outputs SET base = NULL, object = NULL WHERE id IN ({_LOST})", *TIDY)  # noqa: S608
_FORGET_OBJECTS = (
    "UPDATE outputs SET object = NULL WHERE object NOT IN (SELECT id FROM temp.stays)",
    "DELETE FROM objects WHERE id NOT IN (SELECT id FROM temp.stays)",
    "DELETE FROM files WHERE object NOT IN (SELECT id FROM objects)",
)


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
        """Begins with base names that are live and realisations that roots name; again, it adds what is new."""
        with self._database.connected() as connection:
            connection.executemany("INSERT OR IGNORE INTO temp.named VALUES (?)", ((name,) for name in names))
            connection.execute(
                "INSERT OR IGNORE INTO temp.stays"
                " SELECT id FROM objects WHERE base IN (SELECT base FROM temp.named)"
            )
            connection.executemany(f"INSERT OR IGNORE INTO temp.recorded (id) {OUTPUT}", list(roots))
            followed = _follow(connection, 0)
            if keep_inputs:
                connection.execute(_STAY)
                connection.execute(_ABSENT)
            connection.execute(_BARE)
            _follow(connection, followed)
            # all outputs of a derivation or none: one that is not known would be built anew, and with it the others
            connection.execute(_KEPT)

    def dead(self) -> Iterator[str]:
        """Base names of objects that do not stay."""
        return self._database.bases(_DEAD)

    def by_age(self) -> Iterator[tuple[int, str, int]]:
        """The same, those registered first coming first: the row's number, the base name and when."""
        return cast(Iterator[tuple[int, str, int]], self._database.stream(_BY_AGE))

    def spare(self, numbers: Iterable[int]) -> None:
        """These objects stay, although they are dead."""
        with self._database.connected() as connection:
            connection.executemany("INSERT INTO temp.stays VALUES (?)", ((number,) for number in numbers))

    def lost(self) -> int:
        """How many realisations go."""
        [[count]] = self._database.stream(f"SELECT count(*) FROM ({_LOST})")  # noqa: S608
        return int(str(count))

    def named(self) -> set[str]:
        """Base names that are live, whether or not an object has them."""
        return {str(base) for [base] in self._database.stream("SELECT base FROM temp.named")}

    def stays(self, base: str) -> bool:
        """Whether an object is there afterwards."""
        with self._database.connected() as connection:
            return connection.execute(_STAYS, {"base": base}).fetchone() is not None

    def logs(self) -> Iterator[str]:
        """Names of the logs of derivations of which realisations stay."""
        return (f"{each}.zst" for [each] in self._database.stream(_STAYING))

    def forget(self, *, objects: bool) -> None:
        """Takes out of the index all that goes, in one transaction; `objects`: whether any of these do."""
        with self._database.transaction() as connection:
            for statement in (*_FORGET_RECORDS, *(_FORGET_OBJECTS if objects else ())):
                connection.execute(statement)


def _follow(connection: sqlite3.Connection, followed: int) -> int:
    """Adds what was found after the first `followed` to be found was made from; returns how many are found then."""
    while True:
        [found] = connection.execute("SELECT coalesce(max(place), 0) FROM temp.recorded").fetchone()
        if found == followed:
            return followed
        connection.execute(_FOLLOW, (followed,))
        followed = found
