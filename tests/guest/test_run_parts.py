"""What happens around a monitor that misbehaves, without booting one: shell scripts stand in for QEMU."""

from __future__ import annotations

import os
import queue
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import cast

import pytest

from ccstore.errors import CcError
from ccstore.guest import accelerator, child, virtiofs, vmm
from ccstore.guest.agent import Agent, Running
from ccstore.guest.child import Program
from ccstore.guest.command import Signals
from ccstore.guest.launch import Guest
from ccstore.guest.options import Volume
from ccstore.guest.programs import Qemu
from ccstore.guest.qemu import Wiring, arguments, shell_line
from ccstore.guest.session import Machine, Session
from ccstore.guest.watch import Streams, Watch
from tests.cli.conftest import processes_with
from tests.conftest import write
from tests.guest.test_run_words import BLOCK, FULL, INITRD, PLAIN

PATIENCE = 20


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    """What these tests are about is that nothing waits for ever."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it still waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def script(path: Path, text: str) -> Path:
    write(path, f"#!/bin/sh\n{text}\n").chmod(0o755)
    return path


def until_gone(machine: Machine) -> int:
    """Works with an agent that never says anything."""
    assert machine.control.recv(1) == b""
    raise CcError("agent-gone", "it closed its channel")


def test_emulation_that_cannot_be_started_either(tmp_path: Path) -> None:
    qemu = script(tmp_path / "qemu", 'rm "$0"; echo "qemu: KVM is broken" >&2; exit 1')
    session = Session(INITRD, PLAIN, Qemu((str(qemu),)))
    with pytest.raises(CcError) as failure:
        session.work(None, Streams(), until_gone)
    assert failure.value.code == "vmm-failed"
    assert "No such file" in failure.value.message


def test_time_is_up_for_a_monitor_that_keeps_its_channels(tmp_path: Path) -> None:
    qemu = script(tmp_path / "qemu", "exec sleep 1000")
    session = Session(INITRD, replace(PLAIN, accelerator="tcg"), Qemu((str(qemu),)), timeout=0.5)
    with pytest.raises(CcError) as failure:
        session.work(None, Streams(), until_gone)
    assert failure.value.code == "guest-timeout"


@pytest.mark.parametrize("dispensable", [True, False])
def test_a_screen_that_fails(dispensable: bool) -> None:
    source, screen = os.pipe()
    os.close(source)
    with Guest() as guest:
        watch = Watch(guest, Streams(screen=screen, dispensable=dispensable), timeout=10)
        guest.start(Program(["/bin/sh", "-c", "echo one; sleep 0.2; echo two; exit 7"]))
        why = watch.run()
        watch.close()
    os.close(screen)
    assert why == ("ended" if dispensable else "failed")
    with pytest.raises(CcError if dispensable else BrokenPipeError):
        watch.check("it")
    if dispensable:
        assert watch.status == 7
        assert watch.tail.lines() == ("one", "two")


def test_a_guest_with_too_little_memory_says_the_remedy() -> None:
    line = "Kernel panic - not syncing: System is deadlocked on memory"
    with Guest() as guest:
        watch = Watch(guest, Streams())
        guest.start(Program(["/bin/echo", line]))
        watch.run()
        watch.close()
    with pytest.raises(CcError) as failure:
        watch.check("it")
    assert failure.value.code == "guest-panicked"
    assert "--memory 128M" in (failure.value.hint or "")


def test_an_interrupt_while_a_monitor_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = write(tmp_path / "enter.py", "import time; time.sleep(1000)\n")
    monkeypatch.setattr(child, "ENTER", slow)

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(KeyboardInterrupt), Guest() as guest:
        guest.start(Program([sys.executable]))
    signal.signal(signal.SIGALRM, before)
    assert processes_with(str(slow)) == []


def test_nobody_else_can_be_the_client_of_a_file_server(tmp_path: Path) -> None:
    listener, client = virtiofs.connected()
    name = listener.getsockname()
    assert isinstance(name, str), "an abstract name is open to every user"
    assert not Path(name).exists()
    with listener, client, socket.socket(socket.AF_UNIX) as other:
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            other.connect(name)
        server, _ = listener.accept()
        with server:
            client.sendall(b"it is me")
            assert server.recv(20) == b"it is me"
        assert select.select([listener], [], [], 0)[0] == []


def test_a_file_server_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = script(tmp_path / "virtiofsd", "trap '' TERM; echo up >&2; while :; do sleep 0.1; done")
    monkeypatch.setattr(virtiofs, "find", lambda: str(stubborn))
    monkeypatch.setattr(virtiofs, "STOP_SECONDS", 0.2)
    source, errors = os.pipe()
    server = virtiofs.FileServer(tmp_path, errors)
    assert os.read(source, 10) == b"up\n"
    server.stop()
    os.close(source)
    os.close(errors)
    assert processes_with(str(stubborn)) == []


def test_a_host_without_virtiofsd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(virtiofs, "PLACES", ())
    before = os.listdir("/proc/self/fd")
    with pytest.raises(CcError) as failure:
        virtiofs.FileServer(tmp_path, 2)
    assert failure.value.code == "vmm-missing"
    assert os.listdir("/proc/self/fd") == before


def a_block_device(folder: Path) -> Path:
    """Its name is all that is used of it."""
    try:
        os.mknod(folder / "disk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    except PermissionError:
        found = [path for path in Path("/dev").iterdir() if path.is_block_device()]
        if not found:
            pytest.skip("there is no block device here, and this user cannot make one")
        return found[0]
    return folder / "disk"


def test_a_block_device_as_a_volume(tmp_path: Path) -> None:
    for path, driver in ((a_block_device(tmp_path), "host_device"), (write(tmp_path / "file", ""), "file")):
        asked = replace(PLAIN, volumes=(Volume.parse(str(path)),))
        assert f"file.driver={driver},file.filename={path}" in " ".join(arguments(INITRD, asked, Wiring()))


def test_paths_that_cloud_hypervisor_would_take_apart() -> None:
    asked = replace(FULL, shares=(), publish=(), volumes=(Volume(Path("/v,readonly=off")),))
    words = vmm.cloud_hypervisor_arguments(BLOCK, asked)
    assert words[-1] == 'path="/v,readonly=off",readonly=off'
    with pytest.raises(CcError) as failure:
        vmm.cloud_hypervisor_arguments(BLOCK, replace(asked, volumes=(Volume(Path('/v"')),)))
    assert failure.value.code == "vmm-unfit"


def test_a_line_to_paste_sets_variables(tmp_path: Path) -> None:
    program = script(tmp_path / "a qemu", 'echo "$QEMU_MODULE_DIR"')
    session = Session(INITRD, PLAIN, Qemu((str(program),), {"QEMU_MODULE_DIR": "/a b"}))
    command = session.pasted()
    for given in (command, ["sh", "-c", shell_line(command)]):
        done = subprocess.run(given, capture_output=True, text=True, check=True)
        assert done.stdout == "/a b\n"


def test_kvm_is_tried_before_a_line_says_it(tmp_path: Path) -> None:
    broken = script(tmp_path / "broken", 'read word; echo "qemu: failed to set MSR" >&2; kill -ABRT $$')
    assert accelerator.kvm_refusal([str(broken)], {}) == "qemu: failed to set MSR"
    works = script(tmp_path / "works", '[ "$A" = b ] && read word && [ "$word" = quit ]')
    assert accelerator.kvm_refusal([str(works)], {"A": "b"}) == ""


def test_a_name_with_a_comma_adds_no_options() -> None:
    session = Session(replace(INITRD, name="a,b"), PLAIN, Qemu(("qemu",)))
    words = session.pasted(child.ContainerRoot(folder=Path("/share/ccstore/rootfs")))
    assert "socket,path=a,,b.channel0,server=on,wait=off,id=channel0" in words


def test_an_interrupt_before_the_agent_has_answered_waits_for_the_command() -> None:
    passed: queue.SimpleQueue[tuple[Running, int]] = queue.SimpleQueue()

    class Told:
        def signal(self, running: Running, number: int) -> None:
            passed.put((running, number))

    running = Running("c0", "p0", False, 1, 2)
    with Signals(cast(Agent, Told())).taken() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert passed.empty()
        signals.lead_to(running)
        assert passed.get(timeout=PATIENCE) == (running, signal.SIGINT)


def test_the_second_interrupt_ends_what_waits() -> None:
    with Signals(cast(Agent, None)).taken():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
