"""Whether the index, the records and the roots agree with one another and with what lies in `objects/`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.model.realisation import OutputId, Realisation
from ccstore.model.storepath import StorePath
from ccstore.store import realisations, roots
from ccstore.store.damage import Damage
from ccstore.store.database import Fact
from ccstore.store.layout import STAGING_PREFIX, TRASH_PREFIX
from ccstore.store.store import Store


def audit_index(store: Store) -> Iterator[Damage]:
    file = store.layout.index
    if store.index_was_lost:
        yield Damage("index", file, "it was lost, and has been made again from the store's files")
    try:
        store.database.check()
    except CcError as error:
        yield Damage("index", file, error.message)
        return
    if not store.database.is_consistent():
        yield Damage("index", file, "its rows do not belong together")


@dataclass(frozen=True, slots=True)
class _Moment:
    """What there was while nobody wrote: names that are not registered, what the index knows, names of records."""

    strangers: list[str]
    facts: Mapping[OutputId, Fact]
    realisations: list[Path]
    derivations: set[str]


def audit_records(store: Store) -> Iterator[Damage]:
    """Objects that are not registered, realisations, derivations, roots."""
    alone: AbstractContextManager[None] = contextlib.nullcontext()
    with store.gc_lock.exclusive() if store.writable else alone:
        moment = _look(store)
    yield from _strangers(store, moment.strangers)
    yield from _realisations(store, moment)
    yield from _derivations(store, moment.derivations)
    yield from _checks(store)
    yield from _roots(store, moment.facts)


def _look(store: Store) -> _Moment:
    registered = {header.info.path.base for header in store.database.objects()}
    names = sorted(set(os.listdir(store.layout.objects)) - registered)
    return _Moment(
        [name for name in names if not name.startswith((STAGING_PREFIX, TRASH_PREFIX))],
        store.database.facts(),
        realisations.record_files(store.layout),
        {name for name in os.listdir(store.layout.derivations) if not name.startswith(".")},
    )


def _strangers(store: Store, names: list[str]) -> Iterator[Damage]:
    for name in names:
        place = store.layout.objects / name
        if is_named_by_content(place):
            yield Damage("leftover", place, "it is whole and not registered: `ccstore gc` removes it")
        elif os.path.lexists(place):
            yield Damage("stray", place, "it is no object of this store: `ccstore gc` removes it")


def is_named_by_content(place: Path) -> bool:
    """Whether what lies at `place` has the name of its content, as objects have. Raises OSError."""
    try:
        path = StorePath.parse(place.name)
        return StorePath.of_content(path.name, nar.nar_hash(place)[0]) == path
    except (ValueError, CcError, FileNotFoundError):
        return False


def _realisations(store: Store, moment: _Moment) -> Iterator[Damage]:
    missing = moment.facts.keys() - {_output(file) for file in moment.realisations}
    for each in sorted(missing):
        yield Damage("realisation", store.layout.realisation(each), "it is not there")
    derivations = {each.derivation for each in moment.facts}
    for file in moment.realisations:
        try:
            found = realisations.read(file)
        except FileNotFoundError:
            continue  # collected meanwhile
        except ValueError as error:
            yield Damage("realisation", file, f"the realisation cannot be read: {error}")
            continue
        yield from _compare_with_fact(store, file, found, moment.facts.get(found.id))
        if found.origin == "substituted":  # a cache need not have the derivation
            derivations.discard(found.id.derivation)
    for derivation in sorted(derivations - moment.derivations):
        yield Damage("derivation", store.layout.derivation(derivation), "it is not there")


def _output(file: Path) -> OutputId | None:
    try:
        return OutputId.parse(file.name.removesuffix(".json"))
    except ValueError:
        return None


def _compare_with_fact(store: Store, file: Path, found: Realisation, fact: Fact | None) -> Iterator[Damage]:
    if fact is None:
        yield Damage("leftover", file, "it is whole and not in the index yet: `ccstore gc` puts it there")
    elif (fact.base, set(fact.inputs)) != (found.object.path.base, set(found.inputs)):
        yield Damage("index", store.layout.index, f"it says something else of {found.id}")


def _derivations(store: Store, names: set[str]) -> Iterator[Damage]:
    for name in sorted(names):
        try:
            store.realisations.derivation(name)
        except CcError as error:
            yield Damage("derivation", store.layout.derivation(name), error.message)


def _checks(store: Store) -> Iterator[Damage]:
    folder = store.layout.checks
    for file in (
        sorted(folder.iterdir()) if folder.is_dir() else ()
    ):  # an older store that is read-only has none
        try:
            if not file.name.startswith("."):
                store.checks.read(OutputId.parse(file.name.removesuffix(".json")))
        except FileNotFoundError:  # collected meanwhile
            continue
        except ValueError as error:
            yield Damage("check", file, f"the record of checks cannot be read: {error}")


def _roots(store: Store, facts: Mapping[OutputId, Fact]) -> Iterator[Damage]:
    for file in roots.root_files(store.layout.roots):
        try:
            root = roots.read(file)
        except CcError as error:
            yield Damage("root", file, error.message)
            continue
        except FileNotFoundError:  # removed meanwhile
            continue
        if not store.objects.has(root.path):
            yield Damage("root", file, f"its object {root.path.base} is not there", root.path)
        needed = root.realisation
        if needed and needed not in facts and not store.layout.realisation(needed).exists():
            yield Damage("root", file, f"its realisation {needed} is not there", root.path)
