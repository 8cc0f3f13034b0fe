"""The kernel of this repository: built once in a test run, in a store of its own, and booted.

Its store path is a golden value. Whoever runs this, wherever, must get the same bytes; that is the reproducibility
check of the whole chain (toolchain, sources, patches, configuration, compilation) at the price of one build.
`pytest tests/kernel --accept` takes over a new path, after a change that was meant to change the kernel.
"""

from __future__ import annotations

import gzip
import lzma
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from tests.boots import MACHINES, boot
from tests.conftest import REPOSITORY, Shell
from tests.kernel.purposes import ABSENT, BUILT_IN

GOLDEN = Path(__file__).with_name("kernel.golden")
PVH_ENTRY = 18  # XEN_ELFNOTE_PHYS32_ENTRY: where a PVH loader enters


@pytest.fixture
def project(real_kernel: Shell) -> Shell:
    return real_kernel


@pytest.fixture
def kernel(real_kernel: Shell) -> Path:
    return real_kernel.path("kernel")


def test_it_is_the_same_everywhere(kernel: Path, accept: bool) -> None:
    if accept:
        GOLDEN.write_text(kernel.name + "\n")
    assert kernel.name == GOLDEN.read_text().strip()


def test_again_is_nothing_to_do(project: Shell, kernel: Path) -> None:
    again = project.run("realize", "kernel")
    assert again.stdout.strip() == str(kernel)
    assert again.stderr == ""


def test_everything_is_there(kernel: Path) -> None:
    names = {each.name for each in kernel.iterdir()}
    assert names == {"vmlinux", "bzImage", "System.map", "config", "kernel-source-info"}


def test_vmlinux_is_small(kernel: Path, project: Shell) -> None:
    assert (kernel / "vmlinux").stat().st_size <= 20_000_000
    assert b".symtab" not in (kernel / "vmlinux").read_bytes()
    assert (project.path("kernel^dev") / "vmlinux.debug").stat().st_size > 20_000_000


def test_vmlinux_can_be_entered_by_pvh(kernel: Path) -> None:
    image = (kernel / "vmlinux").read_bytes()
    assert image[:5] == b"\x7fELF\x02"
    assert PVH_ENTRY in {kind for name, kind in _notes(image) if name == b"Xen\0"}


def _notes(image: bytes) -> Iterator[tuple[bytes, int]]:
    """Owner and type of every ELF note (System V ABI, "Note Section")."""
    offset, size, count = (*struct.unpack_from("<Q", image, 32), *struct.unpack_from("<HH", image, 54))
    for i in range(count):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", image, offset + i * size)
        at = start
        while kind == 4 and at < start + length:
            name_size, data_size, note = struct.unpack_from("<III", image, at)
            yield image[at + 12 : at + 12 + name_size], note
            at += 12 + (name_size + 3 & ~3) + (data_size + 3 & ~3)


def test_config_has_every_symbol_that_was_asked_for(kernel: Path) -> None:
    final = _symbols((kernel / "config").read_text())
    recipe = (REPOSITORY / "recipes/kernel.yml").read_text()
    asked: dict[str, str] = {}
    for fragment in re.findall(r"\.\./kernel/config/[\w.-]+\.config", recipe):
        asked |= _symbols((REPOSITORY / "recipes" / fragment).read_text())
    assert len(asked) > 300
    assert {name: final.get(name, "n") for name in asked} == asked


@pytest.mark.parametrize("purpose", BUILT_IN)
def test_config_serves_every_purpose(kernel: Path, purpose: str) -> None:
    final = _symbols((kernel / "config").read_text())
    assert {name: final.get(name) for name in BUILT_IN[purpose].split()} == dict.fromkeys(
        BUILT_IN[purpose].split(), "y"
    )


@pytest.mark.parametrize("purpose", ABSENT)
def test_config_leaves_out(kernel: Path, purpose: str) -> None:
    final = _symbols((kernel / "config").read_text())
    assert [name for name in ABSENT[purpose].split() if final.get(name, "n") != "n"] == []


def _symbols(text: str) -> dict[str, str]:
    given = dict(re.findall(r"^CONFIG_(\w+)=(.+)$", text, re.MULTILINE))
    return given | dict.fromkeys(re.findall(r"^# CONFIG_(\w+) is not set", text, re.MULTILINE), "n")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("image", ["vmlinux", "bzImage"])
def test_it_boots_to_user_space(
    project: Shell, kernel: Path, tool: Callable[[str], str], machine: str, image: str
) -> None:
    qemu = tool("qemu-system-x86_64")
    [initramfs] = project.realize("initramfs")
    guest = boot(qemu, kernel / image, initramfs, machine, memory="64M")
    assert guest.release.startswith("6.1.176")


@pytest.mark.parametrize("method", ["plain", "xz", "zstd", "lz4"])
def test_it_unpacks_an_initramfs(
    project: Shell, kernel: Path, tool: Callable[[str], str], tmp_path: Path, method: str
) -> None:
    qemu = tool("qemu-system-x86_64")
    [initramfs] = project.realize("initramfs")
    packed = tmp_path / "initramfs"
    packed.write_bytes(COMPRESSED[method](gzip.decompress(initramfs.read_bytes())))
    boot(qemu, kernel / "vmlinux", packed, memory="64M")


def _lz4(data: bytes) -> bytes:
    """LZ4's legacy frame, of blocks of literals (lz4_Frame_format.md, lz4_Block_format.md)."""
    blocks = [b"\x02\x21\x4c\x18"]
    for at in range(0, len(data), LZ4_BLOCK):
        literals = data[at : at + LZ4_BLOCK]
        more, last = divmod(len(literals) - 15, 255)
        block = b"\xf0" + b"\xff" * more + bytes([last]) + literals
        blocks.append(struct.pack("<I", len(block)) + block)
    return b"".join(blocks)


LZ4_BLOCK = 8 << 20  # bytes; a block that is not the last holds as many
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": _lz4,
}
