"""What exactly is wrong with an object: every difference to its manifest, by name, and the hash of all of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import xxhash

from ccstore.codec import nar
from ccstore.model.objects import Entry
from ccstore.store.canonical import FOLDER_MODE, MTIME_NS, file_mode

Difference = tuple[Literal["content", "metadata"], Path, str]


def differences(place: Path, entries: list[Entry]) -> Iterator[Difference]:
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
    if status.st_mtime_ns != MTIME_NS:
        yield "metadata", where, "its modification time was changed"
    if entry.type == "symlink":
        target = os.readlink(where)  # noqa: PTH115
        if target != entry.target:
            yield "content", where, f"it points to {target!r} and not to {entry.target!r}"
        return
    wanted = file_mode(entry.executable) if entry.type == "file" else FOLDER_MODE
    mode = stat.S_IMODE(status.st_mode)
    if mode != wanted:
        yield "metadata", where, f"its mode is {mode:04o} and was {wanted:04o}"
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
