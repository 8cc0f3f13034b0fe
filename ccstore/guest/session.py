"""One run of a guest from start to end: its console here, or work to be done with its agent."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ccstore.errors import CcError
from ccstore.guest.boot import BootImage
from ccstore.guest.child import FILE_SERVER, SHARE, ContainerRoot, Program, memory_file
from ccstore.guest.launch import Guest
from ccstore.guest.options import Options, Share
from ccstore.guest.programs import Qemu
from ccstore.guest.qemu import SHARE_IMAGE, SHARE_ROOTFS, SHARE_TAG, Wiring, arguments, quoted
from ccstore.guest.watch import Streams, Watch

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Session:
    """What is booted, by what. `emulate`: software emulation takes over if KVM turns out not to work."""

    image: BootImage
    options: Options
    qemu: Qemu
    emulate: bool = True
    timeout: float | None = None
    note: Note = lambda _: None

    def command(self, wiring: Wiring, options: Options | None = None) -> list[str]:
        return [*self.qemu.prefix, *arguments(self.image, options or self.options, wiring)]

    def pasted(self, root: ContainerRoot | None = None) -> list[str]:
        """A command line for a person's shell: monitor at Ctrl-A c, the agent's channels in the current folder."""
        sockets = tuple(
            f"socket,path={quoted(self.image.name)}.channel{number},server=on,wait=off" for number in (0, 1)
        )
        folder = None if root is None else root.folder
        share = None if folder is None else Share(folder.parent, SHARE_TAG, read_only=True)
        channels = self._nobody() if root is None else (sockets[0], sockets[1])
        servers = tuple(
            f"socket,path={quoted(share.tag)}.virtiofs"
            for share in self.options.shares
            if self.options.virtiofs
        )
        words = self.command(Wiring(channels, share, servers, monitor=True))
        variables = [f"{name}={value}" for name, value in self.qemu.env.items()]
        return ["env", *variables, *words] if variables else words

    def console(self, streams: Streams) -> None:
        """Boots with the console on `streams` until the guest ended, or the user left it.

        Raises `guest-panicked`, `guest-timeout`, `vmm-failed`.
        """
        with Guest() as guest:
            watch = self._start(guest, streams, self._wiring(self._nobody()), None)
            try:
                watch.run()
            finally:
                watch.close()
        watch.check(self.image.name)

    def work(self, root: ContainerRoot | None, streams: Streams, work: Callable[[Machine], int]) -> int:
        """Boots with the agent's channels, has `work` done, and ends the guest. Gives what `work` gave.

        `root` becomes the container's root: the guest gets a private view of it that it may change. When the guest
        ends or panics meanwhile, or time is up, that is what is raised, whatever `work` saw of it.
        """
        with Guest(channels=2) as guest:
            control, terminal = guest.channels
            share = None if root is None else Share(Path(SHARE), SHARE_TAG)
            wiring = self._wiring((control.character_device(), terminal.character_device()), share)
            watch = self._start(guest, streams, wiring, root)
            with _in_background(watch, guest):
                machine = Machine(control.ours, terminal.ours, watch)
                try:
                    return work(machine)
                except CcError as error:
                    raise machine.explain(error, self.image.name) from error

    def _nobody(self) -> tuple[str, str] | None:
        """Channels that nobody is at the other end of: an agent powers its guest off when it finds none."""
        return None if self.image.agent is None else ("null", "null")

    def _wiring(self, channels: tuple[str, str] | None = None, root: Share | None = None) -> Wiring:
        served = range(len(self.options.shares) if self.options.virtiofs else 0)
        return Wiring(channels, root, tuple(f"socket,fd={FILE_SERVER.format(number)}" for number in served))

    def _start(self, guest: Guest, streams: Streams, wiring: Wiring, root: ContainerRoot | None) -> Watch:
        first, second = self._programs(wiring, root)
        watch = Watch(guest, streams, self.timeout, second, self._emulated)
        try:
            guest.start(first)
        except BaseException:
            watch.close()
            raise
        return watch

    def _programs(self, wiring: Wiring, root: ContainerRoot | None) -> tuple[Program, Program | None]:
        first = self._program(self.command(wiring), root)
        if self.options.accelerator != "kvm" or not self.emulate:
            return first, None
        return first, self._program(self.command(wiring, replace(self.options, accelerator="tcg")), root)

    def _program(self, argv: list[str], root: ContainerRoot | None) -> Program:
        env = {**os.environ, **self.qemu.env}
        served = tuple(share.folder for share in self.options.shares) if self.options.virtiofs else ()
        return Program(argv, env, root, f"{SHARE_IMAGE}/{SHARE_ROOTFS}", served=served)

    def _emulated(self, reason: str) -> None:
        self.note(f"KVM does not work here ({reason}): software emulation")


def other_monitor(
    monitor: str, image: BootImage, options: Options, streams: Streams, timeout: float | None
) -> None:
    """Boots by Firecracker or cloud-hypervisor, with the console on `streams`.

    Raises `vmm-missing`, `vmm-unfit`, and what `Session.console` raises.
    """
    from ccstore.guest.vmm import FIRECRACKER, firecracker_config, monitor_command

    config = firecracker_config(image, options) if monitor == FIRECRACKER else ""
    with memory_file(config) as file, Guest() as guest:
        command = monitor_command(monitor, image, options, f"/proc/self/fd/{file}")
        watch = Watch(guest, streams, timeout)
        try:
            guest.start(Program(command, keep=(file,)))
            watch.run()
        finally:
            watch.close()
    watch.check(image.name)


@dataclass(frozen=True, slots=True)
class Machine:
    """A guest that boots: its agent's channels, both connected, and whether it still runs."""

    control: socket.socket
    terminal: socket.socket
    watch: Watch

    def alive(self) -> bool:
        return self.watch.why is None

    def explain(self, error: CcError, name: str) -> CcError:
        """What really went wrong, if the agent's silence has a reason that the console or the monitor knows."""
        self.watch.settle(error.code == "agent-gone")
        try:
            self.watch.check(name)
        except CcError as better:
            return better
        lines = self.watch.tail.lines()
        if self.watch.why == "ended":
            hint = "`ccstore run` without a command shows its console"
            return CcError("guest-ended", f"{name} ended before the command did", details=lines, hint=hint)
        if error.code == "agent-not-ready":
            message = f"the agent of {name} was not ready in time"
            hint = (
                "--ready-timeout gives it more time and --memory more memory; "
                "`ccstore run` without a command shows the whole console"
            )
            return CcError("guest-not-ready", message, details=lines, hint=hint)
        return error


@contextmanager
def _in_background(watch: Watch, guest: Guest) -> Iterator[None]:
    """Watches in a thread of its own, for as long as the work lasts."""
    thread = threading.Thread(target=watch.run, name="guest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.leave()
        guest.stop()
        thread.join()
        watch.close()
