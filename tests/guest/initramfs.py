"""Guests of a few containers, put together without an image recipe: a tree in memory, written as an initramfs.

The layout is what PID 1 reads (kernel/guest/init): /containers/<section>/<NNN>-<name>/{config.json,run}. The archive is cpio's
"newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IMAGE = "/containers/images/busybox"
FOLDERS = ("proc", "sys", "dev", "run", "tmp", "etc", "var", "mnt")
_MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind"]},
    {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]},
    {"destination": "/run", "type": "bind", "source": "/run", "options": ["rbind", "rshared"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
]
_CAPABILITIES = ["CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"]


@dataclass(frozen=True)
class Container:
    """A shell script in a container. `run` has the lines of the `run` file, without the root."""

    name: str
    script: str
    run: tuple[str, ...] = ()
    writable: bool = False
    namespaces: tuple[str, ...] = ("mount", "pid")

    def files(self, section: str, number: int) -> Iterator[tuple[str, bytes]]:
        folder = f"containers/{section}/{number:03}-{self.name}"
        root = f"/run/containers/{section}/{self.name}/rootfs" if self.writable else IMAGE
        lines = [f"overlay {IMAGE}" if self.writable else f"root {IMAGE}", *self.run]
        yield f"{folder}/run", "".join(f"{line}\n" for line in lines).encode()
        yield f"{folder}/config.json", json.dumps(self._config(root)).encode()

    def _config(self, root: str) -> dict[str, Any]:
        sets = ("bounding", "effective", "permitted")
        return {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/bin/sh", "-c", self.script],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": {each: _CAPABILITIES for each in sets},
            },
            "root": {"path": root, "readonly": not self.writable},
            "mounts": _MOUNTS,
            "linux": {"namespaces": [{"type": each} for each in self.namespaces]},
        }


@dataclass(frozen=True)
class Description:
    """What a guest consists of besides its components."""

    onboot: tuple[Container, ...] = ()
    services: tuple[Container, ...] = ()
    onshutdown: tuple[Container, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)


def write_initramfs(to: Path, components: list[Path], image: Path, description: Description) -> Path:
    """Writes a guest: `components` merged at `/`, `image` as the root of every container."""
    tree: dict[str, tuple[int, bytes]] = {name: (stat.S_IFDIR | 0o755, b"") for name in FOLDERS}
    for component in components:
        tree |= _read_tree(component, "")
    tree |= _read_tree(image, IMAGE.removeprefix("/") + "/")
    tree["init"] = (stat.S_IFLNK | 0o777, b"/sbin/init")
    for section in ("onboot", "services", "onshutdown"):
        for number, container in enumerate(getattr(description, section)):
            _add_files(tree, dict(container.files(section, number)))
    _add_files(tree, description.files)
    to.write_bytes(b"".join(_archive(tree)))
    return to


def _read_tree(root: Path, prefix: str) -> dict[str, tuple[int, bytes]]:
    tree = _parents(prefix + "x")
    for folder, folders, files in os.walk(root):
        for path in (Path(folder) / name for name in folders + files):
            found = path.lstat().st_mode
            content = os.readlink(path).encode() if stat.S_ISLNK(found) else b""
            if stat.S_ISREG(found):
                content = path.read_bytes()
            tree[prefix + str(path.relative_to(root))] = (found | 0o200, content)
    return tree


def _add_files(tree: dict[str, tuple[int, bytes]], files: dict[str, bytes]) -> None:
    for path, content in files.items():
        tree |= _parents(path)
        tree[path] = (stat.S_IFREG | 0o755, content)


def _parents(path: str) -> dict[str, tuple[int, bytes]]:
    return {str(each): (stat.S_IFDIR | 0o755, b"") for each in list(Path(path).parents)[:-1]}


def _archive(tree: dict[str, tuple[int, bytes]]) -> Iterator[bytes]:
    for number, path in enumerate(sorted(tree), 1):
        yield _entry(number, path, *tree[path])
    yield _entry(0, "TRAILER!!!", 0, b"")


def _entry(number: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (number, mode, 0, 0, links, 1, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % each for each in numbers) + name
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
