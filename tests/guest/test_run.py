"""`ccstore run` with the guest's console: real boots of a kernel with a script for init."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Running, code, wait_until
from tests.conftest import Shell, requires, write
from tests.guest import bootable
from tests.guest.bootable import Bootables

PATIENCE = 60


@pytest.fixture(scope="module")
def guests_by_hand(
    kernel: Path, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Bootables:
    tool("qemu-system-x86_64")
    made = bootable.make(tmp_path_factory.mktemp("run"), kernel, tool("busybox"))
    made.add("tiny")
    return made


@pytest.fixture
def made(guests_by_hand: Bootables) -> Iterator[Bootables]:
    """The guests, of which nothing may be left after a test."""
    yield guests_by_hand
    assert guests_by_hand.leftovers() == []


def boots(made: Bootables, what: str, *more: str, target: str = "tiny", status: int = 0) -> str:
    """Runs a guest that does `what`; its console."""
    words = ("run", target, "--append", f"do={what}", *more)
    return made.shell.run(*words, status=status, timeout=PATIENCE).stdout


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_a_guest_that_powers_off_is_a_success(made: Bootables, machine: str) -> None:
    done = made.shell.run(
        "run", "tiny", "--machine", machine, "--cpus", "2", "--memory", "96M", timeout=PATIENCE
    )
    assert "guest: up" in done.stdout
    assert "guest: down" in done.stdout


def test_the_accelerator_is_said_in_one_line_at_most(made: Bootables) -> None:
    done = made.shell.run("run", "tiny", timeout=PATIENCE)
    assert done.stderr == "" or done.stderr.startswith("ccstore: KVM does not work here (")
    assert done.stderr.count("\n") <= 1
    assert made.shell.run("run", "tiny", "--accel", "tcg", timeout=PATIENCE).stderr == ""


def test_the_projects_own_qemu_boots_a_guest(made: Bootables, guests: Shell, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("ccstore.yml", "imports.yml"):
        write(project / "recipes" / name, (guests.project / "recipes" / name).read_text())
    write(project / "recipes/tiny.yml", f"kind: path\npath: {made.shell.project / 'boot/tiny'}\n")
    shell = Shell(project, guests.store)
    done = shell.run("run", "tiny", "--machine", "q35", "--qemu", "qemu", timeout=600)
    assert "guest: down" in done.stdout
    [tree] = shell.realize("qemu")
    line = shell.run("run", "tiny", "--machine", "q35", "--qemu", "qemu", "--dry-run").stdout
    assert line.startswith("env ")
    assert f"QEMU_MODULE_DIR={tree}/usr/lib/x86_64-linux-gnu/qemu" in line


def test_a_panic_is_told_with_how_it_began(made: Bootables) -> None:
    done = made.shell.run("run", "tiny", "--append", "do=exit", status=125, timeout=PATIENCE)
    assert code(done.stderr) == "guest-panicked"
    assert "Attempted to kill init! exitcode=0x00000300" in done.stderr
    assert "  | guest: up\n" in done.stderr


def test_a_panic_that_hangs_does_not_hang_here(made: Bootables) -> None:
    done = made.shell.run("run", "tiny", "--append", "do=exit panic=0", status=125, timeout=PATIENCE)
    assert code(done.stderr) == "guest-panicked"


def test_time_is_up(made: Bootables) -> None:
    done = made.shell.run(
        "run", "tiny", "--append", "do=hang", "--timeout", "3s", status=125, timeout=PATIENCE
    )
    assert code(done.stderr) == "guest-timeout"
    assert "guest: up" in done.stdout


def test_a_flood_is_passed_on_and_not_kept(made: Bootables) -> None:
    done = made.shell.run(
        "run", "tiny", "--append", "do=flood", "--timeout", "3s", status=125, timeout=PATIENCE
    )
    assert code(done.stderr) == "guest-timeout"
    assert done.stdout.count("flood flood") > 100
    assert len(done.stderr) < 10_000


def test_a_flood_that_nobody_reads_stops_in_time_too(made: Bootables) -> None:
    source, sink = os.pipe()
    with subprocess.Popen(
        [*made.shell.program, "run", "tiny", "--append", "do=flood", "--timeout", "3s"],
        cwd=made.shell.project,
        env={**os.environ, **made.shell.environment, "CCSTORE_STORE": str(made.shell.store)},
        stdin=subprocess.DEVNULL,
        stdout=sink,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(sink)
        _, said = process.communicate(timeout=PATIENCE)
    os.close(source)
    assert process.returncode == 125
    assert code(said.decode()) == "guest-timeout"


def test_a_kernel_that_is_none(made: Bootables) -> None:
    folder = made.add("broken")
    (folder / "vmlinux").unlink()
    (folder / "vmlinux").write_bytes(b"no kernel" * 1000)
    done = made.shell.run("run", "broken", status=125, timeout=PATIENCE)
    assert code(done.stderr) == "vmm-failed"
    assert "  | qemu" in done.stderr
    assert "KVM" not in done.stderr.partition("error: ")[2]  # which has no part in it


def test_what_is_typed_reaches_the_guest(made: Bootables) -> None:
    with subprocess.Popen(
        [*made.shell.program, "run", "tiny", "--append", "do=read"],
        cwd=made.shell.project,
        env={**os.environ, **made.shell.environment, "CCSTORE_STORE": str(made.shell.store)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if b"guest: reads" in line:
                break
        process.stdin.write(b"a word\x1d\n")  # Ctrl-] is a byte like others where there is no terminal
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 0
    assert b"guest: read a word\x1d" in rest


@pytest.mark.parametrize(
    ("device", "what", "machine"), [("virtio-blk", "disk", "microvm"), ("pmem", "pmem", "q35")]
)
def test_a_root_image_is_never_written(made: Bootables, device: str, what: str, machine: str) -> None:
    folder = made.add(what, disk={"file": "root.img", "device": device}, machine=machine)
    image = b"pristine\n" * (1 << 18)
    (folder / "root.img").write_bytes(image[: 2 << 20])
    console = boots(made, what, target=what)
    assert "pristin" in console
    stored = made.shell.path(what) / "root.img"
    assert hashlib.sha256(stored.read_bytes()).digest() == hashlib.sha256(image[: 2 << 20]).digest()


def test_persistent_memory_needs_q35(made: Bootables) -> None:
    folder = made.add("memory", disk={"file": "root.img", "device": "pmem"})
    (folder / "root.img").write_bytes(bytes(2 << 20))
    assert code(made.shell.run("run", "memory", "--machine", "microvm", status=125).stderr) == "vmm-unfit"


@pytest.mark.parametrize("machine", ["q35", "microvm"])
def test_volumes_come_after_the_root_in_order(made: Bootables, tmp_path: Path, machine: str) -> None:
    name = f"volumes-{machine}"
    folder = made.add(name, disk={"file": "root.img", "device": "virtio-blk"}, machine=machine)
    (folder / "root.img").write_bytes(b"root\n" + bytes(1 << 20))
    one, two = tmp_path / "one,1.img", tmp_path / "two.img"
    for volume in (one, two):
        volume.write_bytes(bytes(1 << 20))
    console = boots(made, "volume", "--volume", str(one), "--volume", f"{two}:ro", target=name)
    assert "root" in console
    assert "guest: vdc is read-only" in console
    assert one.read_bytes()[:8] == b"written\n"
    assert two.read_bytes() == bytes(1 << 20)


def test_folders_are_shared(made: Bootables, tmp_path: Path) -> None:
    write(tmp_path / "x,y/said", "from the host\n")
    (tmp_path / "b").mkdir()
    console = boots(made, "share", "--share", f"{tmp_path}/x,y:a", "--share", f"{tmp_path}/b:ro")
    assert "from the host" in console
    assert "guest: b is read-only" in console
    assert (tmp_path / "x,y/answer").read_text() == "back\n"
    assert list((tmp_path / "b").iterdir()) == []


@requires(os.geteuid() == 0, "only root can start the virtiofsd of QEMU 7.2")
def test_folders_are_shared_by_virtiofsd(made: Bootables, tmp_path: Path) -> None:
    write(tmp_path / "x,y/said", "from the host\n")
    console = boots(made, "virtiofs", "--machine", "q35", "--virtiofs", "--share", f"{tmp_path}/x,y:a")
    assert "from the host" in console
    assert (tmp_path / "x,y/answer").read_text() == "back\n"


def answer(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plug:
            return plug.recv(100)
    except ConnectionResetError:
        return b""


def test_a_port_leads_into_the_guest(made: Bootables) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = Running(made.shell, "run", "tiny", "--append", "do=serve", "--publish", f"{port}:80")
    try:
        wait_until(lambda: "guest: serves" in running.stdout, what="the guest's service")
        # the guest says so a moment before it listens, and until then connections end at once
        wait_until(lambda: answer(port) == b"served\n", what="its answer")
        assert running.wait() == 0
    finally:
        running.end()


def test_a_port_that_is_taken(made: Bootables) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ("run", "tiny", "--publish", f"{taken.getsockname()[1]}:80")
        done = made.shell.run(*words, status=125, timeout=PATIENCE)
    assert code(done.stderr) == "vmm-failed"
    assert f"port {words[-1].partition(':')[0]} of 127.0.0.1 (tcp) is in use" in done.stderr


def test_no_network(made: Bootables) -> None:
    assert "eth0" in boots(made, "network")
    assert "eth0" not in boots(made, "network", "--no-network")


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_nothing_outlives_ccstore(made: Bootables, number: signal.Signals, status: int) -> None:
    running = Running(made.shell, "run", "tiny", "--append", "do=hang")
    try:
        wait_until(lambda: "guest: up" in running.stdout, what="the guest")
        running.signal(number)
        assert running.wait() == status
        assert made.leftovers() == []
    finally:
        running.end()


class Terminal:
    """A ccstore on a terminal of its own."""

    def __init__(self, made: Bootables, *words: str) -> None:
        self.master, self._slave = pty.openpty()
        self.before = termios.tcgetattr(self._slave)
        os.set_blocking(self.master, False)
        self.heard = b""
        self.process = subprocess.Popen(
            [*made.shell.program, *words],
            cwd=made.shell.project,
            env={**os.environ, **made.shell.environment, "CCSTORE_STORE": str(made.shell.store)},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
        )

    def says(self, words: bytes) -> bool:
        with contextlib.suppress(BlockingIOError):
            self.heard += os.read(self.master, 1 << 16)
        return words in self.heard

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def settings(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminal(made: Bootables) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*words: str) -> Terminal:
        opened.append(Terminal(made, *words))
        return opened[-1]

    yield start
    for each in opened:
        each.end()


def test_on_a_terminal_keys_go_to_the_guest_until_the_way_out(
    made: Bootables, terminal: Callable[..., Terminal]
) -> None:
    it = terminal("run", "tiny", "--append", "do=read")
    wait_until(lambda: it.says(b"guest: reads"), what="the guest")
    assert b"Ctrl-] ends the guest" in it.heard
    assert it.settings() != it.before
    it.type(b"word\x03")  # the guest's Ctrl-C is not ours
    time.sleep(0.3)
    assert it.process.poll() is None
    it.type(b"\x1d")
    assert it.process.wait(PATIENCE) == 0
    assert it.settings() == it.before


def test_every_line_on_a_raw_terminal_starts_at_its_left(
    made: Bootables, terminal: Callable[..., Terminal]
) -> None:
    it = terminal("run", "tiny")
    assert it.process.wait(PATIENCE) == 0
    assert it.says(b"guest: down")
    assert re.search(rb"[^\r]\n", it.heard) is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 130)])
def test_a_terminal_is_given_back_after_a_signal(
    made: Bootables, terminal: Callable[..., Terminal], number: signal.Signals, status: int
) -> None:
    it = terminal("run", "tiny", "--append", "do=hang")
    wait_until(lambda: it.says(b"guest: up"), what="the guest")
    it.process.send_signal(number)
    assert it.process.wait(PATIENCE) == status
    assert it.settings() == it.before


@pytest.mark.parametrize("accelerator", ["auto", "tcg"])
def test_a_command_line_that_can_be_pasted(made: Bootables, accelerator: str) -> None:
    line = made.shell.run("run", "tiny", "--accel", accelerator, "--dry-run").stdout
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )
    assert "guest: down" in done.stdout
