"""What a person may ask of one run of a guest, parsed from the command line's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccstore.errors import CcError
from ccstore.guest.boot import Machine

Accelerator = Literal["kvm", "tcg"]
LOOPBACK = "127.0.0.1"
MAX_TAG = 31  # bytes, and a NUL: QEMU's MAX_TAG_LEN
_FORWARD = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+):)?(\d+):(\d+)(?:/(tcp|udp))?", re.ASCII)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Forward:
    """A port of this host that leads into the guest."""

    address: str
    host: int
    guest: int
    protocol: str

    @classmethod
    def parse(cls, text: str) -> Forward:
        """`[ADDR:]HOST:GUEST[/udp]`. Raises `usage`."""
        match = _FORWARD.fullmatch(text)
        ports = [int(match[2]), int(match[3])] if match else []
        address = (match and match[1]) or LOOPBACK
        if match is None or not all(0 < port < 1 << 16 for port in ports) or _bad_address(address):
            raise _usage("--publish", text, "[ADDR:]HOST:GUEST[/udp], such as 8080:80 or 0.0.0.0:5353:53/udp")
        return cls(address, ports[0], ports[1], match[4] or "tcp")


def _bad_address(address: str) -> bool:
    return any(int(part) > 255 for part in address.split("."))


@dataclass(frozen=True, slots=True)
class Share:
    """A folder of this host that the guest can mount by its tag."""

    folder: Path
    tag: str
    read_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Share:
        """`DIR[:TAG][:ro]`; the tag is the folder's name unless given. Raises `usage`, `file-missing`."""
        plain, read_only = _without_ro(text)
        folder, _, tag = (plain, "", "") if Path(plain).is_dir() else plain.rpartition(":")
        path = Path(folder or plain).absolute()
        if not path.is_dir():
            message = f"there is no folder {path} to share"
            raise CcError("file-missing", message, hint="--share wants DIR[:TAG][:ro]")
        tag = tag or path.name
        if not 0 < len(tag.encode()) <= MAX_TAG or not tag.isprintable() or "/" in tag:
            raise _usage("--share", text, f"DIR[:TAG][:ro] with a tag of at most {MAX_TAG} bytes")
        return cls(path, tag, read_only)


@dataclass(frozen=True, slots=True)
class Volume:
    """A raw disk image of this host, or a block `device`, as a block device of the guest.

    Its format is never guessed: a guest could write the header of another one, which names files of this host.
    """

    file: Path
    read_only: bool = False
    device: bool = False

    @classmethod
    def parse(cls, text: str) -> Volume:
        """`FILE[:ro]`. Raises `file-missing`."""
        plain, read_only = _without_ro(text)
        path = Path(plain).absolute()
        device = path.is_block_device()
        if not device and not path.is_file():
            message = f"there is no file {path} to attach"
            raise CcError("file-missing", message, hint="--volume wants FILE[:ro], a raw disk image")
        return cls(path, read_only, device)


@dataclass(frozen=True, slots=True)
class Options:
    """One run: `memory` in bytes; `virtiofs`: folders are shared so, and not by 9p."""

    machine: Machine
    accelerator: Accelerator
    memory: int
    cpus: int = 1
    append: str = ""
    network: bool = True
    publish: tuple[Forward, ...] = ()
    shares: tuple[Share, ...] = ()
    volumes: tuple[Volume, ...] = ()
    virtiofs: bool = False


def parse_duration(text: str) -> float:
    """Seconds of 45s, 90m, 1h30m or a plain number. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if not total:
        raise ValueError(f"should be a time such as 45s, 90m or 1h30m, not {text!r}")
    return float(total)


def _without_ro(text: str) -> tuple[str, bool]:
    return (text[:-3], True) if text.endswith(":ro") else (text, False)


def _usage(option: str, text: str, wanted: str) -> CcError:
    return CcError(
        "usage", f"{option} {text}: should be {wanted}", hint="`ccstore run --help` shows examples"
    )
