"""Small Debian packages made for a test, and inputs as a build would get them."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import zstandard

from ccstore.debian.unpack import debian_tree
from ccstore.model.hashes import Sha256
from ccstore.model.objects import Manifest
from ccstore.ports import Cancel, Tree
from tests.builders.tars import Written, file, tar

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


@dataclass(frozen=True)
class Downloaded:
    """A file of the test as an input; unpacking only asks where it lies."""

    path: Path

    @property
    def nar_hash(self) -> Sha256:
        raise NotImplementedError("inputs of these tests are not in a store")

    def entries(self) -> Manifest:
        raise NotImplementedError("inputs of these tests are not in a store")

    def open(self, path: str) -> BinaryIO:
        return BytesIO(self.path.read_bytes())


def ar(members: Mapping[str, bytes]) -> bytes:
    """An `ar` archive, as deb(5) describes it."""
    data = b"!<arch>\n"
    for name, content in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
        data += header.encode() + content + b"\n" * (len(content) % 2)
    return data


def deb(
    name: str,
    entries: Iterable[Written],
    *,
    compression: str = ".xz",
    control: str = "",
    packed: bytes | None = None,
) -> bytes:
    """A package of `entries`, or with `packed` as its compressed data."""
    text = control or f"Package: {name}\nVersion: 1.0\nArchitecture: all\nDescription: made for a test\n"
    packed = COMPRESSIONS[compression](tar(entries)) if packed is None else packed
    return ar(
        {
            "debian-binary": b"2.0\n",
            "control.tar.gz": gzip.compress(tar([file("./control", text.encode())]), mtime=0),
            f"data.tar{compression}": packed,
        }
    )


def write_debs(folder: Path, packages: Mapping[str, bytes]) -> dict[str, Tree]:
    folder.mkdir(exist_ok=True)
    inputs: dict[str, Tree] = {}
    for name, data in packages.items():
        path = folder / f"{name}.deb"
        path.write_bytes(data)
        inputs[name] = Downloaded(path)
    return inputs


def unpack(
    folder: Path, packages: Mapping[str, Iterable[Written] | bytes], links: str = "", exclude: str = ""
) -> Path:
    """Makes the packages and unpacks them below `folder`."""
    debs = {
        name: content if isinstance(content, bytes) else deb(name, content)
        for name, content in packages.items()
    }
    out = folder / "out"
    inputs = write_debs(folder / "debs", debs)
    debian_tree(inputs, {"links": links, "exclude": exclude}, out, Cancel())
    return out
