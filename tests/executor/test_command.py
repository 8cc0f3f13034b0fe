"""The printed command, the interactive sandbox, and the operations as data."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from ccstore.executor import enter, layout
from ccstore.executor.process import interpreter
from ccstore.executor.sandbox import Sandbox
from ccstore.ports import Conditions

from .conftest import Builds, alive
from .nested import in_namespaces, mount_tmpfs


def test_the_command_can_be_pasted(builds: Builds) -> None:
    tree = builds.tree("it's a source", {"a": "text\n"})
    script = "cat /in/source/a /in/.builder/note; echo $EXTRA; id -u; exit 9"
    extra = "quotes ' \" $HOME `id` \\ END\u00fc"
    done = builds.run(script, inputs={"source": tree}, env={"EXTRA": extra}, files={"note": "line\n'$x'\n"})
    again = subprocess.run(["/bin/sh", "-c", done.result.command], capture_output=True, text=True)
    assert (again.returncode, again.stdout) == (9, done.log)
    assert done.log == f"text\nline\n'$x'\n{extra}\n1000\n"


def test_the_command_of_a_kept_build_sees_what_it_left(builds: Builds) -> None:
    tree = builds.tree("source", {"a": "text\n"})
    done = builds.run(
        "cat mark; echo there > mark; rm $out/a; exit 9",
        inputs={"source": tree},
        overlays={"out": "source"},
        keep_failed=True,
    )
    again = subprocess.run(["/bin/sh", "-c", done.result.command], capture_output=True, text=True)
    assert (again.returncode, again.stdout.splitlines()[0]) == (9, "there")
    assert "rm:" in again.stderr  # the overlay is as the first run left it


def test_a_pasted_command_says_what_it_could_not_do(builds: Builds) -> None:
    done = builds.run("true")
    broken = done.result.command.replace(str(builds.root.path), f"{builds.place}/nowhere")
    again = subprocess.run(["/bin/sh", "-c", broken], capture_output=True, text=True)
    assert again.returncode == enter.CANNOT_ENTER
    assert "mount --rbind" in again.stderr
    assert "No such file" in again.stderr


def test_operations_are_data_and_back(builds: Builds) -> None:
    tree = builds.tree("source", {"a": ""})
    request = builds.request("", inputs={"x": tree}, overlays={"out": "x"}, files={"f": "t"}, network=True)
    for operation in layout.operations(request):
        kind, *values = json.loads(json.dumps(operation.data()))
        again = enter.OPERATIONS[kind](*values)
        assert vars(again) == vars(operation)
        assert again.describe() == operation.describe() != ""


def test_a_shell_on_a_terminal(builds: Builds) -> None:
    """A terminal of its own, of this one's size, with job control; what a failed build left; its status handed on."""
    kept = builds.run("echo left > note; exit 1", keep_failed=True).request
    script = "cat note; tty; stty size; sleep 0 & wait; jobs; id -u; echo $TERM; exit 7"
    shell = builds.request("", argv=("/bin/sh", "-ic", script), env={"TERM": "dumb"})
    request = replace(shell, scratch=kept.scratch)
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        status = Sandbox().interact(request, terminal=True)
        os.write(1, b"foreground\n" if os.tcgetpgrp(0) == os.getpgrp() else b"background\n")
        os._exit(status)
    text = read_all(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, text
    assert re.search(r"left\s+/dev/pts/0\s+33 111\s.*\s1000\s+dumb\s+foreground\s", text, re.DOTALL), text
    assert "job control" not in text
    assert (kept.scratch / "build/note").exists()


def test_a_terminal_is_joined_to_this_one(builds: Builds) -> None:
    """What is typed arrives, Ctrl-C too; a window that grows does so inside; a long text goes both ways."""
    script = (
        "trap 'echo caught' INT; trap 'stty size' WINCH; echo go; read line; echo \"<$line>\"; "
        "while :; do read line && break; done; stty -echo raw; echo ready; head -c 100000 | tail -c 3"
    )
    request = builds.request("", argv=("/bin/sh", "-c", script))
    child, terminal = pty.fork()
    if child == 0:
        os._exit(Sandbox().interact(request, terminal=True))
    text = read_until(terminal, "go")
    os.write(terminal, b"typed\n")
    text += read_until(terminal, "<typed>")
    os.write(terminal, b"\x03")
    text += read_until(terminal, "caught")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    text += read_until(terminal, "10 20")
    os.write(terminal, b"\n")
    text += read_until(terminal, "ready")
    os.write(terminal, b"x" * 99_997 + b"end")
    text += read_all(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
    assert text.endswith("end")


def test_a_terminal_that_closes_ends_the_sandbox(builds: Builds) -> None:
    mark = f"{os.getpid()}.0{len(str(builds.place))}"
    request = builds.request("", argv=("/bin/sh", "-c", f"trap '' HUP; echo go; sleep {mark}"))
    child, terminal = pty.fork()
    if child == 0:
        try:
            os._exit(Sandbox().interact(request, terminal=True))
        except KeyboardInterrupt:
            os._exit(130)
    read_until(terminal, "go")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    assert not alive(mark)


def test_a_command_that_shares_what_this_process_has(
    builds: Builds, capfd: pytest.CaptureFixture[str]
) -> None:
    script = 'read line; echo "<$line>"; echo oh >&2; tty; exit 3'
    request = builds.request("", argv=("/bin/sh", "-c", script))
    reader, writer = os.pipe()
    os.write(writer, b"word\n")
    os.close(writer)
    saved = os.dup(0)
    os.dup2(reader, 0)
    try:
        assert Sandbox().interact(request, terminal=False) == 3
    finally:
        os.dup2(saved, 0)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("<word>\nnot a tty\n", "oh\n")


def test_a_command_that_is_not_there(builds: Builds, capfd: pytest.CaptureFixture[str]) -> None:
    request = builds.request("", argv=("/bin/nothing",))
    assert Sandbox().interact(request, terminal=False) == enter.NOT_FOUND
    assert "cannot run '/bin/nothing' in the sandbox" in capfd.readouterr().err


def read_until(terminal: int, word: str) -> str:
    text = ""
    while word not in text:
        text += os.read(terminal, 4096).decode()
    return text


def read_all(terminal: int) -> str:
    text = b""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # EIO: the other side is closed
            return text.decode()
        if not data:
            return text.decode()
        text += data


def test_an_older_kernel_is_served_by_remounting(builds: Builds) -> None:
    """Without mount_setattr, every mount below is made read-only and keeps the flags it may not lose."""

    def action() -> None:
        holder = builds.place / "a holder"
        mount_tmpfs(holder)
        mount_tmpfs(holder / "inner one", "size=1m")
        enter.mount("", str(holder), "", enter.MS_REMOUNT | enter.MS_BIND | enter.MS_NOEXEC)
        script = f"""
import sys; sys.path.insert(0, {str(Path(enter.__file__).parent)!r})
import enter, os
enter.SYS_MOUNT_SETATTR = 100000  # no such system call
enter.enter_namespaces(False, {layout.made_by_enter(Conditions())!r})
enter.restrict(sys.argv[1], enter.MS_RDONLY | enter.MS_NOSUID)
for each in (sys.argv[1], sys.argv[1] + "/inner one"):
    print(os.statvfs(each).f_flag & 15)
"""
        command = [interpreter(), "-I", "-S", "-c", script, str(holder)]
        found = subprocess.run(command, capture_output=True, text=True)
        assert found.stdout.split() == ["11", "3"], found.stderr

    in_namespaces(action)


def test_a_link_in_place_of_a_mount_point_is_not_followed(builds: Builds) -> None:
    root = builds.place / "odd"
    (root / "real").mkdir(parents=True)
    (root / "in").symlink_to("/etc")
    (root / "file").touch()
    for target, folder in (
        ("/in", True),
        ("/in/x", True),
        ("/file", True),
        ("/real", False),
        ("/file/x", False),
    ):
        with pytest.raises(NotADirectoryError):
            enter.mount_point(str(root), target, folder)
