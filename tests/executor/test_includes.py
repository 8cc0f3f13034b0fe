"""Which new names make a compile cache begin anew."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from ccstore.executor.includes import includable
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry, Manifest

TREE = ("include/a.h", "lib/print.c", "lib/Makefile", "arch/head.S")


@dataclass(frozen=True)
class Names:
    """A tree of which only the names are looked at."""

    names: tuple[str, ...]

    @property
    def nar_hash(self) -> Sha256:
        return Sha256.of(b"")

    @property
    def path(self) -> Path:
        return Path()

    def entries(self) -> Manifest:
        yield Entry("", "directory")
        yield from (Entry(name, "symlink" if name.endswith("link.h") else "file") for name in self.names)

    def open(self, path: str) -> BinaryIO:
        return BytesIO()


@pytest.mark.parametrize(
    ("new", "same"),
    [
        ("drivers/new.c", True),
        ("drivers/Makefile", True),
        ("Documentation/new.rst", True),
        ("arch/a.h", False),
        ("include/new.h", False),
        ("include/link.h", False),
        ("lib/table.inc", False),
        ("drivers/print.c", False),  # another of that name
    ],
)
def test_a_new_name(new: str, same: bool) -> None:
    before = includable({"tree": Names(TREE)})
    assert (includable({"tree": Names((*TREE, new))}) == before) is same


def test_where_a_header_lies_counts_and_their_order_does_not() -> None:
    before = includable({"tree": Names(TREE)})
    assert includable({"tree": Names(TREE[::-1])}) == before
    assert includable({"tree": Names((*TREE[1:], "lib/a.h"))}) != before
    assert includable({"other": Names(TREE)}) != before
