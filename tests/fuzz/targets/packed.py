"""A compressed NAR from a cache is refused as `nar-invalid`, or becomes a tree; pieces are never larger than asked.

The first byte says how it is compressed, or (in capitals) that the target compresses the rest first.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from functools import partial
from pathlib import Path

import zstandard

from ccstore.codec import nar, nar_read
from ccstore.codec.compression import decompressed
from ccstore.errors import CcError
from tests.fuzz.target import Target
from tests.fuzz.targets import nar as nar_target

METHODS = {b"n": "none", b"z": "zstd", b"x": "xz", b"b": "bzip2", b"g": "gzip"}
COMPRESS: dict[bytes, Callable[[bytes], bytes]] = {
    b"n": bytes,
    b"z": zstandard.compress,
    b"x": partial(lzma.compress, preset=0),
    b"b": bz2.compress,
    b"g": gzip.compress,
}
LIMIT = 1 << 20  # bytes that are read of a bomb


class _Bounded:
    """Passes on what `stream` gives, a megabyte of it."""

    def __init__(self, data: bytes, method: str) -> None:
        self._stream = decompressed(io.BytesIO(data), method)
        self._left = LIMIT

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(min(size, self._left))
        assert len(data) <= size, "more than was asked for"
        self._left -= len(data)
        return data


def run(data: bytes, work: Path) -> bool:
    mode = data[:1].lower() if data[:1].lower() in METHODS else b"n"
    text = COMPRESS[mode](data[1:]) if data[:1].isupper() else data[1:]
    try:
        nar_read.unpack(_Bounded(text, METHODS[mode]), work / "tree")
    except CcError as error:
        if error.code != "nar-invalid":
            raise
        return False
    nar.nar_hash(work / "tree")
    return True


_NAR = nar_target.TARGET.seeds["folder"]
TARGET = Target(
    run,
    seeds={METHODS[mode]: mode + pack(_NAR) for mode, pack in COMPRESS.items()}
    | {f"{METHODS[mode]}-inside": mode.upper() + _NAR for mode in METHODS}
    | {f"{METHODS[mode]}-bomb": mode + pack(nar.MAGIC + nar.file_head(1 << 21, False) + bytes(1 << 21))
       for mode, pack in COMPRESS.items() if mode != b"n"},
    tokens=(*nar_target.TARGET.tokens, b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9", b"\x1f\x8b\x08"),
)  # fmt: skip
