"""Compressions: round trips, damage, streams of several parts, and what would eat the memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ccstore.codec.compression import MAX_WINDOW, SUFFIXES, compressor, decompressed
from ccstore.errors import CcError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "gzip": gzip.compress,
}


def read_all(data: bytes, method: str, piece: int = 1 << 16) -> bytes:
    stream = decompressed(io.BytesIO(data), method)
    found = b""
    while part := stream.read(piece):
        assert len(part) <= piece
        found += part
    return found


@given(
    st.lists(st.binary(max_size=2000), max_size=4), st.sampled_from(sorted(SUFFIXES)), st.integers(1, 5000)
)
def test_round_trip(parts: list[bytes], method: str, piece: int) -> None:
    stream = compressor(method)
    packed = b"".join(stream.compress(part) for part in parts) + stream.flush()
    assert read_all(packed, method, piece) == b"".join(parts)


@pytest.mark.parametrize("method", PACKERS)
def test_parts_one_after_the_other_are_one_stream(method: str) -> None:
    parts = [os.urandom(300_000), b"x" * 300_000, b"end"]
    assert read_all(b"".join(map(PACKERS[method], parts)), method) == b"".join(parts)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_threads_make_the_same_whatever_their_number(threads: int) -> None:
    data = b"".join(os.urandom(1000) * 5 for _ in range(2000))
    stream = compressor("zstd", 3, threads)
    packed = stream.compress(data) + stream.flush()
    assert read_all(packed, "zstd") == data


@given(st.sampled_from([each for each in PACKERS if each != "none"]), st.data())
def test_damage_is_one_error_or_other_bytes(method: str, data: st.DataObject) -> None:
    """What a compression does not notice, the hash of the NAR does."""
    packed = PACKERS[method](b"some text " * 500 + bytes(range(256)) * 5)
    at = data.draw(st.integers(0, len(packed)))
    damaged = (
        packed[:at] + data.draw(st.binary(max_size=20)) + packed[data.draw(st.integers(at, len(packed))) :]
    )
    with suppress(CcError):
        read_all(damaged, method)


@pytest.mark.parametrize("method", [each for each in PACKERS if each != "none"])
def test_what_is_not_compressed_is_refused(method: str) -> None:
    with pytest.raises(CcError) as caught:
        read_all(b"garbage" * 100, method)
    assert caught.value.code == "nar-invalid"


def test_an_unknown_compression_is_named() -> None:
    with pytest.raises(CcError, match="'br'") as caught:
        decompressed(io.BytesIO(b""), "br")
    assert "zstd" in str(caught.value.hint)


@pytest.mark.parametrize("method", [each for each in PACKERS if each != "none"])
def test_a_bomb_is_read_in_pieces(method: str) -> None:
    bomb = PACKERS[method](bytes(40 << 20))
    stream = decompressed(io.BytesIO(bomb), method)
    tracemalloc.start()
    try:
        total = 0
        while part := stream.read(1 << 18):
            total += len(part)
        assert total == 40 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_stream_that_wants_too_much_memory_is_refused() -> None:
    window = zstandard.ZstdCompressionParameters.from_level(3, window_log=MAX_WINDOW.bit_length())
    packer = zstandard.ZstdCompressor(compression_params=window).compressobj()
    greedy = packer.compress(os.urandom(1000)) + packer.flush()
    with pytest.raises(CcError) as caught:
        read_all(greedy, "zstd")
    assert caught.value.code == "nar-invalid"
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    with pytest.raises(CcError) as caught:
        read_all(lzma.compress(b"x", filters=filters), "xz")
    assert caught.value.code == "nar-invalid"
