"""The lock file: its text, what reads it back, and the difference of two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.debian.lockfile import Lock, LockedPackage, Release, Request, diff, render, write_lock
from ccstore.recipe.lock import read_lock

GOLDEN = f"""\
# Written by `ccstore lock`: every package of the closure, from the signed index of the suite.
version: 1
suite: "bookworm"
component: "main"
architecture: "amd64"
release: {{"date": "2026-07-11T10:16:37Z", "sha256": "{"0" * 64}"}}
request: ["bash", "m4"]
packages:
- {{"name": "bash", "version": "12.0", "architecture": "amd64", "path": "pool/b/bash_12.0_amd64.deb", \
"size": 7, "sha256": "{"1" * 64}"}}
- {{"name": "libstdc++6", "version": "1:2~3-4+b1", "architecture": "all", "path": "pool/l.deb", \
"size": 8, "sha256": "{"2" * 64}"}}
"""

BASH = LockedPackage("bash", "12.0", "amd64", "pool/b/bash_12.0_amd64.deb", 7, "1" * 64)
LIB = LockedPackage("libstdc++6", "1:2~3-4+b1", "all", "pool/l.deb", 8, "2" * 64)
LOCK = Lock(Request("bookworm", ("bash", "m4")), Release("2026-07-11T10:16:37Z", "0" * 64), (BASH, LIB))


def test_text_of_the_file() -> None:
    assert render(LOCK) == GOLDEN


def test_recipes_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "pins/new.yml"
    write_lock(path, LOCK)
    found = read_lock(path, path.name)
    assert (found.suite, found.component, tuple(found.request)) == ("bookworm", "main", ("bash", "m4"))
    packages = [
        LockedPackage(each.name, each.version, each.architecture, str(each.path), each.size, each.sha256.hex)
        for each in found.packages
    ]
    assert packages == [BASH, LIB]


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    path.write_text("old")
    write_lock(path, LOCK)
    assert path.read_text() == GOLDEN
    assert path.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.iterdir()] == ["lock.yml"]


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_lock(path, LOCK)
    assert [each.name for each in tmp_path.iterdir()] == ["lock.yml"]


def test_difference() -> None:
    newer = replace(BASH, version="13.0")
    other = replace(LIB, sha256="3" * 64)
    gone = LockedPackage("gone", "1", "all", "pool/g.deb", 1, "4" * 64)
    came = LockedPackage("came", "2", "all", "pool/c.deb", 1, "5" * 64)
    found = diff([BASH, LIB, gone], [newer, other, came])
    assert (found.came, found.went, found.changed) == ((came,), (gone,), ((BASH, newer), (LIB, other)))
    assert list(found.lines()) == [
        "+ came 2",
        "- gone 1",
        "~ bash 12.0 → 13.0",
        "~ libstdc++6 1:2~3-4+b1 → 1:2~3-4+b1 (another file)",
    ]
    assert list(diff([BASH], [BASH]).lines()) == []
