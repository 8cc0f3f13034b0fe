"""The files of a leaf (a config fragment, a folder of patches), wherever they can still be had."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_IXUSR
from typing import Literal

from ccstore.build.lineage import files_below
from ccstore.model.objects import Entry
from ccstore.model.storepath import StorePath
from ccstore.store.store import Store

LONGEST = 4 << 20  # bytes of a file that is looked into


@dataclass(frozen=True, slots=True)
class File:
    """`digest` tells whether the content of two is the same; `size` is in bytes; `read` gives all of it."""

    digest: str
    size: int
    read: Callable[[], bytes]
    kind: Literal["file", "executable", "link"] = "file"

    def text(self) -> str | None:
        """Its text with surrogates for what is not UTF-8; None of a very long one."""
        return self.read().decode(errors="surrogateescape") if self.size <= LONGEST else None


Files = Mapping[str, File]  # by relative path; "" if the leaf is a file itself


def of_texts(texts: Mapping[str, str]) -> Files:
    return {path: _of_bytes(text.encode(errors="surrogateescape")) for path, text in texts.items()}


def _of_bytes(data: bytes) -> File:
    return File(hashlib.sha256(data).hexdigest(), len(data), lambda: data)


def of_place(place: Path) -> Files:
    """A file or folder of the host as it is now; links by their text. Raises OSError."""
    return {
        "" if path == place else str(path.relative_to(place)): _of_path(path) for path in files_below(place)
    }


def _of_path(path: Path) -> File:
    if path.is_symlink():
        return replace(_of_bytes(os.fsencode(path.readlink())), kind="link")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return File(digest, status.st_size, path.read_bytes, _kind(executable=bool(status.st_mode & S_IXUSR)))


def _kind(*, executable: bool) -> Literal["file", "executable"]:
    return "executable" if executable else "file"


def of_object(store: Store, path: StorePath) -> Files:
    """The files of a store object, by its manifest: nothing is hashed. Raises `not-found`, `object-damaged`."""
    place = store.objects.path(path)
    return {
        entry.path: _of_entry(entry, place)
        for entry in store.objects.manifest(path)
        if entry.type != "directory"
    }


def _of_entry(entry: Entry, place: Path) -> File:
    if entry.type == "symlink":
        return replace(_of_bytes(os.fsencode(entry.target)), kind="link")
    read = (place / entry.path if entry.path else place).read_bytes
    return File(entry.sha256.hex(), entry.size, read, _kind(executable=entry.executable))
