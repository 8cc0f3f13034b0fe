"""Compressed files: what they hold is compared, and their own headers."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import time
import zlib
from collections.abc import Iterator
from typing import IO, cast

import zstandard

from ccstore.compare.causes import TIME
from ccstore.compare.findings import Context, Data, Explain, Finding

LARGEST = 1 << 30  # bytes that are unpacked; what holds more is compared as it is
CHUNK = 1 << 20
OTHERWISE = "compressed otherwise"  # by another number of threads, level or version
_GZIP_TIME, _GZIP_NAME = slice(4, 8), 8  # RFC 1952; the flag FNAME


def compression(data: Data) -> str | None:
    """The name of the compression that `data` begins with."""
    magics = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
    return next((name for magic, name in magics.items() if data[: len(magic)] == magic), None)


def explain(inner: Explain) -> Explain:
    """Explains two files of one compression by what is in them, which `inner` explains."""

    def explain_layer(first: Data, second: Data, context: Context) -> Iterator[Finding]:
        name = compression(first)
        if name is None or name != compression(second):
            return
        header = list(_gzip_header(first, second, context)) if name == "gzip" else []
        yield from header
        one, other = _unpack(name, first), _unpack(name, second)
        if one is None or other is None:
            return
        if one != other:
            yield from inner(one, other, context.inside(f"{name} data"))
        elif not header:
            sizes = [f"{len(each)} bytes for the same content" for each in (first, second)]
            yield context.at(f"{name} data").found(sizes[0], sizes[1], (OTHERWISE,))

    return explain_layer


def _gzip_header(first: Data, second: Data, context: Context) -> Iterator[Finding]:
    stamps = [int.from_bytes(data[_GZIP_TIME], "little") for data in (first, second)]
    if stamps[0] != stamps[1]:
        one, other = (f"{each} ({_date(each)})" for each in stamps)
        yield context.at("gzip header", "time").found(one, other, (TIME,))
    one, other = _gzip_name(first), _gzip_name(second)
    if one != other:
        yield context.at("gzip header", "file name").found(one, other)


def _date(stamp: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(stamp))


def _gzip_name(data: Data) -> str:
    if len(data) < 10 or not data[3] & _GZIP_NAME:
        return "none"
    return data[10:266].split(b"\0")[0].decode("latin-1")


def _unpack(name: str, data: Data) -> bytes | None:
    """What `data` holds, as far as it can be read; None if that is too much, or nothing."""
    pieces: list[bytes] = []
    total = 0
    try:
        with _reader(name, data) as stream:
            while piece := stream.read(CHUNK):
                total += len(piece)
                if total > LARGEST:
                    return None
                pieces.append(piece)
    except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
        pass  # damaged, or something else follows
    return b"".join(pieces) or None


def _reader(name: str, data: Data) -> IO[bytes]:
    source = io.BytesIO(data[:])
    if name == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=source))
    if name == "xz":
        return lzma.LZMAFile(source)
    if name == "bzip2":
        return bz2.BZ2File(source)
    return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True))
