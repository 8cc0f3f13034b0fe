"""A bootable folder, as an image step makes it: kernel, image, and `boot.json`, which says how they belong together.

    {"version": 1, "name": "clear-containers", "format": "vmlinux+erofs", "kernel": "vmlinux", "initrd": null,
     "disk": {"file": "root.img", "device": "pmem" | "virtio-blk"}, "cmdline": "…", "machine": "q35" | "microvm",
     "memory": "256M", "agent": null | "hyperstart", "verity": null | {…}}

Names of files are relative to the folder and lie in it. Keys that are not read here are for other readers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ccstore.errors import CcError

Machine = Literal["q35", "microvm"]
DiskDevice = Literal["pmem", "virtio-blk"]
MACHINES: tuple[Machine, ...] = get_args(Machine)
VERSION = 1
BARE = "console=ttyS0 panic=-1 i8042.noaux=1"
_SIZE = re.compile(r"([1-9][0-9]*)(k|M|G|T|kB|MB|GB|KiB|MiB|GiB)?", re.ASCII)
_UNITS: dict[str | None, int] = {
    None: 1,
    "k": 1 << 10,
    "M": 1 << 20,
    "G": 1 << 30,
    "T": 1 << 40,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}


@dataclass(frozen=True, slots=True)
class Disk:
    """The root image; `size` in bytes."""

    file: Path
    device: DiskDevice
    size: int


@dataclass(frozen=True, slots=True)
class BootImage:
    """What there is to boot; `memory` in bytes."""

    name: str
    format: str
    kernel: Path
    initrd: Path | None
    disk: Disk | None
    cmdline: str
    machine: Machine
    memory: int
    agent: str | None

    @classmethod
    def read(cls, folder: Path) -> BootImage:
        """Raises `not-bootable` for what is no bootable folder, `boot-invalid` for one that is broken."""
        if not (folder / "boot.json").exists() and (folder / "vmlinux").is_file():
            return cls.bare(folder)
        return _Reader(folder, _load(folder)).image()

    @classmethod
    def bare(cls, folder: Path) -> BootImage:
        """A kernel alone: it boots until it wants a root."""
        return cls(
            name=folder.name.partition("-")[2] or folder.name,
            format="vmlinux",
            kernel=folder / "vmlinux",
            initrd=None,
            disk=None,
            cmdline=BARE,
            machine="q35",
            memory=256 << 20,
            agent=None,
        )


def parse_size(text: str) -> int:
    """Bytes of a size such as 256M (MiB, as QEMU counts), 64MiB or 6MB (10^6). Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"should be a size such as 256M or 1GiB, not {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _load(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / "boot.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        message = "this is nothing that can be booted: it has no boot.json"
        hint = "name a guest recipe, or a format step of one (clear-containers.vmlinux+initrd)"
        raise CcError("not-bootable", message, where=str(folder), hint=hint) from None
    except (OSError, ValueError) as error:
        raise _invalid(folder, str(error)) from error
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise _invalid(folder, f"it should be an object of version {VERSION}")
    return value


def _invalid(folder: Path, problem: str) -> CcError:
    hint = "`ccstore verify` finds damaged objects; a folder made by hand needs the fields of ccstore/guest/boot.py"
    return CcError("boot-invalid", f"boot.json is not valid: {problem}", where=str(folder), hint=hint)


class _Reader:
    """Takes the fields of one boot.json, and complains about the first that is wrong."""

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self._folder, self._fields = folder, fields

    def image(self) -> BootImage:
        kernel = self._file("kernel")
        if kernel is None:
            raise _invalid(self._folder, "it names no kernel")
        return BootImage(
            name=self._text("name"),
            format=self._text("format"),
            kernel=kernel,
            initrd=self._file("initrd"),
            disk=self._disk(),
            cmdline=self._text("cmdline").strip(),
            machine=self._one_of("machine", self._fields.get("machine"), MACHINES),
            memory=self._memory(),
            agent=self._fields.get("agent"),
        )

    def _text(self, key: str) -> str:
        value = self._fields.get(key)
        if not isinstance(value, str):
            raise _invalid(self._folder, f"{key} should be text")
        return value

    def _one_of(self, key: str, value: Any, choices: tuple[Any, ...]) -> Any:
        if value not in choices:
            raise _invalid(self._folder, f"{key} should be {' or '.join(choices)}, not {value!r}")
        return value

    def _file(self, key: str) -> Path | None:
        name = self._fields.get(key)
        return None if name is None else self._inside(key, name)

    def _inside(self, key: str, name: Any) -> Path:
        if not isinstance(name, str) or name in ("", ".", "..") or "/" in name:
            raise _invalid(self._folder, f"{key} should name a file of the folder, not {name!r}")
        path = self._folder / name
        if not path.is_file():
            raise _invalid(self._folder, f"{key} is {name}, which is not there")
        return path

    def _disk(self) -> Disk | None:
        value = self._fields.get("disk")
        if value is None:
            return None
        if not isinstance(value, dict):
            raise _invalid(self._folder, "disk should be an object or null")
        file = self._inside("disk.file", value.get("file"))
        device = self._one_of("disk.device", value.get("device"), get_args(DiskDevice))
        return Disk(file, device, file.stat().st_size)

    def _memory(self) -> int:
        try:
            return parse_size(self._text("memory"))
        except ValueError as error:
            raise _invalid(self._folder, f"memory {error}") from error
