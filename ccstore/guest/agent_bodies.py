"""What is said to the agent: the bodies of hyperstart's commands, as values.

They are JSON objects with exactly these keys: the agent answers a key that it does not know with an ERROR. It also
puts ids and paths into buffers of fixed size without looking, so what would not fit is refused here (`usage`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from ccstore.errors import CcError

SHARE_TAG = "hyperShared"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")
_MAX_PATH = 200


def encode(body: dict[str, object]) -> bytes:
    """The bytes of a body. Words that are no UTF-8 pass as they are (as Python took them from a command line)."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogateescape")


def file_body(container: str, file: str) -> bytes:
    """READFILE and the head of WRITEFILE, where contents follow after the first `}`: that must be the last byte."""
    _path("a file's path", file)
    data = encode({"container": container, "file": file})
    return data[:-1].replace(b"}", b"\\u007d") + b"}"


@dataclass(frozen=True)
class Address:
    """An address of an interface; `prefix` is the length of the network part, in bits."""

    address: str
    prefix: int

    def body(self) -> dict[str, object]:
        return {"ipAddress": self.address, "netMask": str(self.prefix)}


@dataclass(frozen=True)
class Interface:
    """A network interface to set up; `name` renames it, `mtu` is in bytes."""

    device: str
    addresses: tuple[Address, ...] = ()
    name: str | None = None
    mtu: int | None = None

    def body(self) -> dict[str, object]:
        said: dict[str, object] = {"device": self.device}
        said["ipAddresses"] = [address.body() for address in self.addresses]
        return said | _given(newDeviceName=self.name, mtu=self.mtu)


@dataclass(frozen=True)
class Route:
    """A route; `destination` is a network or `default`."""

    destination: str
    gateway: str
    device: str

    def body(self) -> dict[str, object]:
        return {"dest": self.destination, "gateway": self.gateway, "device": self.device}


@dataclass(frozen=True)
class Pod:
    """STARTPOD. Without a host name the agent would hang, so there always is one.

    `share` is the tag of a 9p folder.
    """

    hostname: str
    share: str | None = None
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.hostname):
            raise _unfit(f"{self.hostname!r} cannot be a host name")

    def body(self) -> dict[str, object]:
        said: dict[str, object] = {"hostname": self.hostname, "containers": []}
        said["interfaces"] = [interface.body() for interface in self.interfaces]
        said["routes"] = [route.body() for route in self.routes]
        if self.dns:
            said["dns"] = list(self.dns)
        return said | _given(shareDir=self.share)


@dataclass(frozen=True)
class Process:
    """A process in a container. `id` is its own in the whole pod. Users and groups are names or numbers.

    With `terminal` it gets a pseudo-terminal, and its stderr comes with its stdout.
    """

    args: tuple[str, ...]
    id: str
    environment: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    terminal: bool = False
    user: str | None = None
    group: str | None = None
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_id("a process", self.id)
        if not self.args or not self.args[0]:
            raise _unfit("a process needs a command")
        pairs = (word for pair in self.environment for word in pair)
        for word in (*self.args, *pairs, self.workdir, self.user or "", self.group or "", *self.groups):
            if "\0" in word:
                raise _unfit(f"{word!r} holds a zero byte")

    def body(self, stdio: int, stderr: int) -> dict[str, object]:
        """As the agent wants it, with the numbers of its streams. A `stderr` of 0 is none, for a terminal alone."""
        said: dict[str, object] = {"id": self.id, "terminal": self.terminal, "stdio": stdio}
        said |= _given(stderr=stderr or None, user=self.user, group=self.group)
        if self.groups:
            said["additionalGroups"] = list(self.groups)
        said["args"] = list(self.args)
        said["envs"] = [{"env": name, "value": value} for name, value in self.environment]
        return said | {"workdir": self.workdir}


@dataclass(frozen=True)
class SharedFolder:
    """A folder of the 9p share, at `path` in the container."""

    source: str
    path: str
    read_only: bool = False

    def body(self) -> dict[str, object]:
        return {
            "source": _path("a shared folder", self.source),
            "path": _path("a path in a container", self.path),
            "readOnly": self.read_only,
            "dockerVolume": False,
        }


@dataclass(frozen=True)
class Volume:
    """A block device (its name in /dev), at `path` in the container; its folder `_data` is what is shown."""

    device: str
    path: str
    file_system: str
    read_only: bool = False

    def body(self) -> dict[str, object]:
        return {
            "device": _path("a device", self.device),
            "mount": _path("a path in a container", self.path),
            "fstype": self.file_system,
            "readOnly": self.read_only,
            "dockerVolume": False,
        }


@dataclass(frozen=True)
class Container:
    """NEWCONTAINER. Its root is the folder `rootfs` of `image`: a folder of the share or a device (`file_system`).

    It needs /etc/passwd and /etc/group, and the folders proc, sys and dev unless `initialize` makes them.
    """

    id: str
    process: Process
    image: str
    rootfs: str = "rootfs"
    file_system: str | None = None
    scsi_address: str | None = None
    initialize: bool = False
    read_only: bool = False
    volumes: tuple[Volume, ...] = ()
    shared: tuple[SharedFolder, ...] = ()
    sysctl: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_id("a container", self.id)
        _path("an image", self.image)
        _path("a root", self.rootfs)

    def body(self, stdio: int, stderr: int) -> dict[str, object]:
        said: dict[str, object] = {"id": self.id, "rootfs": self.rootfs, "image": self.image}
        said |= _given(fstype=self.file_system, addr=self.scsi_address)
        said |= {"process": self.process.body(stdio, stderr)}
        said |= {"initialize": self.initialize, "readOnly": self.read_only}
        if self.volumes:
            said["volumes"] = [volume.body() for volume in self.volumes]
        if self.shared:
            said["fsmap"] = [folder.body() for folder in self.shared]
        if self.sysctl:
            said["sysctl"] = dict(sorted(self.sysctl.items()))
        return said


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value is not None}


def _check_id(what: str, text: str) -> None:
    if not _ID.fullmatch(text):
        raise _unfit(f"{text!r} cannot be the id of {what}")


def _path(what: str, text: str) -> str:
    if "\0" in text or len(text.encode("utf-8", "surrogateescape")) > _MAX_PATH:
        raise _unfit(f"{text!r} cannot be {what}: at most {_MAX_PATH} bytes, none of them zero")
    return text


def _unfit(message: str) -> CcError:
    return CcError(
        "usage",
        message,
        where="the agent's protocol",
        hint="`ccstore run --help` shows what a command and its options can be",
    )
