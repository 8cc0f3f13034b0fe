"""What a guest is made of: small, static, and the same wherever it is built.

The store paths are golden values: whoever runs this, wherever, must get the same bytes. After a change that was meant
to change a component, `pytest tests/guest/test_components.py --accept` takes over its new path.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Shell
from tests.guest.initramfs import SmallGuest

GOLDEN = Path(__file__).with_name("components.golden.json")
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
    names = [name for name in (*PROGRAMS, "sysctl", "container-root") if name != "hyperstart"]
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


def test_a_pin_stands_in_one_place() -> None:
    recipes = {path.name: path.read_text() for path in (REPOSITORY / "recipes").glob("*.yml")}
    pins = {
        pin: name for name, text in recipes.items() for pin in re.findall(r"^commit: (\w{7})", text, re.M)
    }
    assert pins
    again = [(name, pin) for pin in pins for name in recipes if pin in recipes[name] and name != pins[pin]]
    assert not again


@pytest.mark.parametrize("name", [*PROGRAMS, "sysctl", "container-root"])
def test_it_is_the_same_everywhere(tree: Path, name: str, accept: bool) -> None:
    golden: dict[str, str] = json.loads(GOLDEN.read_text())
    if accept:
        golden[name] = tree.name
        GOLDEN.write_text(json.dumps(golden, indent=2, sort_keys=True) + "\n")
    assert tree.name == golden[name]


def test_the_container_root_has_what_the_agent_wants(small_guest: SmallGuest) -> None:
    for place in ("bin/sh", "bin/ls", "bin/mount", "bin/ps", "sbin/ip", "sbin/sysctl"):
        assert (small_guest.image / place).resolve().name == "busybox"
    assert (small_guest.image / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert (small_guest.image / "etc/group").read_text().startswith("root:x:0:")
