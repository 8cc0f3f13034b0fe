"""PID 1 of a guest whose disk will lose its power: realizes one version of a project after the other, and collects.

The guest's root is the host's, read-only. Arguments: the folder to mount the disk at, and the projects. What is done
is written down on the raw disk behind the file system, unflushed, and so lies in the log at its place.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import traceback
from pathlib import Path

from tests.crash.tiny import Tiny

DISK, SECTOR = "/dev/vda", 512
FILE_SYSTEM = 64 << 20  # bytes of the disk; marks come after it
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC


class Marks:
    """Writes texts to the raw disk, past the page cache."""

    def __init__(self) -> None:
        self._disk = os.open(DISK, os.O_WRONLY | os.O_DIRECT)
        self._sector = mmap.mmap(-1, SECTOR)  # O_DIRECT wants an aligned address
        self._at = FILE_SYSTEM

    def write(self, text: str) -> None:
        self._sector[:] = text.encode().ljust(SECTOR, b"\0")
        os.pwrite(self._disk, self._sector, self._at)
        self._at += SECTOR
        print(f"ccstore-guest: {text}", flush=True)


def work(place: Path, projects: list[Path]) -> None:
    subprocess.run(["mount", "-t", "ext4", DISK, place], check=True)
    marks = Marks()
    for number, project in enumerate(projects):
        tiny = Tiny(project, place / "store")
        answers = tiny.realize()
        marks.write(f"realized {number} {' '.join(answers)}")
        marks.write(f"collects {number}")
        tiny.collect()
        marks.write(f"collected {number}")
    subprocess.run(["umount", place], check=True)
    print("ccstore-guest: done", flush=True)


def main() -> None:
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    try:
        work(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])
    except BaseException:
        traceback.print_exc()
    finally:
        ctypes.CDLL(None).reboot(LINUX_REBOOT_CMD_POWER_OFF)


if __name__ == "__main__":
    main()
