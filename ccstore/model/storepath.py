"""Store paths: names of store objects, equal to the ones that Nix computes (DESIGN, rule 1).

Source: Nix manual, "Store path", the case `source` (content added recursively, SHA-256, no references).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from ccstore.model import nix32
from ccstore.model.hashes import Sha256

LOGICAL_STORE = "/nix/store"
_NAME = re.compile(r"(?!\.\.?(?:-|$))[0-9A-Za-z+\-._?=]{1,211}")


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """`<hash>-<name>`: 160 bits in nix-base32, and a name."""

    hash: str
    name: str

    @classmethod
    def of_content(cls, name: str, nar_hash: Sha256) -> StorePath:
        """The path of the content whose NAR hashes to `nar_hash`. Raises ValueError for a bad name."""
        check_name(name)
        text = f"source:sha256:{nar_hash.hex}:{LOGICAL_STORE}:{name}"
        folded = bytearray(20)
        for i, byte in enumerate(hashlib.sha256(text.encode()).digest()):
            folded[i % 20] ^= byte
        return cls(nix32.encode(bytes(folded)), name)

    @classmethod
    def parse(cls, text: str) -> StorePath:
        """Reads a base name or any path that ends in one; raises ValueError."""
        base = text.rstrip("/").rpartition("/")[2]
        digest, dash, name = base.partition("-")
        if not dash:
            raise ValueError(f"{text!r} is not <hash>-<name>")
        nix32.decode(digest, 20)
        check_name(name)
        return cls(digest, name)

    @property
    def base(self) -> str:
        return f"{self.hash}-{self.name}"

    @property
    def logical(self) -> str:
        """The path as Nix names it, wherever this store is."""
        return f"{LOGICAL_STORE}/{self.base}"

    def __str__(self) -> str:
        return self.base


def check_name(name: str) -> None:
    """Raises ValueError if Nix would not take `name` for an object."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a store object: 1 to 211 of A-Z a-z 0-9 + - . _ ? = are allowed"
        )
