"""Integrity: every object, manifest, realisation, derivation and root is looked at; damage never stops the search.

A plain run compares each object with its manifest: names, types, modes, times, sizes and the XXH3-128 of every
file. `full` also computes the SHA-256 of the NAR again, which nobody can forge. A first look (scrub.py) says which
objects are whole; only the others are gone through by name (differences.py). What the store knows besides its
objects is compared with itself (audit.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.events import Finished, Progressed, Sink, Started, ignore
from ccstore.model.storepath import StorePath
from ccstore.store import manifest, optimising
from ccstore.store.audit import audit_index, audit_records
from ccstore.store.damage import Damage
from ccstore.store.differences import differences
from ccstore.store.manifest import Header
from ccstore.store.scrub import scrub
from ccstore.store.store import Store

TARGET = "verify"


def verify(store: Store, full: bool = False, sink: Sink = ignore) -> list[Damage]:
    """Everything that is wrong in `store`. Raises `disk-full` and such only for the index."""
    begun = time.monotonic()
    sink(Started(TARGET, "verify"))
    store.watch(sink)
    damage = list(audit_index(store))
    headers = store.database.objects()
    hurt = []
    for number, (header, whole) in enumerate(scrub(store.layout, headers, full), 1):
        if not whole:
            hurt.append(header)
        sink(Progressed(TARGET, number, len(headers), "objects"))
    for header in sorted(hurt, key=headers.index):
        found = _second_look(store, header, full)
        # a collection may have deleted it meanwhile
        if found and store.database.object(header.info.path) is not None:
            damage += found
    damage += audit_records(store)
    sink(Finished(TARGET, "verify", time.monotonic() - begun))
    return damage


def _second_look(store: Store, header: Header, full: bool) -> list[Damage]:
    """What is wrong with an object while nobody replaces its files by links, which the first look may have met."""
    if not store.writable:
        return list(check_object(store, header, full))
    optimising.settle(store.layout, store.gc_lock)
    with store.gc_lock.shared():
        # asked first: it may be registered anew while it is looked for
        known = store.database.object(header.info.path) is not None
        return list(check_object(store, header, full)) if known else []


def check_object(store: Store, header: Header, full: bool) -> Iterator[Damage]:
    """What is wrong with one registered object."""
    path = header.info.path
    place = store.layout.object(path)
    if StorePath.of_content(path.name, header.info.nar_hash) != path:
        yield Damage("index", store.layout.index, f"it has another hash for {path.base}", path)
    if not os.path.lexists(place):
        yield Damage("missing", place, "the object is registered and not there", path)
        return
    try:
        yield from _compare_with_manifest(store, header, place)
        if full:
            yield from _compare_hash(path, place)
    except OSError as error:
        yield Damage("content", Path(error.filename or place), f"cannot be read: {error.strerror}", path)


def _compare_with_manifest(store: Store, header: Header, place: Path) -> Iterator[Damage]:
    path = header.info.path
    file = store.layout.manifest(path)
    try:
        info = manifest.read_header(file).info
        if info.path != path or StorePath.of_content(path.name, info.nar_hash) != path:
            raise ValueError("it is about another object")
        entries = list(manifest.read_entries(file))
    except (OSError, ValueError) as error:
        yield Damage("manifest", file, f"the manifest cannot be used: {error}", path)
        return
    if info.nar_size != header.info.nar_size:
        yield Damage("index", store.layout.index, f"it has another size for {path.base}", path)
    for kind, where, message in differences(place, entries):
        yield Damage(kind, where, message, path)


def _compare_hash(path: StorePath, place: Path) -> Iterator[Damage]:
    try:
        got, _ = nar.nar_hash(place)
    except CcError as error:
        yield Damage("content", Path(error.where or place), error.message, path)
        return
    if StorePath.of_content(path.name, got) != path:
        yield Damage("content", place, f"its NAR hash is {got.sri}, which its name does not stand for", path)
