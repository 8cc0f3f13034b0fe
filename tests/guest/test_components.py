"""What a guest is made of: small, static, and the same wherever it is built."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.conftest import Shell, clone_store
from tests.guest.initramfs import SmallGuest

PT_INTERP, PT_LOAD = 3, 1
PROGRAMS = {  # path in the component's tree: the most it may take
    "guest-init": ("sbin/init", 1_000_000),
    "crun": ("usr/bin/crun", 1_800_000),
    "busybox": ("bin/busybox", 1_600_000),
    "rngd": ("usr/sbin/rngd", 1_100_000),
    "hyperstart": ("usr/bin/hyperstart", 1_000_000),
}
HYPERSTART_SIZE = 958_216  # what another build, elsewhere, of the same commit had


@pytest.fixture(scope="module")
def trees(guests: Shell, small_guest: SmallGuest) -> dict[str, Path]:
    """Every component whose source can be had anywhere."""
    names = [name for name in PROGRAMS if name != "hyperstart"]
    return dict(zip(names, guests.realize(*names), strict=True))


@pytest.fixture
def tree(request: pytest.FixtureRequest, name: str) -> Path:
    """The tree of one component; the agent's source has to be reachable."""
    if name == "hyperstart":
        request.getfixturevalue("hyperstart")
        guests: Shell = request.getfixturevalue("guests")
        return guests.realize(name)[0]
    found: Path = request.getfixturevalue("trees")[name]
    return found


def segments(program: Path) -> set[int]:
    """Types of the segments of an ELF program (System V ABI, "Program Header")."""
    image = program.read_bytes()
    assert image[:5] == b"\x7fELF\x02"
    offset, size, count = (*struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54))
    return {struct.unpack_from("<I", image, offset + i * size)[0] for i in range(count)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_static_and_small(tree: Path, name: str) -> None:
    path, limit = PROGRAMS[name]
    found = segments(tree / path)
    assert PT_LOAD in found
    assert PT_INTERP not in found
    assert b".symtab" not in (tree / path).read_bytes()
    assert (tree / path).stat().st_size <= limit


@pytest.mark.parametrize("name", ["hyperstart"])
def test_the_agent_is_what_others_built(tree: Path, name: str) -> None:
    assert (tree / PROGRAMS[name][0]).stat().st_size == HYPERSTART_SIZE


def test_the_same_again_in_another_place(
    guests: Shell, trees: dict[str, Path], session_store: Path, tmp_path: Path
) -> None:
    again = ("guest-init", "rngd")
    if os.environ.get("CCSTORE_TEST_STORE"):
        pytest.skip("the store that CCSTORE_TEST_STORE names may have them built already")
    other = Shell(tmp_path / "elsewhere", clone_store(session_store, tmp_path / "store"))
    shutil.copytree(guests.project / "recipes", other.project / "recipes")
    assert [path.name for path in other.realize(*again)] == [trees[name].name for name in again]


def test_the_container_root_has_what_the_agent_wants(small_guest: SmallGuest) -> None:
    for place in ("bin/sh", "bin/ls", "bin/mount", "bin/ps", "sbin/ip", "sbin/sysctl"):
        assert (small_guest.image / place).resolve().name == "busybox"
    assert (small_guest.image / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert (small_guest.image / "etc/group").read_text().startswith("root:x:0:")
