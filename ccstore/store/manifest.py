"""Manifests: what each file of an object holds, one zstd frame for each object.

    frame   = header LF { record }
    header  = JSON: format, path (base name), narHash (SRI), narSize, registered (unix time, seconds)
    record  = type (1 byte: d folder, f file, x executable file, l link), length of path (u32, little-endian),
              size (u64: of the file's content, of a link's target, 0 for a folder), path,
              then for f and x SHA-256 (32 bytes) and XXH3-128 (16 bytes), for l the target

Records come in NAR order; the first has the empty path and stands for the object itself. Header and records
suffice to make the index again.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from ccstore.model.hashes import Sha256
from ccstore.model.objects import Entry, ObjectInfo
from ccstore.model.storepath import StorePath
from ccstore.store import files

FORMAT = 1
_HEAD = struct.Struct("<cIQ")
_MAX_SIZE = 1 << 32  # bytes, decompressed; a damaged file must not eat the memory


@dataclass(frozen=True, slots=True)
class Header:
    """What a manifest says of the whole object; `registered` is unix time in seconds."""

    info: ObjectInfo
    registered: int


def folder_record(path: bytes) -> bytes:
    return _HEAD.pack(b"d", len(path), 0) + path


def link_record(path: bytes, target: bytes) -> bytes:
    return _HEAD.pack(b"l", len(path), len(target)) + path + target


def file_record(path: bytes, size: int, executable: bool, digests: bytes) -> bytes:
    """`digests` are SHA-256 and XXH3-128 of the content, one after the other."""
    return _HEAD.pack(b"x" if executable else b"f", len(path), size) + path + digests


def encode(header: Header, records: list[bytes]) -> bytes:
    info = header.info
    line = json.dumps(
        {
            "format": FORMAT,
            "path": info.path.base,
            "narHash": info.nar_hash.sri,
            "narSize": info.nar_size,
            "registered": header.registered,
        }
    )
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
        b"".join([line.encode(), b"\n", *records])
    )


def read_header(file: Path) -> Header:
    """Raises ValueError if it is no manifest, and OSError."""
    return _parse_header(_decompress(files.read(file)).readline())


def read_entries(file: Path) -> Iterator[Entry]:
    """The entries in NAR order. Raises ValueError, also midway, if it is no manifest, and OSError."""
    stream = _decompress(files.read(file))
    _parse_header(stream.readline())
    while head := stream.read(_HEAD.size):
        yield _read_record(stream, head)


def _decompress(data: bytes) -> io.BytesIO:
    try:
        return io.BytesIO(zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_SIZE))
    except zstandard.ZstdError as error:
        raise ValueError(f"not a manifest: {error}") from error


def _parse_header(line: bytes) -> Header:
    try:
        value = json.loads(line)
        if value["format"] != FORMAT:
            raise ValueError(f"manifest format {value['format']!r} is not known")
        info = ObjectInfo(
            StorePath.parse(value["path"]), Sha256.parse(value["narHash"]), int(value["narSize"])
        )
        return Header(info, int(value["registered"]))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a manifest: {error!r}") from error


def _read_record(stream: io.BytesIO, head: bytes) -> Entry:
    try:
        kind, length, size = _HEAD.unpack(head)
    except struct.error as error:
        raise ValueError(f"a manifest that is cut short: {error}") from error
    path = os.fsdecode(_exact(stream, length))
    if kind == b"d":
        return Entry(path, "directory")
    if kind == b"l":
        return Entry(path, "symlink", target=os.fsdecode(_exact(stream, size)))
    if kind not in (b"f", b"x"):
        raise ValueError(f"a manifest with an unknown type {kind!r}")
    return Entry(path, "file", kind == b"x", size, sha256=_exact(stream, 32), xxh3=_exact(stream, 16))


def _exact(stream: io.BytesIO, size: int) -> bytes:
    data = stream.read(min(size, _MAX_SIZE))
    if len(data) != size:
        raise ValueError("a manifest that is cut short")
    return data
