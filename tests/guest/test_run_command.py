"""`ccstore run TARGET -- COMMAND`: in a container, by the tests' own agent; and agents that never get so far."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import signal
import struct
import tarfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boots import COMMAND_LINE
from tests.builders.images import write_layout
from tests.cli.conftest import Running, code, wait_until
from tests.conftest import write
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


def packed(folder: Path) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, ".")
    return archive.getvalue()


@pytest.fixture
def layout(container_root: Path, tmp_path: Path) -> Path:
    """An image of the container's root without its users, in two layers."""
    upper = tmp_path / "upper"
    for name in ("etc/.wh.passwd", "etc/.wh.group", "said"):
        write(upper / name, "by the image\n")
    return write_layout(tmp_path / "image", [packed(container_root), packed(upper)])


@pytest.mark.parametrize("by_digest", [True, False])
def test_an_image_is_a_root(made: Bootables, layout: Path, by_digest: bool) -> None:
    [manifest] = json.loads((layout / "index.json").read_text())["manifests"]
    name = f"oci:{layout}@{manifest['digest']}" if by_digest else f"oci:{layout}"
    script = "cat /said; rm /said; cut -d: -f1 /etc/passwd; ls -a /etc"
    done = made.shell.run("run", "pod", "--rootfs", name, "--", "sh", "-c", script, timeout=PATIENCE)
    assert done.stdout.startswith("by the image\nroot\n")
    assert ".wh." not in done.stdout


def test_an_image_that_is_damaged(made: Bootables, layout: Path) -> None:
    [manifest] = json.loads((layout / "index.json").read_text())["manifests"]
    for blob in (layout / "blobs/sha256").iterdir():
        if blob.stat().st_size > 100_000:
            blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    for name, error in (
        (f"oci:{layout}", "image-corrupt"),
        (f"oci:{layout}@{manifest['digest']}", "hash-mismatch"),
    ):
        done = made.shell.run("run", "pod", "--rootfs", name, "--", "true", status=125, timeout=PATIENCE)
        assert code(done.stderr) == error


def test_a_bare_folder_is_a_root_and_its_links_lead_nowhere(
    made: Bootables, container_root: Path, tmp_path: Path
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    outside.mkdir()
    (root / "bin").mkdir(parents=True)
    shutil.copy(container_root / "bin/busybox", root / "bin/busybox")
    words = ("run", "pod", "--rootfs", str(root), "--", "/bin/busybox", "cat", "/etc/group")
    assert made.shell.run(*words, timeout=PATIENCE).stdout == "root:x:0:\n"
    (root / "etc").symlink_to(outside)
    made.shell.run(*words, status=None, timeout=PATIENCE)
    assert list(outside.iterdir()) == []


def test_a_collection_leaves_what_a_guest_runs_on(
    made: Bootables, container_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(container_root, tmp_path / "tree", symlinks=True)
    said = write(tmp_path / "tree/said", "before\n")
    made.recipe("changing", tmp_path / "tree")
    script = "trap 'cat /said; exit 3' INT; echo up; while :; do sleep 0.1; done"
    running = Running(made.shell, "run", "pod", "--rootfs", "changing", "--", "sh", "-c", script)
    try:
        wait_until(lambda: "up" in running.stdout, what="the command")
        before = made.shell.path("changing")
        said.write_text("after\n")
        assert made.shell.realize("changing")[0] != before
        made.shell.run("gc")
        assert before.exists()
        running.signal(signal.SIGINT)
        assert running.wait() == 3
        assert running.stdout == "up\nbefore\n"
    finally:
        running.end()
    made.shell.run("gc")
    assert not before.exists()


def test_an_image_half_unpacked_is_collected(made: Bootables, layout: Path) -> None:
    large = write(layout.parent / "large/zeros", "")
    os.truncate(large, 256 << 20)
    image = write_layout(layout.parent / "large-image", [packed(large.parent)])
    scratch = made.shell.store / "objects"
    running = Running(made.shell, "run", "pod", "--rootfs", f"oci:{image}", "--", "true")
    try:
        wait_until(lambda: list(scratch.glob(".tmp-*-rootfs/*")), what="the image's tree")
        running.signal(signal.SIGKILL)
        running.wait()
    finally:
        running.end()
    assert list(scratch.glob(".tmp-*")) != []
    made.shell.run("gc")
    assert list(scratch.glob(".tmp-*")) == []


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


def test_the_console_of_a_guest_with_an_agent_stays(made: Bootables) -> None:
    done = made.shell.run("run", "pod", "--timeout", "4s", status=125, timeout=PATIENCE)
    assert code(done.stderr) == "guest-timeout"


def test_a_root_that_this_user_cannot_read(made: Bootables, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every folder")
    (tmp_path / "root/closed").mkdir(parents=True)
    (tmp_path / "root/closed").chmod(0)
    root = ("--rootfs", str(tmp_path / "root"), "--workdir", "/closed/below")
    done = made.shell.run("run", "pod", *root, "--", "true", status=125)
    assert code(done.stderr) == "file-missing"
    assert f"{tmp_path}/root/closed" in done.stderr


def test_a_command_that_a_signal_ends(made: Bootables) -> None:
    made.shell.run(*in_pod("sh", "-c", "kill -KILL $$"), status=137, timeout=PATIENCE)


def test_a_guest_without_an_agent_runs_no_command(made: Bootables) -> None:
    made.add("plain")
    done = made.shell.run("run", "plain", "--rootfs", "root", "--", "true", status=125)
    assert code(done.stderr) == "vmm-unfit"
