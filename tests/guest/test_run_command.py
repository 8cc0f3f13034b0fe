"""`ccstore run TARGET -- COMMAND`: in a container, by the tests' own agent; and agents that never get so far."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boots import COMMAND_LINE
from tests.cli.conftest import Running, code, wait_until
from tests.guest import bootable
from tests.guest.bootable import Bootables
from tests.guest.test_run import PATIENCE, Terminal


@pytest.fixture(scope="module")
def guests_by_hand(
    kernel: Path,
    testagent: Path,
    container_root: Path,
    tool: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bootables:
    tool("qemu-system-x86_64")
    made = bootable.make(tmp_path_factory.mktemp("run"), kernel, tool("busybox"))
    made.add("silent", agent="hyperstart")
    folder = made.add(
        "pod", agent="hyperstart", cmdline=f"{COMMAND_LINE} quiet net.ifnames=0 devtmpfs.mount=0"
    )
    (folder / "initrd.img").write_bytes(testagent.read_bytes())
    made.recipe("root", container_root)
    return made


@pytest.fixture
def made(guests_by_hand: Bootables) -> Iterator[Bootables]:
    yield guests_by_hand
    assert guests_by_hand.leftovers() == []


def in_pod(*command: str) -> tuple[str, ...]:
    return ("run", "pod", "--rootfs", "root", "--", *command)


def test_streams_and_status_come_through(made: Bootables) -> None:
    done = made.shell.run(
        *in_pod("sh", "-c", "echo out; echo err >&2; pwd; exit 7"), status=7, timeout=PATIENCE
    )
    assert done.stdout == "out\n/\n"
    assert "err\n" in done.stderr


def test_what_the_command_is_given(made: Bootables) -> None:
    words = ("run", "pod", "--rootfs", "root", "--env", "A=b c", "--env", "HOME=/tmp", "--workdir", "/tmp")
    done = made.shell.run(*words, "--", "sh", "-c", 'pwd; echo "$A $HOME"', timeout=PATIENCE)
    assert done.stdout == "/tmp\nb c /tmp\n"


def test_the_root_is_a_private_view(made: Bootables, container_root: Path) -> None:
    before = sorted(str(path) for path in container_root.rglob("*"))
    script = "echo changed >/etc/passwd; rm -r /tmp; mkdir /tmp; touch /tmp/new /new; ls /tmp /new"
    words = ("run", "pod", "--rootfs", str(container_root), "--", "sh", "-c", script)
    assert made.shell.run(*words, timeout=PATIENCE).stdout == "/new\n\n/tmp:\nnew\n"
    assert sorted(str(path) for path in container_root.rglob("*")) == before
    assert (container_root / "etc/passwd").read_text().startswith("root:")


def test_on_a_terminal(made: Bootables) -> None:
    it = Terminal(made, *in_pod("sh", "-c", "tty && stty size; read x; stty size; read y; exit 3"))
    try:
        os.set_blocking(it.master, True)
        resize(it, 30, 100)
        os.set_blocking(it.master, False)
        wait_until(lambda: it.says(b"30 100"), what="the terminal's size")
        resize(it, 40, 120)
        it.type(b"\r")
        wait_until(lambda: it.says(b"40 120"), what="the terminal's new size")
        it.type(b"\r")
        assert it.process.wait(PATIENCE) == 3
        assert it.settings() == it.before
    finally:
        it.end()


def resize(it: Terminal, rows: int, columns: int) -> None:
    fcntl.ioctl(it.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    it.process.send_signal(signal.SIGWINCH)


def test_ctrl_c_goes_to_the_command_first(made: Bootables) -> None:
    running = Running(
        made.shell, *in_pod("sh", "-c", "trap 'echo caught' INT; echo up; while :; do sleep 0.1; done")
    )
    try:
        wait_until(lambda: "up" in running.stdout, what="the command")
        running.signal(signal.SIGINT)
        wait_until(lambda: "caught" in running.stdout, what="the signal")
        assert running.process.poll() is None
        running.signal(signal.SIGINT)
        assert running.wait() == 130
    finally:
        running.end()


def test_nothing_outlives_ccstore(made: Bootables) -> None:
    running = Running(made.shell, *in_pod("sh", "-c", "echo up; sleep 1000"))
    try:
        wait_until(lambda: "up" in running.stdout, what="the command")
        running.signal(signal.SIGKILL)
        running.wait()
    finally:
        running.end()


def test_time_is_up(made: Bootables) -> None:
    words = ("run", "pod", "--rootfs", "root", "--timeout", "5s", "--", "sleep", "1000")
    assert code(made.shell.run(*words, status=125, timeout=PATIENCE).stderr) == "guest-timeout"


@pytest.mark.parametrize(
    ("what", "error"), [("hang", "guest-not-ready"), ("exit", "guest-panicked"), ("nothing", "guest-ended")]
)
def test_an_agent_that_never_gets_ready(made: Bootables, what: str, error: str) -> None:
    words = (
        "run",
        "silent",
        "--rootfs",
        "root",
        "--append",
        f"do={what}",
        "--ready-timeout",
        "4s",
        "--",
        "true",
    )
    done = made.shell.run(*words, status=125, timeout=PATIENCE)
    assert code(done.stderr) == error
    assert "  | guest: up\n" in done.stderr
    assert done.stdout == ""


def test_a_guest_without_an_agent_runs_no_command(made: Bootables) -> None:
    made.add("plain")
    done = made.shell.run("run", "plain", "--rootfs", "root", "--", "true", status=125)
    assert code(done.stderr) == "vmm-unfit"
