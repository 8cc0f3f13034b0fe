"""vmlinux.py: the kernel inside foreign images, whatever it is compressed by, or a clear word on why not."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ccstore.ports import Tree
from ccstore.recipe.lower_guest import KERNEL_SCRIPTS
from tests.builders.conftest import Built, Step
from tests.builders.images import digest_of, write_layout

RELOCATIONS = bytes(4) + struct.pack("<100I", *range(0x81000000, 0x81000000 + 400, 4))


def elf(size: int = 300_000) -> bytes:
    """A 64-bit x86 ELF file with one segment, of the given size."""
    body = random.Random(1).randbytes(size // 2)
    body += bytes(size - 120 - len(body))
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 120, 0, 0, len(body), len(body), 4096) + body


def bzimage(payload: bytes, *, version: int = 0x020F, length: int | None = None) -> bytes:
    """A bzImage by the boot protocol; before the payload lie decoys of every compression's magic number."""
    decoys = b"\x1f\x8b\x08\0\xfd7zXZ\0\x28\xb5\x2f\xfd\x02\x21\x4c\x18BZh9\x5d\0\0\x7fELF".ljust(
        768, b"\x90"
    )
    setup = bytearray(4 * 512)
    setup[0x1F1] = 3
    struct.pack_into("<H4sH", setup, 0x1FE, 0xAA55, b"\xeb\x66Hd", 0)
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", version)
    struct.pack_into("<II", setup, 0x248, len(decoys), len(payload) if length is None else length)
    return bytes(setup) + decoys + payload + bytes(512)


def sized(compressed: bytes, data: bytes) -> bytes:
    """Kbuild puts the size of the data behind what is compressed, except where gzip itself does."""
    return compressed + struct.pack("<I", len(data))


def xz(data: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    return sized(lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters), data)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": xz,
    "bzip2": lambda data: sized(bz2.compress(data), data),
    "lzma": lambda data: sized(lzma.compress(data, format=lzma.FORMAT_ALONE), data),
    "none": lambda data: data,
}
BY_TOOLS = {"zstd": ("zstd", "-22", "--ultra", "-c"), "lz4": ("lz4", "-l", "-9", "-c")}


class Kernels:
    """Runs the builder over files, given by name."""

    def __init__(self, step: Step, folder: Path) -> None:
        self._step = step
        self._folder = folder

    def extract(self, files: dict[str, bytes], binary: str = "") -> Built:
        image = self._folder / f"image-{self._step.runs}"
        for name, data in files.items():
            path = image / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.extract_from(image, binary)

    def extract_from(self, image: Path, binary: str = "") -> Built:
        return self._step.run({"image": image}, {"BINARY": binary})

    def compress(self, argv: tuple[str, ...], data: bytes) -> bytes:
        """Compresses with a program of the tools, in the sandbox, as Kbuild would."""
        source = self._folder / "data"
        source.write_bytes(data)
        script = f"{' '.join(argv)} </in/data >/out/out"
        step = Step(self._step.toolchain, self._folder / argv[0], ("/bin/sh", "-ec", script))
        return sized(step.run({"data": source}).out.read_bytes(), data)


@pytest.fixture
def kernels(guest_tools: Tree, tmp_path: Path) -> Kernels:
    argv = ("/usr/bin/python3", "/in/.builder/vmlinux.py")
    return Kernels(Step(guest_tools, tmp_path / "step", argv, KERNEL_SCRIPTS), tmp_path)


def kernel_of(built: Built) -> bytes:
    return (built.out / "vmlinux").read_bytes()


@pytest.mark.parametrize("name", [*COMPRESSIONS, *BY_TOOLS])
def test_every_compression_gives_the_kernel_without_its_relocations(kernels: Kernels, name: str) -> None:
    data = elf() + RELOCATIONS
    payload = COMPRESSIONS[name](data) if name in COMPRESSIONS else kernels.compress(BY_TOOLS[name], data)
    built = kernels.extract({"bzImage": bzimage(payload)})
    assert kernel_of(built) == elf()
    assert (built.out / "bzImage").read_bytes() == bzimage(payload)


def test_a_vmlinux_stays_what_it_is(kernels: Kernels) -> None:
    built = kernels.extract({"kernel": elf()})
    assert kernel_of(built) == elf()
    assert not (built.out / "bzImage").exists()


@pytest.mark.parametrize(
    "place", ["kernel", "boot/kernel", "boot/vmlinuz-6.1.0-amd64", "boot/vmlinuz", "bzImage"]
)
def test_the_usual_places(kernels: Kernels, place: str) -> None:
    built = kernels.extract({place: bzimage(elf()), "etc/passwd": b"root", "boot/config-6.1": b"x"})
    assert kernel_of(built) == elf()


def test_a_single_file(kernels: Kernels, tmp_path: Path) -> None:
    path = tmp_path / "a kernel"
    path.write_bytes(bzimage(elf()))
    assert kernel_of(kernels.extract_from(path)) == elf()


def test_a_vmlinux_and_the_bzimage_beside_it(kernels: Kernels) -> None:
    other = bzimage(elf(5000))
    built = kernels.extract({"kernel": elf(), "bzImage": other})
    assert (kernel_of(built), (built.out / "bzImage").read_bytes()) == (elf(), other)


