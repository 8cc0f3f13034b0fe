"""Removing what a build wrote, whatever that is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ccstore.executor.scratch import empty_folder


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    (outside / "kept").mkdir(parents=True)
    (top / "a").mkdir(parents=True)
    (top / "a/link").symlink_to(outside)
    (top / "link").symlink_to(outside)
    empty_folder(top)
    assert list(top.iterdir()) == []
    assert (outside / "kept").is_dir()


def test_modes_and_odd_names(tmp_path: Path) -> None:
    place = tmp_path / "a" / "-rf *\n\udcff"
    place.mkdir(parents=True)
    (place / "file").touch()
    os.mkfifo(place / "fifo")
    place.chmod(0)
    (tmp_path / "a").chmod(0)
    empty_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    empty_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        empty_folder(tmp_path / "nowhere")
