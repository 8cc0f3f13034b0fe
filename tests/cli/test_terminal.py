"""What a build, a server or a file name may show on a person's terminal: text, and nothing that commands it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from functools import partial
from itertools import pairwise

import pytest

from ccstore.cli.live import live_view
from ccstore.cli.terminal import shown
from ccstore.events import Finished, Placed, Started

from .conftest import Project, wait_until


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("gcc: error: ‘x’ undeclared, größer", "gcc: error: ‘x’ undeclared, größer"),
        ("a\tb", "a\tb"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("\x9b31m", "\\x9b31m"),
        ("over\rwritten\nforged", "over\\rwritten\\nforged"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("not UTF-8: \udcff", "not UTF-8: \\udcff"),
    ],
)
def test_what_could_command_a_terminal_is_made_visible(text: str, wanted: str) -> None:
    assert shown(text) == wanted


FORGED = (
    r"""printf '{"code": "build-failed", "message": "\\u001b[2Jm\\nerror: forged", "details": ["\\u001b[1md"],"""
    r""" "hint": "\\u001b[5mh"}' > $CCSTORE_REPORT; exit 1"""
)


def test_a_report_and_a_log_cannot_command_the_terminal(small: Project) -> None:
    small.script("forger", r"printf 'line\033[31m\r\n'", FORGED)
    found = small.shell.run("realize", "forger", "--verbose", status=3)
    assert "forger> line\\x1b[31m" in found.stderr
    assert "error: forger: \\x1b[2Jm\\nerror: forged [build-failed]" in found.stderr
    assert "  | \\x1b[1md" in found.stderr
    assert "  next: \\x1b[5mh" in found.stderr
    assert "\x1b" not in found.stderr


def test_a_log_is_shown_harmless_on_a_terminal_and_as_it_is_elsewhere(small: Project) -> None:
    small.script("red", r"printf 'a\033[31m\nb\033'; echo > /out/out")
    small.shell.run("realize", "red")
    assert small.shell.run("log", "red").stdout == "a\x1b[31m\nb\x1b"
    ours, theirs = pty.openpty()
    command = [*small.shell.program, "log", "red"]
    environment = {**os.environ, "CCSTORE_STORE": str(small.shell.store), **small.shell.environment}
    subprocess.run(command, cwd=small.root, stdout=theirs, env=environment, check=True)
    os.close(theirs)
    assert os.read(ours, 1000) == b"a\\x1b[31m\r\nb\\x1b\r\n"
    os.close(ours)


def test_a_terminal_sees_how_long_all_of_it_takes(small: Project) -> None:
    for run in ("first", "second"):
        small.script("one", f"sleep 2.5; echo {run} > $out")
        small.script("two", f"sleep 2.5; echo {run} > $out", inputs="{one: one}")
        planned = json.loads(small.shell.run("plan", "two", "--json").stdout)
        screen = seen(small, "realize", "two")
    times = [float(each) for each in re.findall(r"all done in about ([\d.]+) s", screen)]
    expected = planned[-1]["expectedEnd"]
    assert expected >= 5
    assert expected / 2 < times[0] <= expected + 0.1  # a busy machine draws late; a tenth is shown
    assert times[-1] < expected / 2
    # A line that is printed brings the view as it was drawn last, and may come after a newer one.
    assert all(later < earlier + 1 for earlier, later in pairwise(times)), times


def seen(small: Project, *arguments: str) -> str:
    """What a terminal is sent while a command runs."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "CCSTORE_STORE": str(small.shell.store), "TERM": "xterm", "COLUMNS": "100"}
    running = subprocess.Popen(
        [*small.shell.program, *arguments], cwd=small.root, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    sent = b""
    with suppress(OSError):  # EIO: nobody has the other end any more
        while data := os.read(ours, 1 << 16):
            sent += data
    os.close(ours)
    assert running.wait() == 0, sent.decode()
    return _plain(sent.decode())


def _plain(sent: str) -> str:
    return re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", sent)


class Screen(io.StringIO):
    """A terminal that keeps what it was sent."""

    def isatty(self) -> bool:
        return True

    def shows(self, words: str) -> bool:
        return words in _plain(self.getvalue())


PLACES = {"w1": "x build on w1", "": "x build waits for a worker", "\x1b[2Jw2": "x build on \\x1b[2Jw2"}


def test_a_terminal_sees_where_each_build_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", screen)
    with live_view() as view:
        view(Started("x", "build"))
        for worker, wanted in PLACES.items():
            view(Placed("x", worker))
            wait_until(partial(screen.shows, wanted), what=wanted)
        view(Placed("another", "w3"))  # it has ended already
        view(Finished("x", "build", 1.0))
    assert not screen.shows("w3")
