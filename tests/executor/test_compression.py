"""Builds on a service that takes and gives compressed blobs: buildbox-casd behind a proxy that offers zstd."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccstore.codec.rechannel import Remote
from ccstore.executor.remote import RemoteExecutor
from tests.cluster.proxy import Traffic, proxy
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
