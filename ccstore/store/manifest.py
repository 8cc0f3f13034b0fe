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
_DIGESTS = 48  # bytes: SHA-256 and XXH3-128
_MAX_SIZE = 1 << 32  # bytes, decompressed; a damaged file must not eat the memory


Record = tuple[bytes, bytes, int, bytes]  # type, path, size, what follows the path


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
    return load(file)[0]


def read_entries(file: Path) -> Iterator[Entry]:
    """The entries in NAR order. Raises ValueError, also midway, if it is no manifest, and OSError."""
    for record in load(file)[1]:
        yield _entry(*record)


def load(file: Path) -> tuple[Header, Iterator[Record]]:
    """The header, and the records in NAR order. Raises as `read_entries`; an unknown type is ValueError too."""
    data = _decompress(files.read(file))
    line, newline, _ = data.partition(b"\n")
    return _parse_header(line), _records(data, len(line + newline))


def parse(records: list[bytes]) -> Iterator[Record]:
    """What `encode` is given, taken apart."""
    return _records(b"".join(records), 0)


def _decompress(data: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_SIZE)
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


def _records(data: bytes, at: int) -> Iterator[Record]:
    end = len(data)
    while at < end:
        try:
            kind, length, size = _HEAD.unpack_from(data, at)
        except struct.error as error:
            raise ValueError(f"a manifest that is cut short: {error}") from error
        start = at + _HEAD.size + length
        if kind == b"f" or kind == b"x":
            at = start + _DIGESTS
        elif kind == b"l" or kind == b"d":
            at = start + size
        else:
            raise ValueError(f"a manifest with an unknown type {kind!r}")
        if at > end:
            raise ValueError("a manifest that is cut short")
        yield kind, data[start - length : start], size, data[start:at]


def _entry(kind: bytes, path: bytes, size: int, payload: bytes) -> Entry:
    name = os.fsdecode(path)
    if kind == b"d":
        return Entry(name, "directory")
    if kind == b"l":
        return Entry(name, "symlink", target=os.fsdecode(payload))
    return Entry(name, "file", kind == b"x", size, sha256=payload[:32], xxh3=payload[32:])
