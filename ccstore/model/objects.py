"""What is known of a store object: its path, its size, and what each of its files holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ccstore.model.hashes import Sha256
from ccstore.model.storepath import StorePath


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A registered object. `nar_size` is the length of its NAR in bytes."""

    path: StorePath
    nar_hash: Sha256
    nar_size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or link of an object, as its manifest keeps it.

    `path` is relative and "" for the object itself. `size` is in bytes; `sha256` and `xxh3` (XXH3-128, big-endian
    bytes) are those of a file's content and empty otherwise; `target` is a link's text. Names are decoded with
    surrogateescape, so that every byte string survives.
    """

    path: str
    type: Literal["file", "directory", "symlink"]
    executable: bool = False
    size: int = 0
    sha256: bytes = b""
    xxh3: bytes = b""
    target: str = ""


Manifest = Iterator[Entry]  # in NAR order: a folder before what is in it, names sorted as raw bytes
