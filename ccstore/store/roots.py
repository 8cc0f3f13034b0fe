"""GC roots: names for what must be kept.

`roots/<project id>/<TARGET>` is one sealed line of JSON (sealed.py): format, name, path (base name of the object),
realisation (`<derivation id>^<output>` or null) and created (unix time, seconds). A root keeps its object, and with
`--keep-inputs` the objects in the closure of its realisation.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ccstore.errors import CcError
from ccstore.model.realisation import OutputId
from ccstore.model.storepath import StorePath
from ccstore.ports import Fault, no_fault
from ccstore.store import files, sealed
from ccstore.store.failures import explained
from ccstore.store.layout import Layout
from ccstore.store.locks import GcLock
from ccstore.store.objects import Objects, not_found

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*/[A-Za-z0-9][A-Za-z0-9._+^-]*")


@dataclass(frozen=True, slots=True)
class Root:
    """`created` is unix time in seconds."""

    name: str
    path: StorePath
    realisation: OutputId | None
    created: int

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "name": self.name,
                "path": self.path.base,
                "realisation": str(self.realisation) if self.realisation else None,
                "created": self.created,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Root:
        """Raises ValueError for anything that `to_json` does not write."""
        try:
            value = json.loads(text)
            if value["format"] != FORMAT:
                raise ValueError(f"root format {value['format']!r} is not known")
            realisation = value["realisation"]
            return cls(
                str(value["name"]),
                StorePath.parse(value["path"]),
                OutputId.parse(realisation) if realisation else None,
                int(value["created"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a root: {error!r}") from error


class Roots:
    """The roots of one store."""

    def __init__(self, layout: Layout, gc_lock: GcLock, objects: Objects) -> None:
        self._layout = layout
        self._gc_lock = gc_lock
        self._objects = objects

    def _file(self, name: str) -> Path:
        return self._layout.roots / checked(name)

    def add(
        self, name: str, path: StorePath, realisation: OutputId | None = None, fault: Fault = no_fault
    ) -> None:
        """Makes or replaces the root `name`. Raises `not-found` for an object that is not there."""
        file = self._file(name)
        root = Root(name, path, realisation, int(time.time()))
        with explained(self._layout.root), self._gc_lock.shared():
            if not self._objects.has(path):
                raise not_found(path)
            file.parent.mkdir(exist_ok=True)
            fault("root-folder")
            sealed.write(file, root.to_json())
            fault("root")
            files.sync_folder(self._layout.roots)

    def remove(self, name: str) -> None:
        """Raises `root-unknown`."""
        file = self._file(name)
        with explained(self._layout.root):
            try:
                file.unlink()
            except FileNotFoundError as error:
                raise CcError(
                    "root-unknown", f"there is no root {name!r}", hint="`ccstore root list` shows the roots"
                ) from error
            files.sync_folder(file.parent)

    def get(self, name: str) -> Root | None:
        """Raises `store-unusable` if it cannot be read."""
        file = self._file(name)
        return read(file) if file.exists() else None

    def list(self) -> list[Root]:
        """All roots by name. Raises `store-unusable` if one cannot be read: what it kept is not known then."""
        found: list[Root] = []
        for file in root_files(self._layout.roots):
            with contextlib.suppress(FileNotFoundError):  # removed just now
                found.append(read(file))
        return found


def checked(name: str) -> str:
    """`name`, if a root can have it; raises `name-invalid`."""
    if not _NAME.fullmatch(name):
        raise CcError(
            "name-invalid",
            f"{name!r} cannot name a root: <project>/<target> can",
            hint="such as release/kernel-6.1, of letters, digits and . _ + -",
        )
    return name


def root_files(folder: Path, project: str = "*") -> list[Path]:
    """The files of roots, or what is kept beside them, below `folder`."""
    return sorted(file for file in folder.glob(f"{project}/*") if not file.name.startswith("."))


def read(file: Path) -> Root:
    try:
        found = Root.from_json(sealed.read(file))
        if found.name != f"{file.parent.name}/{file.name}":
            raise ValueError(f"it is about {found.name}")
        return found
    except ValueError as error:
        raise CcError(
            "store-unusable",
            f"the root cannot be read: {error}",
            where=str(file),
            hint="remove the file and realize its target again",
        ) from error
