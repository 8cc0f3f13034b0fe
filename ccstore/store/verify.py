"""Integrity: every object, manifest, realisation, derivation and root is looked at; damage never stops the search.

A plain run compares each object with its manifest: names, types, modes, times, sizes and the XXH3-128 of every
file. `full` also computes the SHA-256 of the NAR again, which nobody can forge.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xxhash

from ccstore.codec import nar
from ccstore.errors import CcError
from ccstore.events import Finished, Progressed, Sink, Started, ignore
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry
from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.store import locks, manifest, roots
from ccstore.store.canonical import FOLDER_MODE, MTIME_NS, file_mode
from ccstore.store.layout import TRASH_PREFIX
from ccstore.store.manifest import Header
from ccstore.store.rebuild import realisation_files
from ccstore.store.store import Store

Kind = Literal["missing", "content", "metadata", "manifest", "stray", "realisation", "derivation", "root"]
TARGET = "verify"


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong. `path` is the object that it concerns, if it concerns one; `file` where it is.

    missing: registered and not there; content, metadata: other bytes or names, other modes or times; manifest:
    missing or unreadable; stray: in `objects/` and not registered, to be taken in or removed; realisation,
    derivation, root: the file cannot be read, or a root's object is not there.
    """

    kind: Kind
    file: Path
    message: str
    path: StorePath | None = None


def verify(store: Store, full: bool = False, sink: Sink = ignore) -> list[Damage]:
    """Everything that is wrong in `store`. Raises `disk-full` and such only for the index."""
    begun = time.monotonic()
    sink(Started(TARGET, "verify"))
    damage: list[Damage] = []
    headers = store.database.objects()
    for number, header in enumerate(headers, 1):
        found = list(check_object(store, header, full))
        # a collection may have deleted it meanwhile
        if found and store.database.object(header.info.path) is not None:
            damage += found
        sink(Progressed(TARGET, number, len(headers), "objects"))
    damage += _strays(store)
    damage += _records(store)
    damage += _roots(store)
    sink(Finished(TARGET, "verify", time.monotonic() - begun))
    return damage


def check_object(store: Store, header: Header, full: bool) -> Iterator[Damage]:
    """What is wrong with one registered object."""
    path = header.info.path
    place = store.layout.object(path)
    if not os.path.lexists(place):
        yield Damage("missing", place, "the object is registered and not there", path)
        return
    try:
        yield from _compare_with_manifest(store, header, place)
        if full:
            yield from _compare_hash(header.info.nar_hash, place, path)
    except OSError as error:
        yield Damage("content", Path(error.filename or place), f"cannot be read: {error.strerror}", path)


def _compare_with_manifest(store: Store, header: Header, place: Path) -> Iterator[Damage]:
    path = header.info.path
    file = store.layout.manifest(path)
    try:
        if manifest.read_header(file).info != header.info:
            raise ValueError("it is about another object")
        entries = list(manifest.read_entries(file))
    except (OSError, ValueError) as error:
        yield Damage("manifest", file, f"the manifest cannot be used: {error}", path)
        return
    for kind, where, message in _differences(place, entries):
        yield Damage(kind, where, message, path)


def _compare_hash(wanted: Sha256, place: Path, path: StorePath) -> Iterator[Damage]:
    try:
        got, _ = nar.nar_hash(place)
    except CcError as error:
        yield Damage("content", Path(error.where or place), error.message, path)
        return
    if got != wanted:
        yield Damage("content", place, f"its NAR hash is {got.sri}, registered is {wanted.sri}", path)


Difference = tuple[Kind, Path, str]


def _differences(place: Path, entries: list[Entry]) -> Iterator[Difference]:
    names: dict[str, set[str]] = {}
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        names.setdefault(folder, set()).add(name)
        where = place / entry.path if entry.path else place
        try:
            yield from _compare_entry(where, entry)
        except FileNotFoundError:
            yield "content", where, "it is not there"
        except OSError as error:
            yield "content", where, f"it cannot be read: {error.strerror}"
    for entry in entries:
        if entry.type == "directory":
            yield from _additions(place / entry.path, names.get(entry.path, set()))


def _additions(folder: Path, known: set[str]) -> Iterator[Difference]:
    if folder.is_dir() and not folder.is_symlink():
        for name in sorted(set(os.listdir(folder)) - known):
            yield "content", folder / name, "it was added"


def _compare_entry(where: Path, entry: Entry) -> Iterator[Difference]:
    status = os.lstat(where)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "special file")
    if kind != entry.type:
        yield "content", where, f"it is a {kind} and was a {entry.type}"
        return
    if entry.type == "symlink":
        target = os.readlink(where)  # noqa: PTH115
        if target != entry.target:
            yield "content", where, f"it points to {target!r} and not to {entry.target!r}"
        return
    wanted = file_mode(entry.executable) if entry.type == "file" else FOLDER_MODE
    mode = stat.S_IMODE(status.st_mode)
    if mode != wanted:
        yield "metadata", where, f"its mode is {mode:04o} and was {wanted:04o}"
    if status.st_mtime_ns != MTIME_NS:
        yield "metadata", where, "its modification time was changed"
    if entry.type == "file":
        yield from _compare_content(where, status.st_size, entry)


def _compare_content(where: Path, size: int, entry: Entry) -> Iterator[Difference]:
    if size != entry.size:
        yield "content", where, f"it has {size} bytes and had {entry.size}"
    elif _xxh3(where) != entry.xxh3:
        yield "content", where, "its content was changed"


def _xxh3(file: Path) -> bytes:
    state = xxhash.xxh3_128()
    descriptor = os.open(file, nar.READ)
    try:
        while data := os.read(descriptor, nar.CHUNK):
            state.update(data)
    finally:
        os.close(descriptor)
    return bytes(state.digest())


def _strays(store: Store) -> list[Damage]:
    """Under the lock, so that nothing is between its place and its registration."""
    if not store.writable:
        return _list_strays(store)
    with locks.gc_exclusive(store.layout.gc_lock):
        return _list_strays(store)


def _list_strays(store: Store) -> list[Damage]:
    registered = {header.info.path.base for header in store.database.objects()}
    names = sorted(os.listdir(store.layout.objects))
    message = (
        "it is not registered: `ccstore verify --repair` takes in what is whole, `ccstore gc` removes it"
    )
    return [
        Damage("stray", store.layout.objects / name, message)
        for name in names
        if name not in registered and not name.startswith((".tmp-", TRASH_PREFIX))
    ]


def _records(store: Store) -> Iterator[Damage]:
    for file in realisation_files(store.layout):
        try:
            store.realisations.get(OutputId.parse(file.name.removesuffix(".json")))
        except (CcError, ValueError) as error:
            yield Damage("realisation", file, str(error))
    for file in sorted(store.layout.derivations.iterdir()):
        try:
            if not file.name.startswith("."):
                store.realisations.derivation(file.name)
        except CcError as error:
            yield Damage("derivation", file, error.message)


def _roots(store: Store) -> Iterator[Damage]:
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
