"""Bootable folders made by hand: a kernel, an initramfs of busybox with one script, and a boot.json."""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.boots import COMMAND_LINE
from tests.cli.conftest import processes_with
from tests.conftest import Shell, write

# what the guest does is a word of the kernel's command line: do=NAME
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for word in $(cat /proc/cmdline); do case $word in do=*) todo=${word#do=};; esac; done
echo "guest: up"
case $todo in
exit) exit 3;;
hang) while :; do sleep 1000; done;;
flood) while :; do echo flood flood flood flood flood flood flood flood flood flood; done;;
read) echo "guest: reads"; read line; echo "guest: read $line";;
size) echo "guest: reads"; read line; stty size;;
disk) echo changed | dd of=/dev/vda conv=fsync 2>&1 | tail -n 1; head -c 7 /dev/vda;;
pmem) echo changed | dd of=/dev/pmem0 conv=fsync 2>&1 | tail -n 1; head -c 7 /dev/pmem0;;
volume) head -c 5 /dev/vda; echo written | dd of=/dev/vdb conv=fsync 2>/dev/null;
    echo | dd of=/dev/vdc 2>/dev/null || echo "guest: vdc is read-only";;
share) mkdir /a /b; mount -t 9p -o trans=virtio a /a; mount -t 9p -o trans=virtio b /b
    cat /a/said; echo back >/a/answer; echo no 2>/dev/null >/b/answer || echo "guest: b is read-only";;
virtiofs) mkdir /a; mount -t virtiofs a /a; cat /a/said; echo back >/a/answer;;
serve) ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; echo "guest: serves"; echo served | nc -l -p 80;;
network) ls /sys/class/net;;
esac
echo "guest: down"
[ -d /sys/firmware/acpi ] && poweroff -f
reboot -f
"""


def cpio(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """An archive in the format that the kernel unpacks (newc); folders come before what is in them."""
    parts = []
    for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        path = name.encode() + b"\0"
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
    return b"".join(parts)


def busybox_initramfs(busybox: Path) -> bytes:
    folders = dict.fromkeys(("bin", "dev", "proc", "sys"), (stat.S_IFDIR | 0o755, b""))
    programs = {"bin/busybox": (stat.S_IFREG | 0o755, busybox.read_bytes())}
    return cpio({**folders, **programs, "init": (stat.S_IFREG | 0o755, INIT.encode())})


@dataclass
class Bootables:
    """A project of bootable folders, and what `ccstore run` makes of them."""

    shell: Shell
    kernel: Path
    initramfs: bytes
    temporary: Path

    def add(self, name: str, **fields: object) -> Path:
        """A folder that boots busybox's initramfs, as a recipe `name`; `fields` go over those of its boot.json."""
        folder = self.shell.project / "boot" / name
        folder.mkdir(parents=True)
        os.link(self.kernel, folder / "vmlinux")
        (folder / "initrd.img").write_bytes(self.initramfs)
        write(folder / "boot.json", json.dumps(boot_json(name) | fields))
        self.recipe(name, f"../boot/{name}")
        return folder

    def recipe(self, name: str, path: str | Path) -> None:
        write(self.shell.project / f"recipes/{name}.yml", f"kind: path\npath: {path}\n")

    def leftovers(self) -> list[str]:
        """Processes and files that a run must not leave behind."""
        end = time.monotonic() + 5
        while time.monotonic() < end and processes_with(str(self.shell.store)):
            time.sleep(0.05)
        return processes_with(str(self.shell.store)) + [str(path) for path in self.temporary.iterdir()]


def boot_json(name: str) -> dict[str, object]:
    return {
        "version": 1,
        "name": name,
        "format": "vmlinux+initrd",
        "kernel": "vmlinux",
        "initrd": "initrd.img",
        "disk": None,
        "cmdline": f"{COMMAND_LINE} quiet net.ifnames=0",
        "machine": "microvm",
        "memory": "128M",
        "agent": None,
        "verity": None,
    }


def make(folder: Path, kernel: Path, busybox: str) -> Bootables:
    project = folder / "project"
    write(project / "recipes/ccstore.yml", "project: bootables\n")
    temporary = folder / "temporary"
    temporary.mkdir()
    shell = Shell(project, folder / "store", {"TMPDIR": str(temporary)})
    local = folder / "vmlinux"
    shutil.copy(kernel, local)
    return Bootables(shell, local, busybox_initramfs(Path(busybox)), temporary)
