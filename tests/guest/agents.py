"""Machines with an agent in them, for tests of its client: QEMU under software emulation, channels, a shared folder."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.guest.agent import Agent
from tests.boots import COMMAND_LINE

# a guest under emulation shares two cores with everything else that CI does
PATIENCE = 120.0
_CHANNELS = ("control", "terminal")


@dataclass(frozen=True)
class Machine:
    """What a guest with an agent consists of."""

    qemu: str
    kernel: Path
    initramfs: Path
    options: tuple[str, ...] = ()


@dataclass
class Guest:
    """A machine that runs."""

    folder: Path
    process: subprocess.Popen[bytes]
    share: Path

    @property
    def control(self) -> Path:
        return self.folder / "control"

    @property
    def terminal(self) -> Path:
        return self.folder / "terminal"

    def alive(self) -> bool:
        return self.process.poll() is None

    def connect(self, timeout: float = PATIENCE, reply_timeout: float = PATIENCE) -> Agent:
        return Agent.connect(
            self.control, self.terminal, timeout=timeout, reply_timeout=reply_timeout, alive=self.alive
        )

    def console(self) -> str:
        return (self.folder / "console").read_text(errors="replace")


@contextlib.contextmanager
def guest(machine: Machine, folder: Path, words: str = "") -> Iterator[Guest]:
    """Starts a machine with `words` on its kernel's command line; it is gone afterwards."""
    share = folder / "share"
    share.mkdir(parents=True, exist_ok=True)
    command = [machine.qemu, "-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256M", "-no-reboot"]
    command += ["-display", "none", "-nodefaults", "-no-user-config", "-serial", f"file:{folder}/console"]
    command += ["-kernel", str(machine.kernel), "-initrd", str(machine.initramfs)]
    command += ["-append", f"{COMMAND_LINE} net.ifnames=0 {words}", "-device", "virtio-serial-pci"]
    for i, name in enumerate(_CHANNELS):
        command += ["-chardev", f"socket,id={name},path={folder}/{name},server=on,wait=off"]
        command += ["-device", f"virtserialport,chardev={name},name=sh.hyper.channel.{i}"]
    command += ["-fsdev", f"local,id=share,path={share},security_model=none"]
    command += ["-device", "virtio-9p-pci,fsdev=share,mount_tag=hyperShared"]
    command += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net", *machine.options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield Guest(folder, process, share)
    finally:
        process.kill()
        process.wait()


@dataclass
class Heard:
    """What a process said."""

    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return self.out.decode()
