"""Compression for a service that has none: what a proxy in front of it does, so that the service sees plain blobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import zstandard

from ccstore.codec.reapi import IDENTITY, ZSTD, message
from tests.cluster.proxy import Ask

_PIECE = 1 << 20


def offers_zstd(method: str, requests: Iterator[bytes], ask: Ask) -> Iterable[bytes]:
    """A `Respond` that offers zstd for streams and for batches that are sent."""
    if method == "GetCapabilities":
        return map(_offered, ask(requests))
    if method == "BatchUpdateBlobs":
        return ask(map(_plain_batch, requests))
    if method == "Write":
        return ask(_plain_write(requests))
    if method == "Read":
        return _packed(requests, ask)
    return ask(requests)


def _offered(answer: bytes) -> bytes:
    found = message("ServerCapabilities").FromString(answer)
    found.cache_capabilities.supported_compressors.append(ZSTD)
    found.cache_capabilities.supported_batch_update_compressors.append(ZSTD)
    return _bytes(found)


def _plain_batch(request: bytes) -> bytes:
    batch = message("BatchUpdateBlobsRequest").FromString(request)
    for each in batch.requests:
        assert each.compressor == ZSTD
        each.data, each.compressor = zstandard.ZstdDecompressor().decompress(each.data), IDENTITY
    return _bytes(batch)


def _plain_write(requests: Iterator[bytes]) -> Iterator[bytes]:
    make, offset = message("google.bytestream.WriteRequest"), 0
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    for each in map(make.FromString, requests):
        name = _plain_name(each.resource_name)
        for piece in _pieces(unpacker.decompress(each.data) if each.data else b""):
            yield _bytes(make(resource_name=name, write_offset=offset, data=piece))
            offset += len(piece)
        if each.finish_write:
            yield _bytes(make(resource_name=name, write_offset=offset, finish_write=True))


def _packed(requests: Iterator[bytes], ask: Ask) -> Iterator[bytes]:
    request = message("google.bytestream.ReadRequest").FromString(next(requests))
    if "compressed-blobs/zstd/" not in request.resource_name:
        yield from ask([_bytes(request)])
        return
    make, packer = message("google.bytestream.ReadResponse"), zstandard.ZstdCompressor().compressobj()
    request.resource_name = _plain_name(request.resource_name)
    for each in map(make.FromString, ask([_bytes(request)])):
        if data := packer.compress(each.data):
            yield _bytes(make(data=data))
    yield _bytes(make(data=packer.flush()))


def _plain_name(name: str) -> str:
    assert "compressed-blobs/zstd/" in name
    return name.replace("compressed-blobs/zstd/", "blobs/")


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + _PIECE] for at in range(0, len(data), _PIECE))


def _bytes(value: Any) -> bytes:
    return bytes(value.SerializeToString())
