"""Boot time of the disk formats: with a root of some hundred megabytes the same as with one that has nothing else.

Both guests are busybox and a shell script as init; one has a folder of files besides, which do not compress. Guest
time is counted in instructions (`-icount`), so it is that of a machine whose processor and disk never wait for us.
"""

from __future__ import annotations

import random
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ccstore.guest.boot import BootImage
from ccstore.guest.options import Options
from ccstore.guest.programs import host_qemu
from ccstore.guest.qemu import Wiring, arguments
from tests.boots import COMMAND_LINE
from tests.conftest import REPOSITORY, write
from tests.formats import BOOTABLE

DISKS = tuple(name for name in BOOTABLE if not name.endswith("+initrd"))
WANTED, RUNS, FILES = 1.10, 7, 260  # files of 1 MB
MARKER = re.compile(r"\[ *([\d.]+)\] ccstore-guest: user space")
INIT = """#!/bin/sh
mount -t devtmpfs dev /dev
echo '<4>ccstore-guest: user space' >/dev/kmsg
"""
GUEST = f"""kind: guest
kernel: {{image: kernel, cmdline: {COMMAND_LINE} loglevel=5}}
init: [busybox, init%s]
"""

Realize = Callable[[Path, list[str]], list[Path]]


def rows(folder: Path, realize: Realize) -> list[str]:
    """A row of the table for each format; `realize` makes targets of the project in `folder`."""
    _project(folder)
    targets = [f"{guest}.{name}" for name in DISKS for guest in ("small", "big")]
    images = [BootImage.read(path) for path in realize(folder, targets)]
    return [_row(name, small, big) for name, small, big in zip(DISKS, images[::2], images[1::2], strict=True)]


def _project(folder: Path) -> None:
    write(folder / "recipes/ccstore.yml", "project: benchmark\n")
    names = ("kernel", "toolchain", "guest-tools", "busybox", "busybox-source")
    imports = ", ".join(str(REPOSITORY / f"recipes/{name}.yml") for name in names)
    write(folder / "recipes/imports.yml", f"import: [{imports}]\nkind: path\npath: ccstore.yml\n")
    write(folder / "init/init", INIT).chmod(0o755)
    source = random.Random("formats")  # the same files each time: a store keeps one copy of them
    (folder / "data/data").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"data/data/{number:03}").write_bytes(source.randbytes(10**6))
    contents: Mapping[str, str] = {
        "init": "kind: path\npath: ../init\n",
        "data": "kind: path\npath: ../data\n",
        "small": GUEST % "",
        "big": GUEST % ", data",
    }
    for name, text in contents.items():
        write(folder / f"recipes/{name}.yml", text)


def _row(name: str, small: BootImage, big: BootImage) -> str:
    pairs = [(_seconds(big), _seconds(small)) for _ in range(RUNS)]
    ratio = statistics.median(mine / other for mine, other in pairs)
    figures = " / ".join(f"{statistics.median(side):.3f} s" for side in zip(*pairs, strict=True))
    sizes = [f"{image.disk.size / 1e6:.1f} MB" for image in (big, small) if image.disk is not None]
    measured = f"{ratio:.2f} × ({figures} of guest time; median of {RUNS})"
    return (
        f"| `{name}` of {sizes[0]} to user space | the same of {sizes[1]} | ≤ {WANTED:.2f} × | {measured} |"
    )


def _seconds(image: BootImage) -> float:
    """Guest time when its init has written to the kernel's log."""
    qemu = host_qemu() or sys.exit("qemu-system-x86_64 is not installed")
    options = Options(image.machine, "tcg", image.memory, network=False)
    argv = [*qemu.prefix, *arguments(image, options, Wiring()), "-icount", "shift=1,sleep=off"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    console = done.stdout.decode(errors="replace")
    found = MARKER.search(console)
    if found is None:
        raise SystemExit(f"{image.name} said nothing: {console[-2000:]}{done.stderr.decode()[-2000:]}")
    return float(found[1])
