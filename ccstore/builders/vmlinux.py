"""G.kernel: the kernel of a foreign image, uncompressed too (runs inside the sandbox).

Input `image` is a file, a folder or an OCI layout (`index.json`, `blobs/`). $BINARY, if not empty, names the kernel
in it; otherwise it is looked for in the usual places (PLACES), also in a `kernel.tar`. $out becomes a folder with
`vmlinux`, and `bzImage` when the image has one.

A bzImage is taken apart as the boot protocol describes it (Linux, Documentation/arch/x86/boot.rst): the header says
where the compressed payload begins and how long it is; its last 4 bytes are the size of what it holds, an ELF file
and perhaps relocations after it. Which compression it is, the payload's first bytes say.

Failures: `kernel-missing`, `kernel-invalid` (corrupt, or no kernel), `kernel-unsupported` (another compression), and
those of `guest_layers` for a bad OCI layout.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from ccstore.builders import guest_layers, guest_tree
    from ccstore.builders import image_common as common
else:  # inside the sandbox, where there is no ccstore
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import guest_layers
    import guest_tree
    import image_common as common

IMAGE = Path("/in/image")
OUT = Path("/out/out")
PLACES = (
    "vmlinux",
    "kernel",
    "bzImage",
    "boot/vmlinux",
    "boot/kernel",
    "boot/bzImage",
    "boot/vmlinuz",
    "vmlinuz",
)
BOOT_VERSIONED = "boot/vmlinuz-"
ARCHIVE = "kernel.tar"
SECTOR = 512
LARGEST = 1 << 30  # bytes that a payload may hold
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"BZh": "bzip2",
    b"\x5d\0\0": "lzma",
    b"\x89LZO\0": "lzo",
    b"\x7fELF": "none",
}
_DAMAGED = (EOFError, ValueError, zlib.error, lzma.LZMAError)
_UNREADABLE = (*_DAMAGED, tarfile.TarError, gzip.BadGzipFile)


class KernelError(Exception):
    """`code` and message of what is wrong with a kernel image."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def invalid(message: str) -> KernelError:
    return KernelError("kernel-invalid", message, "see if the image is the right one, and whole")


# --- a bzImage --------------------------------------------------------------------------------------------------


def is_bzimage(image: bytes) -> bool:
    return image[0x202:0x206] == b"HdrS"


def payload(image: bytes) -> bytes:
    """The compressed part of a bzImage. Raises KernelError."""
    if not is_bzimage(image) or len(image) < 0x250:
        raise invalid("it is neither an ELF file nor a bzImage: it has no header of the boot protocol")
    (version,) = struct.unpack_from("<H", image, 0x206)
    if version < 0x0208:
        message = (
            f"its boot protocol is {version >> 8}.{version & 255:02}, which does not say where the payload is"
        )
        raise KernelError("kernel-unsupported", message, "2.08 and later do: Linux 2.6.25")
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    begin = setup * SECTOR + offset
    if not length or begin + length > len(image):
        raise invalid(f"its payload should end at byte {begin + length}, and it has {len(image)}")
    return image[begin : begin + length]


def decompress(data: bytes) -> bytes:
    """What a payload holds. Raises KernelError."""
    name = next((name for magic, name in MAGIC.items() if data.startswith(magic)), None)
    if name is None:
        raise invalid(f"its payload begins with {data[:6].hex()}, which is no compression of kernels")
    if name == "none":
        return data
    if name == "lzo":
        hint = "rebuild it with CONFIG_KERNEL_XZ, _ZSTD, _GZIP or _LZ4"
        raise KernelError("kernel-unsupported", "its payload is compressed by lzo", hint)
    (size,) = struct.unpack("<I", data[-4:])
    body = data if name == "gzip" else data[:-4]
    if size > LARGEST:
        raise invalid(f"its payload should hold {size} bytes")
    try:
        result = _unwrap(name, body, size)
    except _DAMAGED as error:
        raise invalid(f"its {name} payload is damaged: {error}") from error
    if len(result) != size:
        raise invalid(f"its {name} payload is damaged: it holds {len(result)} bytes instead of {size}")
    return result


def _unwrap(name: str, data: bytes, size: int) -> bytes:
    """Decompresses to at most one byte more than `size`."""
    if name == "gzip":
        return zlib.decompressobj(wbits=31).decompress(data, size + 1)
    if name in ("xz", "lzma"):
        return lzma.LZMADecompressor(memlimit=LARGEST).decompress(data, size + 1)
    if name == "bzip2":
        return _bunzip(data, size + 1)
    return _by_tool([name, "-dc"], data, size + 1)


def _bunzip(data: bytes, most: int) -> bytes:
    try:
        return bz2.BZ2Decompressor().decompress(data, most)
    except OSError as error:  # that is how this module calls damage
        raise ValueError(error) from error


