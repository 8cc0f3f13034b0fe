"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccstore.model.storepath import StorePath

Kind = Literal[
    "missing",
    "content",
    "metadata",
    "manifest",
    "index",
    "stray",
    "leftover",
    "realisation",
    "derivation",
    "check",
    "root",
]

# of an object: it is whole again once it was made or fetched anew
REPAIRABLE: tuple[Kind, ...] = ("missing", "content", "metadata", "manifest")


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong. `path` is the object that it concerns, if it concerns one; `file` where it is.

    missing: registered and not there; content, metadata: other bytes or names, other modes or times; manifest:
    missing or unreadable; index: it was lost, or says something else than the files; stray: in `objects/` and
    nothing that could be registered; realisation, derivation, check, root: the file is not there, cannot be read, or
    what it names is not there.

    A `leftover` hurts nobody: whoever was interrupted had made it, whole, and not entered it into the index yet.
    """

    kind: Kind
    file: Path
    message: str
    path: StorePath | None = None

    @property
    def hurts(self) -> bool:
        return self.kind != "leftover"
