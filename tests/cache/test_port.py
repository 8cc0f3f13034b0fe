"""One suite for every kind of cache: files by name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.errors import CcError
from ccstore.model.hashes import Sha256
from ccstore.ports import BinaryCache, Cancel, RemoteFile
from tests.cache.conftest import EVERY_KIND, Place

pytestmark = pytest.mark.parametrize("place", EVERY_KIND, indirect=True)
LARGE = os.urandom(3 << 20)


def put(cache: BinaryCache, scratch: Path, name: str, data: bytes, *, fault: str = "") -> None:
    def stop(step: str) -> None:
        if step == fault:
            raise RuntimeError(step)

    with cache.incoming(scratch) as incoming:
        for at in range(0, len(data), 1 << 20):
            incoming.write(data[at : at + (1 << 20)])
        incoming.place(name, stop)


def remote(data: bytes) -> RemoteFile:
    return RemoteFile("nar/x", len(data), Sha256.of(data), len(data))


def download(cache: BinaryCache, file: RemoteFile, partial: Path) -> bytes:
    with cache.download(file, partial, lambda done, total: None) as stream:
        return b"".join(iter(lambda: stream.read(1 << 18), b""))


def test_small_files(cache: BinaryCache) -> None:
    assert cache.read("x.narinfo", 100) is None
    assert cache.update("x.narinfo", lambda there: b"one" if there is None else None, 100)
    assert cache.read("x.narinfo", 100) == b"one"
    assert not cache.update("x.narinfo", lambda there: None, 100)
    assert cache.update("deep/er/x", lambda there: b"new", 100)
    assert cache.update("x.narinfo", lambda there: (there or b"") + b" two", 100)
    assert cache.read("x.narinfo", 7) == b"one two"
    with pytest.raises(CcError) as caught:
        cache.read("x.narinfo", 6)
    assert caught.value.code == "cache-invalid"


def test_large_files(cache: BinaryCache, tmp_path: Path) -> None:
    partial = tmp_path / "partial"
    with pytest.raises(CcError) as caught:
        download(cache, remote(LARGE), partial)
    assert caught.value.code == "not-found"
    put(cache, tmp_path, "nar/x", LARGE)
    assert cache.read("nar/x", len(LARGE)) == LARGE
    assert cache.holds("nar/x", len(LARGE))
    assert not cache.holds("nar/x", len(LARGE) - 1)
    assert not cache.holds("nar/y", len(LARGE))
    assert download(cache, remote(LARGE), partial) == LARGE
    assert download(cache, replace(remote(LARGE), size=None, sha256=None), partial) == LARGE
    assert not partial.exists()
    put(cache, tmp_path, "nar/x", b"replaced")
    assert download(cache, remote(b"replaced"), partial) == b"replaced"


@pytest.mark.parametrize(("size", "most"), [(7, len(LARGE)), (None, 7), (len(LARGE) + 1, len(LARGE) + 1)])
def test_a_file_of_another_size_is_refused(
    cache: BinaryCache, tmp_path: Path, size: int | None, most: int
) -> None:
    put(cache, tmp_path, "nar/x", LARGE)
    with pytest.raises(CcError) as caught:
        download(cache, replace(remote(LARGE), size=size, most=most), tmp_path / "partial")
    assert caught.value.code == "cache-invalid"


def test_nothing_is_seen_before_it_is_whole(cache: BinaryCache, place: Place, tmp_path: Path) -> None:
    cache.update("x", lambda there: b"first", 100)
    for write in (
        lambda: put(cache, tmp_path, "nar/x", LARGE, fault="temporary"),
        lambda: cache.update("x", lambda there: b"second", 100, stop),
    ):
        with pytest.raises(RuntimeError):
            write()
    assert cache.read("x", 100) == b"first"
    assert not cache.holds("nar/x", len(LARGE))
    if place.folder.exists():
        assert {path.name for path in place.folder.rglob("*") if path.is_file()} == {"x"}


def stop(step: str) -> None:
    raise RuntimeError(step)


def test_what_a_killed_push_left_is_removed(place: Place, tmp_path: Path) -> None:
    if not place.url.startswith("file:"):
        return  # a server has temporary files of its own
    (place.folder / ".tmp").mkdir(parents=True)
    (place.folder / ".tmp/left").write_bytes(b"half")
    one, other = place.open(Cancel()), place.open(Cancel())
    with one.incoming(tmp_path) as incoming:
        assert not (place.folder / ".tmp/left").exists()
        incoming.write(b"living")
        put(other, tmp_path, "nar/y", b"y")
        incoming.place("nar/x")
    assert (place.folder / "nar/x").read_bytes() == b"living"


def test_an_interrupt_ends_a_download(place: Place, cache: BinaryCache, tmp_path: Path) -> None:
    if place.url.startswith("file:"):
        return  # reading a local file is not waited for
    put(cache, tmp_path, "nar/x", LARGE)
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CcError) as caught:
        download(place.open(cancel), remote(LARGE), tmp_path / "partial")
    assert caught.value.code == "interrupted"


@pytest.mark.parametrize("kept", [1, 1 << 20, len(LARGE)])
def test_a_download_goes_on_where_it_ended(
    place: Place, cache: BinaryCache, tmp_path: Path, kept: int
) -> None:
    put(cache, tmp_path, "nar/x", LARGE)
    (tmp_path / "partial").write_bytes(LARGE[:kept])
    assert download(cache, remote(LARGE), tmp_path / "partial") == LARGE
    if place.site:
        gets = [each for each in place.site.requests() if each[0] == "GET"]
        assert [each[3] for each in gets] == ([f"bytes={kept}-"] if kept < len(LARGE) else [])