def _by_tool(argv: list[str], data: bytes, most: int) -> bytes:
    """The output of a decompressor, of which no more than `most` bytes are taken. Raises ValueError."""
    source = common.BUILD / "payload"
    source.write_bytes(data)
    with source.open("rb") as stdin:
        process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        result = process.stdout.read(most)
        process.stdout.close()
        message = process.stderr.read().decode(errors="backslashreplace").strip()
        status = process.wait()
    if status and len(result) < most:
        raise ValueError(message or f"{argv[0]} ended with status {status}")
    return result


def elf(data: bytes) -> bytes:
    """The ELF file at the beginning of `data`, without what comes after its last part. Raises KernelError."""
    if data[:6] != b"\x7fELF\x02\x01" or len(data) < 64 or struct.unpack_from("<H", data, 18)[0] != 62:
        raise invalid("it holds no 64-bit x86 ELF file")
    (phoff, shoff) = struct.unpack_from("<QQ", data, 32)
    phsize, phnum, shsize, shnum = struct.unpack_from("<HHHH", data, 54)
    ends = [64, phoff + phnum * phsize, shoff + shnum * shsize]
    if max(ends) > len(data):
        raise invalid("its ELF file is cut short")
    for at in range(phoff, phoff + phnum * phsize, phsize):
        offset, length = struct.unpack_from("<Q", data, at + 8)[0], struct.unpack_from("<Q", data, at + 32)[0]
        ends.append(offset + length)
    for at in range(shoff, shoff + shnum * shsize, shsize):
        (kind,) = struct.unpack_from("<I", data, at + 4)
        offset, length = struct.unpack_from("<QQ", data, at + 24)
        ends.append(0 if kind == 8 else offset + length)  # SHT_NOBITS takes no room
    if max(ends) > len(data):
        raise invalid("its ELF file is cut short")
    return data[: max(ends)]


# --- where it is ------------------------------------------------------------------------------------------------


def read_image(path: Path) -> dict[str, bytes]:
    """The files of an image that could be its kernel, by name. Raises KernelError."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    files = from_layout(path) if (path / "oci-layout").exists() else from_folder(path)
    inner = files.pop(ARCHIVE, None)
    if inner is not None:
        files = {**from_tar(inner), **files}
    return files


def from_folder(folder: Path) -> dict[str, bytes]:
    names = [each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()]
    return {name: (folder / name).read_bytes() for name in names if is_candidate(name)}


def from_layout(layout: Path) -> dict[str, bytes]:
    """The candidates in an image. Raises ImageWrong."""
    tree = guest_layers.read_image(layout, common.BUILD).tree
    found = {name: node for name, node in tree.root.walk("") if is_candidate(name)}
    for name, node in found.items():
        _check_size(name, node.body.size)
    return {name: node.body.read() for name, node in found.items() if node.kind == guest_tree.FILE}


def _check_size(name: str, size: int) -> None:
    if size > LARGEST:
        raise invalid(f"{name} has {size} bytes, and a kernel at most {LARGEST}")


def from_tar(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=BytesIO(data), mode="r:*") as tar:
        return dict(_candidates(tar))


def _candidates(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for entry in tar:
        name = entry.name.removeprefix("./").strip("/")
        body = tar.extractfile(entry) if entry.isreg() and is_candidate(name) else None
        if body is not None:
            _check_size(name, entry.size)
            yield name, body.read()


def is_candidate(name: str) -> bool:
    known = (*PLACES, ARCHIVE, os.environ["BINARY"])
    return name in known or name.startswith(BOOT_VERSIONED)


def choose(files: dict[str, bytes]) -> list[str]:
    """The kernels among the candidates, the most likely first. Raises KernelError."""
    binary = os.environ["BINARY"]
    versioned = sorted(name for name in files if name.startswith(BOOT_VERSIONED))
    found = [name for name in ([binary] if binary else [*PLACES, *versioned]) if name in files]
    if not found:
        looked = binary or ", ".join([*PLACES, f"{BOOT_VERSIONED}*"])
        message = f"the image has no kernel: looked for {looked}, also in {ARCHIVE}"
        raise KernelError("kernel-missing", message, "name it: `kernel: {binary: …}`")
    return found


def extract(files: dict[str, bytes], names: list[str]) -> None:
    """Writes the first kernel as vmlinux, and the first bzImage as it is. Raises KernelError."""
    first = files[names[0]]
    plain = first[:4] == b"\x7fELF"
    (OUT / "vmlinux").write_bytes(elf(first if plain else decompress(payload(first))))
    compressed = next((name for name in names if is_bzimage(files[name])), None)
    if compressed:
        (OUT / "bzImage").write_bytes(files[compressed])


def main() -> None:
    name = "the image"
    OUT.mkdir()
    try:
        files = find(IMAGE)
        names = [IMAGE.name] if IMAGE.is_file() else choose(files)
        name = names[0]
        extract(files, names)
    except KernelError as error:
        common.fail(error.code, f"{name}: {error}", hint=error.hint)
    except guest_layers.ImageWrong as error:
        common.fail(error.code, error.message, hint="take another image")


def find(image: Path) -> dict[str, bytes]:
    try:
        return read_image(image)
    except _UNREADABLE as error:
        raise invalid(f"it cannot be read: {error!r}") from error


if __name__ == "__main__":
    main()
