"""Builds on a service that takes and gives compressed blobs: buildbox-casd behind a proxy that offers zstd."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from ccstore.codec.reapi import message
from ccstore.codec.recas import Digest, Storage, _unpacked
from ccstore.codec.rechannel import Remote
from ccstore.codec.reclient import Client
from ccstore.errors import CcError
from ccstore.executor.remote import RemoteExecutor
from tests.cluster.proxy import Change, Traffic, proxy
from tests.cluster.zstd import offers_zstd

from .conftest import Builds

EXECUTORS = ("remote",)
SMALL, LARGE = 100_000, 5_000_000  # in a batch, and as a stream
SCRIPT = "cat /in/source/small > $out; cat /in/source/large >> $out"


@pytest.fixture
def traffic(builds: Builds, casd: str) -> Iterator[Traffic]:
    with proxy(casd, respond=offers_zstd) as (url, traffic):
        builds.executor = RemoteExecutor(Remote(url))
        yield traffic


def text(size: int, place: Path) -> str:
    """What packs well, and no other test has."""
    return (f"{place} {size}\n" * size)[:size]


def test_blobs_are_compressed_both_ways(
    builds: Builds, traffic: Traffic, blob: Callable[[str], Path]
) -> None:
    files = {"small": text(SMALL, builds.place), "large": text(LARGE, builds.place)}
    done = builds.run(SCRIPT, inputs={"source": builds.tree("source", files)})
    assert done.out() == files["small"] + files["large"]
    for each in files.values():
        assert blob(hashlib.sha256(each.encode()).hexdigest()).read_text() == each
    assert traffic.calls["Write"] >= 1
    assert traffic.calls["BatchUpdateBlobs"] >= 1
    assert traffic.calls["Read"] >= 1
    assert max(traffic.sent, traffic.received) < LARGE / 2


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_damage_is_an_integrity_error(builds: Builds, casd: str, size: int) -> None:
    """What zstd refuses, and what it cannot see: an end that is missing, another blob, far more than was promised."""
    text_ = text(size, builds.place)
    digest = Digest.of(text_.encode())
    with proxy(casd, respond=offers_zstd) as (url, _), Client(Remote(url)) as client:
        Storage(client).upload({digest: text_.encode()}, lambda: None)
        assert Storage(client).read(digest).decode() == text_
    for damage in (garbled, shortened, replaced, swollen):
        with proxy(casd, reading(damage), offers_zstd) as (url, _), Client(Remote(url)) as client:
            storage = Storage(client)
            with pytest.raises(CcError) as caught:
                storage.read(digest)
        assert (caught.value.code, caught.value.exit_status) == ("hash-mismatch", 4)


def garbled(data: bytes) -> bytes:
    return bytes(each ^ 1 for each in data)


def shortened(data: bytes) -> bytes:
    return data[: len(data) // 2]


def replaced(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(b"something else") if data else b""


def swollen(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(1 << 28)) if data else b""


def test_what_unpacks_to_very_much_takes_no_memory() -> None:
    packed = swollen(b"some")
    assert len(packed) < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(CcError) as caught:
            list(_unpacked(Digest.of(bytes(1000)), [packed]))
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert caught.value.code == "hash-mismatch"


def reading(damage: Callable[[bytes], bytes]) -> Change:
    """Damages what is read as a stream."""

    def change(method: str, answer: bytes) -> bytes:
        if method != "Read":
            return answer
        part = message("google.bytestream.ReadResponse").FromString(answer)
        part.data = damage(part.data)
        return bytes(part.SerializeToString())

    return change


def test_a_build_whose_output_comes_back_damaged(builds: Builds, casd: str) -> None:
    with proxy(casd, reading(garbled), offers_zstd) as (url, _):
        builds.executor = RemoteExecutor(Remote(url))
        with pytest.raises(CcError) as caught:
            builds.run(f"echo {builds.place} > $out")
    assert (caught.value.code, caught.value.exit_status) == ("hash-mismatch", 4)