def test_a_name_of_ones_own(kernels: Kernels) -> None:
    files = {"kernel": b"not this", "lib/linux.img": bzimage(elf())}
    assert kernel_of(kernels.extract(files, "lib/linux.img")) == elf()


def tar(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


def test_inside_kernel_tar(kernels: Kernels) -> None:
    built = kernels.extract({"kernel.tar": tar({"./boot/vmlinuz-6.1": bzimage(elf())})})
    assert kernel_of(built) == elf()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_an_oci_layout(kernels: Kernels, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    below = tar({"kernel": b"older", "boot/kernel": elf(5000)})
    above = tar({"./kernel": bzimage(elf())})
    layout = write_layout(tmp_path / "i", [below, above], compress=compress)
    assert kernel_of(kernels.extract_from(layout)) == elf()


@pytest.mark.parametrize(
    "whiteout", [".wh.kernel", "boot/.wh.kernel", ".wh.boot", "boot/.wh..wh..opq", ".wh..wh..opq"]
)
def test_whiteouts_take_away(kernels: Kernels, tmp_path: Path, whiteout: str) -> None:
    place = "kernel" if whiteout == ".wh.kernel" else "boot/kernel"
    layout = write_layout(tmp_path / "i", [tar({place: elf()}), tar({whiteout: b""})])
    assert kernels.extract_from(layout).report["code"] == "kernel-missing"


def test_an_image_of_another_platform(kernels: Kernels, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "i", [tar({"kernel": elf()})])
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["platform"] = {"os": "linux", "architecture": "arm64"}
    (layout / "index.json").write_text(json.dumps(index))
    assert kernels.extract_from(layout).report["code"] == "image-corrupt"


def test_a_layer_that_is_not_what_its_digest_says(kernels: Kernels, tmp_path: Path) -> None:
    layer = tar({"kernel": elf()})
    layout = write_layout(tmp_path / "i", [layer])
    blob = layout / "blobs/sha256" / digest_of(layer).removeprefix("sha256:")
    blob.write_bytes(tar({"kernel": elf(5000)}))
    assert kernels.extract_from(layout).report["code"] == "image-corrupt"


def test_no_kernel_at_all(kernels: Kernels) -> None:
    built = kernels.extract({"etc/passwd": b"root"})
    assert built.report["code"] == "kernel-missing"
    assert "boot/vmlinuz" in built.report["message"]


def broken() -> dict[str, bytes]:
    whole = bzimage(COMPRESSIONS["xz"](elf()))
    middle = len(whole) // 2
    payload = COMPRESSIONS["gzip"](elf())
    return {
        "no kernel": b"#!/bin/sh\necho hello\n" * 100,
        "nothing": b"",
        "cut short": whole[:middle],
        "a flipped bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "a payload beyond the end": bzimage(payload, length=1 << 24),
        "an empty payload": bzimage(b""),
        "an unknown compression": bzimage(b"\x01\x02\x03\x04" * 100),
        "another size": bzimage(COMPRESSIONS["bzip2"](elf())[:-4] + struct.pack("<I", 1000)),
        "a bomb": bzimage(COMPRESSIONS["bzip2"](elf())[:-4] + b"\xff\xff\xff\xff"),
        "no ELF file inside": bzimage(COMPRESSIONS["gzip"](bytes(5000))),
        "half an ELF file inside": bzimage(COMPRESSIONS["gzip"](elf()[:5000])),
        "an ELF file of another machine": elf()[:18] + b"\xb7" + elf()[19:],
        "lzma that is none": bzimage(b"\x5d\0\0" + bytes(500)),
        "bzip2 that is none": bzimage(b"BZh9" + bytes(500)),
        "lz4 that is none": bzimage(b"\x02\x21\x4c\x18" + b"\xff" * 500),
        "zstd that is none": bzimage(b"\x28\xb5\x2f\xfd" + b"\xff" * 500),
    }


@pytest.mark.parametrize("name", list(broken()))
def test_damage_is_named(kernels: Kernels, name: str) -> None:
    built = kernels.extract({"kernel": broken()[name]})
    assert (built.exit_status, built.report.get("code")) == (1, "kernel-invalid"), built.log
    assert built.report["message"].startswith("kernel: it")
    assert "Traceback" not in built.log


@pytest.mark.parametrize("index", [b"{", b'{"manifests": []}', b'{"manifests": [{"digest": "sha256:0"}]}'])
def test_a_damaged_layout(kernels: Kernels, tmp_path: Path, index: bytes) -> None:
    layout = write_layout(tmp_path / "i", [tar({"kernel": elf()})])
    (layout / "index.json").write_bytes(index)
    assert kernels.extract_from(layout).report["code"] == "image-corrupt"


@pytest.mark.parametrize(
    ("image", "word"),
    [(bzimage(b"\x89LZO\0" + bytes(100)), "lzo"), (bzimage(elf(), version=0x0204), "2.04")],
)
def test_what_is_not_supported_is_named(kernels: Kernels, image: bytes, word: str) -> None:
    built = kernels.extract({"kernel": image})
    assert built.report["code"] == "kernel-unsupported"
    assert word in built.report["message"]
