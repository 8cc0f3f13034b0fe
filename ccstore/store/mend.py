"""Damage that a store can undo by itself, before anything is fetched or built again."""

from __future__ import annotations

from pathlib import Path

from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import files
from ccstore.store.damage import Damage
from ccstore.store.failures import explained
from ccstore.store.rebuild import settle
from ccstore.store.store import Store

_CONTENT = ("missing", "content")
_SETTLED = ("metadata", "manifest")


def mend(store: Store, found: list[Damage], fault: Fault = no_fault) -> list[Damage]:
    """Undoes what it can of `found` and returns the rest.

    Changed modes and times and lost manifests of objects whose content is right are put right in place (every
    byte is hashed again); objects that are whole and not registered are taken in; realisations that are lost are
    forgotten, with those of the same build, so that they are made anew; an index that says something else than the
    files is made again from them, and a record of checks that cannot be read is removed. A derivation that a
    realisation is of can only be written down by whoever has its recipe. Raises `read-only-store`, `disk-full`.
    """
    store.require_writable()
    with explained(store.root), store.gc_lock.exclusive():
        lost = {each.path for each in found if each.kind in _CONTENT}
        hurt = {each.path for each in found if each.kind in _SETTLED and each.path and each.path not in lost}
        settled = {path for path in sorted(hurt) if _settled(store, path, fault)}
        left = [each for each in found if not _undone(store, each, settled, fault)]
    if any(each.kind == "index" for each in left):
        store.rebuild_index()
        fault("index")
    return [each for each in left if each.kind != "index"]


def forgotten(found: list[Damage]) -> set[str]:
    """The derivations whose realisations `mend` forgets."""
    named = (_derivation(each.file) for each in found if each.kind == "realisation")
    return {each for each in named if each}


def _settled(store: Store, path: StorePath, fault: Fault) -> bool:
    header = settle(store.layout, path)
    fault("settle")
    if header:
        store.database.add_object(header)
    return header is not None


def _undone(store: Store, damage: Damage, settled: set[StorePath], fault: Fault) -> bool:
    if damage.kind in _SETTLED:
        return damage.path in settled
    if damage.kind in ("stray", "leftover"):
        return _taken_in(store, damage.file)
    if damage.kind == "derivation":
        files.remove(damage.file)
        return all(each.derivation != damage.file.name for each in store.database.facts())
    if damage.kind == "check":
        files.remove(damage.file)
        fault("check")
        return True
    if damage.kind != "realisation":
        return False
    _forget(store, damage.file)
    fault("forget")
    return True


def _taken_in(store: Store, file: Path) -> bool:
    """Registers what lies under the name of an object, if its content is what the name says."""
    if file.parent != store.layout.objects:
        return True  # a record: the next collection or rebuild reads it
    try:
        path = StorePath.parse(file.name)
    except ValueError:
        return False
    header = settle(store.layout, path)
    if header:
        store.database.add_object(header)
    return header is not None


def _derivation(realisation: Path) -> str | None:
    """The derivation that a file in `realisations/` is about, if its name says so."""
    try:
        return OutputId.parse(realisation.name.removesuffix(".json")).derivation
    except ValueError:
        return None


def _forget(store: Store, realisation: Path) -> None:
    """Removes a realisation, and those of its derivation's other outputs, which are worth nothing without it."""
    derivation = _derivation(realisation)
    known = [each for each in store.database.facts() if each.derivation == derivation]
    store.database.remove([], known)
    for each in known:
        files.remove(store.layout.realisation(each))
    files.remove(realisation)
