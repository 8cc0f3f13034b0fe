"""Looking at store objects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry, Manifest, ObjectInfo
from ccstore.model.storepath import LOGICAL_STORE, StorePath
from ccstore.store import manifest
from ccstore.store.database import Database
from ccstore.store.layout import Layout


@dataclass(frozen=True, slots=True)
class ObjectTree:
    """A registered object as a `ccstore.ports.Tree`."""

    nar_hash: Sha256
    path: Path
    _manifest: Path

    def entries(self) -> Manifest:
        """Raises CcError `object-damaged` if the manifest cannot be read."""
        return _entries(self._manifest)

    def open(self, path: str) -> BinaryIO:
        """A file of the object; "" when the object is a file. Follows no link at the end; raises OSError."""
        descriptor = os.open(self.path / path if path else self.path, os.O_RDONLY | os.O_NOFOLLOW)
        return os.fdopen(descriptor, "rb")


class Objects:
    """The objects of one store."""

    def __init__(self, layout: Layout, database: Database) -> None:
        self._layout = layout
        self._database = database

    def path(self, path: StorePath) -> Path:
        """Where the object lies, or would lie."""
        return self._layout.object(path)

    def named(self, text: str) -> StorePath | None:
        """The object that `text` means: a base name, a path as Nix names it, a path of this store, a link to one."""
        try:
            if "/" not in text:
                return StorePath.parse(text)
            here = Path(text).absolute()
            for folder in (Path(LOGICAL_STORE), self._layout.objects):
                if here.is_relative_to(folder) and here != folder:
                    return StorePath.parse(here.relative_to(folder).parts[0])
            real = here.resolve()
            return self.named(str(real)) if real != here else None
        except (ValueError, OSError):
            return None

    def has(self, path: StorePath) -> bool:
        """Registered and there. What it contains is for `verify` to say."""
        return self._database.object(path) is not None and os.path.lexists(self.path(path))

    def info(self, path: StorePath) -> ObjectInfo | None:
        """What is registered; None for an object that is not."""
        header = self._database.object(path)
        return header.info if header else None

    def registered(self, path: StorePath) -> int | None:
        """When the object was registered: unix time in seconds."""
        header = self._database.object(path)
        return header.registered if header else None

    def all(self) -> list[ObjectInfo]:
        """Every registered object, the oldest first."""
        return [header.info for header in self._database.objects()]

    def with_content(self, nar_hash: Sha256) -> ObjectInfo | None:
        """An object that is there and has this content, whatever its name."""
        for header in self._database.objects_with(nar_hash):
            if os.path.lexists(self.path(header.info.path)):
                return header.info
        return None

    def tree(self, path: StorePath) -> ObjectTree:
        """The content of a registered object; raises CcError `not-found`."""
        header = self._database.object(path)
        if header is None:
            raise not_found(path)
        return ObjectTree(header.info.nar_hash, self.path(path), self._layout.manifest(path))

    def manifest(self, path: StorePath) -> Iterator[Entry]:
        """What each file of the object holds, in NAR order. Raises CcError `not-found`, `object-damaged`."""
        return self.tree(path).entries()


def not_found(path: StorePath) -> CcError:
    return CcError(
        "not-found", f"{path.base} is not in the store", hint="`ccstore realize` makes what a target needs"
    )


def _entries(file: Path) -> Manifest:
    try:
        yield from manifest.read_entries(file)
    except (FileNotFoundError, ValueError) as error:
        raise CcError(
            "object-damaged",
            f"the object's manifest cannot be read: {error}",
            where=str(file),
            hint="`ccstore verify --repair` makes it again",
        ) from error
