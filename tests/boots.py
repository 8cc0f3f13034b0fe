"""Boots a kernel in QEMU under software emulation and reads its console."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

MARKER = re.compile(r"ccstore-guest: user space of (\S+) after ([\d.]+) s")
MACHINES = {"q35": (), "microvm,acpi=off": ("-nodefaults", "-no-user-config")}
# no_timer_check: on a busy host, emulated ticks come too late for the kernel to believe in its timer
COMMAND_LINE = "console=ttyS0 panic=-1 reboot=t i8042.noaux=1 no_timer_check"


@dataclass(frozen=True)
class Boot:
    """What the guest's init said: its kernel's release, and its uptime in seconds of guest time."""

    release: str
    seconds: float
    console: str


def boot(
    qemu: str,
    kernel: Path,
    initramfs: Path,
    machine: str = "q35",
    timeout: float = 180,
    *,
    memory: str = "256M",
) -> Boot:
    """Boots `kernel` until its init ends the machine. Fails with the console if the marker never came."""
    command = [qemu, "-M", machine, "-accel", "tcg", "-cpu", "max", "-m", memory, "-display", "none"]
    command += [*MACHINES[machine], "-no-reboot", "-serial", "stdio"]
    command += ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", COMMAND_LINE]
    done = subprocess.run(
        command, capture_output=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
    )
    console = done.stdout.decode(errors="replace")
    found = MARKER.search(console)
    assert found, f"{' '.join(command)}\n{console[-4000:]}\n{done.stderr.decode(errors='replace')}"
    return Boot(found[1], float(found[2]), console)
