"""A cache in a folder, where several push at once."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

import pytest

from ccstore.cache.folder import TEMPORARY, FolderCache


def test_a_push_that_sweeps_spares_the_file_that_another_one_just_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, other = FolderCache(tmp_path), FolderCache(tmp_path)
    lock, times = fcntl.flock, 0

    def sweeps_before(file: BinaryIO, operation: int) -> None:
        nonlocal times
        times += 1
        if times == 1:
            with other.incoming(tmp_path):
                pass
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweeps_before)
    with cache.incoming(tmp_path) as incoming:
        incoming.write(b"text")
        incoming.place("nar/x")
    assert times > 2
    assert (tmp_path / "nar/x").read_bytes() == b"text"
    assert list((tmp_path / TEMPORARY).iterdir()) == []
