"""Machines with an agent in them, for tests of its client: QEMU without KVM, channels, a shared folder."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ccstore.guest.agent import Agent, Running
from ccstore.guest.agent_bodies import Container, Process
from ccstore.guest.container import Root, StartedPod, Streams, started_pod
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
    """What a process says."""

    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    @property
    def words(self) -> list[str]:
        return self.out.decode().split()


@dataclass
class Pod:
    """A started pod, and the root that its containers share."""

    agent: Agent
    started: StartedPod
    root: Root
    count: int = 0

    def process(self, *args: str, terminal: bool = False, user: str | None = None) -> Process:
        """A process with an id of its own; one argument is a script."""
        self.count += 1
        words = args if len(args) > 1 else ("/bin/sh", "-c", args[0])
        environment = (("PATH", "/bin"), ("WORDS", 'a "b" \\ \n}ü'))
        return Process(words, f"p{self.count}", environment, terminal=terminal, user=user)

    def run(self, *args: str, stdin: int | None = None, timeout: float = PATIENCE) -> tuple[int, Heard]:
        """Runs a container until its end: status, and what it said."""
        heard = Heard()
        streams = Streams(heard.out.extend, heard.err.extend, stdin)
        return self.started.run(self.root, self.process(*args), streams, timeout=timeout), heard

    def start(self, *args: str, terminal: bool = False, user: str | None = None) -> tuple[Running, Heard]:
        """Starts a container whose id is that of its first process."""
        heard = Heard()
        process = self.process(*args, terminal=terminal, user=user)
        container = Container(process.id, process, self.root.image, self.root.rootfs)
        return self.agent.new_container(container, heard.out.extend, heard.err.extend), heard

    def more(self, container: str, *args: str) -> tuple[Running, Heard]:
        """Starts another process in a container."""
        heard = Heard()
        process = self.process(*args)
        return self.agent.exec(container, process, heard.out.extend, heard.err.extend), heard


@contextlib.contextmanager
def pod(running: Guest, root: Path) -> Iterator[Pod]:
    """A pod in a guest, its containers on a copy of `root`."""
    shutil.copytree(root, running.share / "image/rootfs", symlinks=True)
    with running.connect() as agent, started_pod(agent, hostname="pod0") as started:
        yield Pod(agent, started, Root("image"))
