"""Damage that a store can undo by itself, before anything is fetched or built again."""

from __future__ import annotations

from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.store import files, locks
from ccstore.store.failures import explained
from ccstore.store.rebuild import settle
from ccstore.store.store import Store
from ccstore.store.verify import Damage

_CONTENT = ("missing", "content")
_SETTLED = ("metadata", "manifest")


def mend(store: Store, found: list[Damage]) -> list[Damage]:
    """Undoes what it can of `found` and returns the rest.

    Changed modes and times and lost manifests of objects whose content is right are put right in place (every
    byte is hashed again); objects that are whole and not registered are taken in; realisations and derivations
    that cannot be read are removed, so that they are made anew. Raises `read-only-store`, `disk-full`.
    """
    store.require_writable()
    with explained(store.root), locks.gc_exclusive(store.layout.gc_lock):
        lost = {each.path for each in found if each.kind in _CONTENT}
        hurt = {each.path for each in found if each.kind in _SETTLED and each.path and each.path not in lost}
        settled = {path for path in hurt if settle(store.layout, path)}
        return [each for each in found if not _undone(store, each, settled)]


def _undone(store: Store, damage: Damage, settled: set[StorePath]) -> bool:
    if damage.kind in _SETTLED:
        return damage.path in settled
    if damage.kind == "stray":
        return _taken_in(store, damage.file.name)
    if damage.kind not in ("realisation", "derivation"):
        return False
    files.remove(damage.file)
    if damage.kind == "realisation":
        _forget(store, damage.file.name.removesuffix(".json"))
    return True


def _taken_in(store: Store, name: str) -> bool:
    """Registers what lies under the name of an object, if its content is what the name says."""
    try:
        path = StorePath.parse(name)
    except ValueError:
        return False
    header = settle(store.layout, path)
    if header:
        store.database.add_object(header)
    return header is not None


def _forget(store: Store, name: str) -> None:
    try:
        output = OutputId.parse(name)
    except ValueError:
        return  # the index never knew a file of this name
    store.database.remove([], [output])
