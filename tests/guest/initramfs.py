"""Guests of a few containers, put together without an image recipe: a tree in memory, written as an initramfs.

The layout is what PID 1 reads (kernel/guest/init): /containers/<section>/<NNN>-<name>/{config.json,run}. The archive
is cpio's "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.boots import COMMAND_LINE

IMAGE = "/containers/images/busybox"
FOLDERS = ("proc", "sys", "dev", "run", "tmp", "etc", "var", "mnt")
_MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind"]},
    {"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]},
    {"destination": "/run", "type": "bind", "source": "/run", "options": ["rbind", "rshared"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
]
_CAPABILITIES = [
    "CAP_KILL",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_NET_ADMIN",
    "CAP_DAC_OVERRIDE",
    "CAP_SYS_PTRACE",
]


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
                "capabilities": dict.fromkeys(sets, _CAPABILITIES),
            },
            "root": {"path": root, "readonly": not self.writable},
            "mounts": _MOUNTS,
            "linux": {
                "namespaces": [{"type": each} for each in self.namespaces],
                "rootfsPropagation": "rslave",
            },
        }


@dataclass(frozen=True)
class Description:
    """What a guest consists of besides its components."""

    onboot: tuple[Container, ...] = ()
    services: tuple[Container, ...] = ()
    onshutdown: tuple[Container, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Transcript:
    """What a guest said until its machine was off, and how long that took."""

    console: str
    seconds: float

    def at(self, words: str) -> int:
        """Where that line begins or ends; fails if it is not there."""
        found = self.console.find(words)
        assert found >= 0, f"no {words!r} in:\n{self.console}"
        return found

    def told(self, words: str) -> int:
        """How often a line is just that."""
        return self.console.splitlines().count(words)

    def time_of(self, words: str) -> float:
        """The time stamp of init's line that begins with `words`."""
        found = re.search(rf"^\[ *([\d.]+)\] init: {re.escape(words)}", self.console, re.MULTILINE)
        assert found, f"no line {words!r} of init in:\n{self.console}"
        return float(found[1])


class PowerButton:
    """The one of a QEMU, pressed over its machine protocol (QEMU, docs/interop/qmp-spec)."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()

    def arguments(self) -> list[str]:
        return [
            "-chardev",
            f"socket,id=qmp,fd={self.theirs.fileno()}",
            "-mon",
            "chardev=qmp,mode=control",
        ]

    def press(self) -> None:
        with self._ours, self._ours.makefile("rw") as lines:
            assert "QMP" in json.loads(lines.readline())
            for command in ("qmp_capabilities", "system_powerdown"):
                lines.write(json.dumps({"execute": command}))
                lines.flush()
                assert "error" not in json.loads(lines.readline())


@dataclass(frozen=True)
class SmallGuest:
    """What guests are made of and run by."""

    qemu: str
    kernel: Path
    components: tuple[Path, ...]
    image: Path

    def run(
        self,
        description: Description,
        initramfs: Path,
        machine: str = "q35",
        *,
        read: bool = True,
        press_after: str = "",
        timeout: float = 120,
    ) -> Transcript:
        """Boots a guest until it ends its machine.

        `read=False`: nobody reads its console meanwhile. `press_after`: after a line with these words, somebody
        presses its power button.
        """
        write_initramfs(initramfs, self.components, self.image, description)
        command = [self.qemu, "-M", machine, "-accel", "tcg", "-cpu", "max", "-m", "64M", "-no-reboot"]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"]
        command += ["-kernel", str(self.kernel), "-initrd", str(initramfs)]
        command += ["-append", f"{COMMAND_LINE} quiet"]
        if press_after:
            return _press(command, press_after, timeout)
        began = time.monotonic()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            try:
                if not read:
                    process.wait(timeout)
                console, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise AssertionError(f"the guest did not end:\n{_text(process.communicate()[0])}") from error
        assert process.returncode == 0
        return Transcript(_text(console), time.monotonic() - began)


def _press(command: list[str], words: str, timeout: float) -> Transcript:
    button = PowerButton()
    began = time.monotonic()
    with subprocess.Popen(
        [*command, *button.arguments()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        pass_fds=(button.theirs.fileno(),),
    ) as process:
        button.theirs.close()
        limit = threading.Timer(timeout, process.kill)
        limit.start()
        assert process.stdout
        console = b""
        for line in process.stdout:
            console += line
            if words.encode() in line:
                button.press()
        limit.cancel()
    assert process.returncode == 0, _text(console)
    return Transcript(_text(console), time.monotonic() - began)


def _text(console: bytes) -> str:
    return console.decode(errors="replace").replace("\r", "")


def write_initramfs(to: Path, components: Sequence[Path], image: Path, description: Description) -> Path:
    """Writes a guest: `components` merged at `/`, `image` as the root of every container."""
    tree: dict[str, tuple[int, bytes]] = dict.fromkeys(FOLDERS, (stat.S_IFDIR | 0o755, b""))
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
            content = bytes(path.readlink()) if stat.S_ISLNK(found) else b""
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
