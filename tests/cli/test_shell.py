"""`ccstore shell` and `realize --shell-on-failure`: a build's sandbox by hand."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.cli.conftest import Project, Running, built, code, leftovers, wait_until
from tests.conftest import Shell, TinyProject

FAILING = ("echo left >file", "echo 1 >>$out/data", "rm $out/other", "exit 3")


@pytest.fixture
def failing(small: Project) -> Project:
    """A project whose build `bad` changes a tree and then fails."""
    (small.root / "tree").mkdir()
    for name in ("data", "other"):
        (small.root / "tree" / name).write_text("0\n")
    (small.root / "tree/data").chmod(0o755)
    script = ("cd /build", "chmod u+w $out/data", *FAILING)
    small.script("bad", *script, inputs="{tree: {path: ../tree}}", overlays="{out: tree}")
    return small


def typed(shell: Shell, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with `text` on its standard input."""
    environment = {**os.environ, "CCSTORE_STORE": str(shell.store)}
    command = [*shell.program, *arguments]
    return subprocess.run(
        command, cwd=shell.project, env=environment, input=text, capture_output=True, text=True, timeout=120
    )


class Terminal:
    """A command on a terminal of 30 lines and 90 columns."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self.ours, self.theirs = ours, theirs
        self.text = ""
        self.process = subprocess.Popen(
            [*shell.program, *arguments],
            cwd=shell.project,
            env={**os.environ, "CCSTORE_STORE": str(shell.store), "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    def see(self, pattern: str) -> None:
        """Reads until `pattern` has come since the last time."""
        seen = ""
        while not re.search(pattern, seen):
            seen += os.read(self.ours, 4096).decode()
        self.text += seen

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """The exit status; the terminal must be as it was."""
        status = self.process.wait(60)
        assert termios.tcgetattr(self.theirs) == self.before
        os.close(self.theirs)
        os.close(self.ours)
        return status


def test_a_command_in_the_sandbox_of_a_build(session_kernel: TinyProject) -> None:
    script = "ls /in /in/.builder; echo $LOCALVERSION.$CCSTORE_CORES; pwd; id -u; cat; exit 7"
    found = typed(session_kernel.shell, "word\n", "shell", "kernel", "--cores", "5", "--", "sh", "-c", script)
    lines = "/in:\nconfig\ntree\n\n/in/.builder:\nelfpack.py\nkernel.sh\n.5\n/build\n1000\nword\n"
    assert (found.returncode, found.stdout, found.stderr) == (7, lines, "")


def test_a_shell_reads_what_the_caller_gives_and_can_build(session_kernel: TinyProject) -> None:
    found = typed(
        session_kernel.shell, "sh /in/.builder/kernel.sh >log 2>&1; ls $out; exit\n", "shell", "kernel"
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == ["System.map", "bzImage", "config", "kernel-source-info", "vmlinux"]
    assert "its command is `/bin/sh /in/.builder/kernel.sh`" in found.stderr
    assert leftovers(session_kernel.shell.store) == []


def test_what_the_build_needs_is_made_first(small: Project) -> None:
    small.script("first", "echo 1 >$out")
    small.script("second", "cp /in/first $out", inputs="{first: first}")
    found = small.shell.run("shell", "second", "--", "cat", "/in/first")
    assert (found.stdout, built(found.stderr)) == ("1\n", ["first"])


def test_a_shell_on_a_terminal(small: Project) -> None:
    small.script("one", "echo 1 >$out")
    terminal = Terminal(small.shell, "shell", "one")
    terminal.see(r"\[one\] ~\$ ")
    terminal.type("tty; stty size; sleep 100\n")
    terminal.see("/dev/pts/0\r\n30 90\r\n")
    terminal.type("\x03")
    terminal.see(r"\[one\] ~\$ ")
    terminal.type("sleep 100 & jobs\n")
    terminal.see(r"Running +sleep 100")
    fcntl.ioctl(terminal.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    os.kill(terminal.process.pid, 28)  # SIGWINCH: the terminal is not the one that the process was started on
    terminal.type("stty size\n")
    terminal.see("10 20\r\n")
    terminal.type("exit 4\n")
    assert terminal.end() == 4
    assert "job control" not in terminal.text


def test_a_failed_build_that_was_kept(failing: Project) -> None:
    shell = failing.shell
    done = shell.run("realize", "bad", "--keep-failed", status=3)
    assert "`ccstore shell bad` enters it" in done.stderr
    look = ("shell", "bad", "--", "sh", "-c", "cat file $out/data; ls $out; echo 2 >>file")
    assert shell.run(*look).stdout == "left\n0\n1\ndata\n"
    assert shell.run(*look).stdout == "left\n2\n0\n1\ndata\n"
    fresh = shell.run("shell", "bad", "--fresh", "--", "sh", "-c", "ls; cat $out/data; ls $out")
    assert fresh.stdout == "0\ndata\nother\n"
    failing.script("bad", "echo 1 >$out")
    shell.realize("bad")  # a failure that is mended is of no interest
    assert shell.run("shell", "bad", "--", "ls", "/build").stdout == ""


def test_nobody_else_enters_it_at_the_same_time(failing: Project) -> None:
    failing.shell.run("realize", "bad", "--keep-failed", status=3)
    running = Running(failing.shell, "shell", "bad", "--", "sh", "-c", "echo in; sleep 100")
    try:
        wait_until(lambda: running.stdout)
        found = failing.shell.run("shell", "bad", "--", "true", status=125)
        assert code(found.stderr) == "store-busy"
    finally:
        running.process.terminate()
        assert running.wait() == 143
    failing.shell.run("shell", "bad", "--", "true")


def test_its_inputs_may_have_been_collected(failing: Project) -> None:
    shell = failing.shell
    shell.run("realize", "bad", "--keep-failed", status=3)
    shell.run("gc")
    assert code(shell.run("shell", "bad", "--", "true", status=125).stderr) == "not-found"


@pytest.mark.parametrize("keep", [[], ["--keep-failed"]])
def test_a_shell_on_failure(failing: Project, keep: list[str]) -> None:
    arguments = ("realize", "bad", "--shell-on-failure", *keep)
    found = typed(failing.shell, "cat file $out/data; exit 5\n", *arguments)
    assert (found.returncode, found.stdout) == (3, "left\n0\n1\n")
    assert code(found.stderr) == "build-failed"
    left = list((failing.shell.store / "failed").iterdir())
    assert len(left) == len(keep)
    assert ("is removed; --keep-failed keeps it" in found.stderr) == (not keep)


def test_a_shell_on_failure_on_a_terminal(failing: Project) -> None:
    terminal = Terminal(failing.shell, "realize", "bad", "--shell-on-failure")
    terminal.see(r"\[bad\] ~\$ ")
    terminal.type("cat file\n")
    terminal.see("left\r\n")
    terminal.type("exit\n")
    terminal.see("is removed")
    assert terminal.end() == 3


def test_no_shell_without_a_failure(small: Project) -> None:
    small.script("one", "echo 1 >$out")
    [path] = [Path(line) for line in small.shell.run("realize", "one", "--shell-on-failure").stdout.split()]
    assert path.read_text() == "1\n"
    assert small.shell.run("realize", "two", "--shell-on-failure", status=2).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shell", "kernel.source"], "usage"),
        (["shell", "toolchain"], "usage"),
        (["shell", "kernle"], "recipe-unknown"),
        (["shell", "kernel", "--nope"], "usage"),
    ],
)
def test_failures_of_its_own(session_kernel: TinyProject, arguments: list[str], expected: str) -> None:
    assert code(session_kernel.shell.run(*arguments, status=125).stderr) == expected


def test_a_command_that_is_not_there(session_kernel: TinyProject) -> None:
    found = session_kernel.shell.run("shell", "kernel", "--", "nothing", status=127)
    assert "cannot run 'nothing' in the sandbox" in found.stderr


def test_a_record_that_is_broken_is_no_kept_build(failing: Project) -> None:
    failing.shell.run("realize", "bad", "--keep-failed", status=3)
    [folder] = (failing.shell.store / "failed").iterdir()
    record = json.loads((folder / "kept.json").read_text())
    for text in (
        "",
        "[]",
        json.dumps({**record, "inputs": {"x": "../y"}}),
        json.dumps({**record, "format": 2}),
    ):
        (folder / "kept.json").write_text(text)
        assert failing.shell.run("shell", "bad", "--", "ls", "/build").stdout == ""
