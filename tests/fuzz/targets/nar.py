"""A NAR is refused as `nar-invalid`, or it is the one NAR of the tree that was made of it."""

from __future__ import annotations

import io
from pathlib import Path

from ccstore.codec import nar, nar_read
from ccstore.errors import CcError
from tests.fuzz.target import Target

_LINK = nar.SYMLINK + nar.string(b"../a") + nar.CLOSE


def _file(data: bytes, executable: bool = False) -> bytes:
    return nar.file_head(len(data), executable) + data + nar.file_tail(len(data))


def _folder(**entries: bytes) -> bytes:
    inside = (
        nar.ENTRY + nar.string(name.encode()) + nar.NODE + node + nar.CLOSE for name, node in entries.items()
    )
    return nar.DIRECTORY + b"".join(inside) + nar.CLOSE


def _nested(depth: int) -> bytes:
    node = _file(b"")
    for _ in range(depth):
        node = _folder(d=node)
    return node


def run(data: bytes, work: Path) -> bool:
    try:
        nar_read.unpack(io.BytesIO(data), work / "tree")
    except CcError as error:
        if error.code != "nar-invalid":
            raise
        return False
    again = io.BytesIO()
    nar.dump(work / "tree", again.write)
    assert again.getvalue() == data, "another NAR was read than there is"
    return True


TARGET = Target(
    run,
    seeds={
        "file": nar.MAGIC + _file(b"text\n"),
        "executable": nar.MAGIC + _file(b"#!/bin/sh\n", True),
        "link": nar.MAGIC + _LINK,
        "folder": nar.MAGIC + _folder(a=_file(b"1"), b=_folder(), c=_LINK, d=_folder(x=_file(b"22", True))),
        "deep": nar.MAGIC + _nested(12),
    },
    tokens=(nar.MAGIC, nar.OPEN, nar.CLOSE, nar.DIRECTORY, nar.SYMLINK, nar.REGULAR, nar.EXECUTABLE, nar.ENTRY,
            nar.NODE, nar.string(b".."), nar.string(b"."), nar.string(b"a/b"), nar.string(b""), b"\xff" * 8),
)  # fmt: skip
