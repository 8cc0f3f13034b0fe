"""A command that ends before its time: no process, no file and no half an object stays behind."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Project, Running, assert_whole, processes_with, wait_until
from tests.fetch.server import Answer, Server


@pytest.fixture
def started(small: Project) -> Iterator[list[Running]]:
    """Commands to be ended whatever happens."""
    running: list[Running] = []
    yield running
    for each in running:
        each.end()


def daemons(marker: str) -> tuple[str, ...]:
    """A script whose processes leave its process group, ignore signals and outlive their parents."""
    alone = f"import os; os.setsid(); os.execvp('sleep', ['sleep', '{marker}'])"
    return (
        f"(trap '' TERM INT HUP; python3 -c \"{alone}\" &)",
        f"echo begun >/out/begun; sleep {marker}",
        "mv /out/begun /out/out",
    )


def begin(project: Project, started: list[Running], name: str, marker: str, *options: str) -> Running:
    run = Running(project.shell, "realize", name, *options)
    started.append(run)
    wait_until(lambda: len(processes_with(f"sleep {marker}")) >= 2, what="the build")
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_build_at_once(small: Project, started: list[Running], number: signal.Signals) -> None:
    marker = f"271828.{number.value}{small.root.stat().st_ino}"
    small.script("slow", *daemons(marker))
    run = begin(small, started, "slow", marker)
    run.signal(number)
    assert run.wait(30) == 130
    assert (run.stdout, processes_with(marker)) == ("", [])
    assert run.stderr.splitlines()[-1] == "interrupted"
    assert "slow: interrupted after " in run.stderr
    assert "failed" not in run.stderr
    assert "Traceback" not in run.stderr
    assert not [each for each in (small.shell.store / "objects").iterdir() if each.name[0] == "."]
    assert_whole(small.shell)
    assert small.shell.run("path", "slow", status=5).stdout == ""


def test_a_killed_ccstore_takes_its_build_along(small: Project, started: list[Running]) -> None:
    marker = f"4.{small.root.stat().st_ino}"
    small.script("slow", *daemons(marker))
    run = begin(small, started, "slow", marker)
    run.signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: not processes_with(marker), 3, "the end of the build")
    left = [each for each in (small.shell.store / "objects").iterdir() if each.name.startswith(".tmp-")]
    assert left, "nothing was in the middle of being made"
    assert_whole(small.shell)
    [path] = small.shell.realize("slow")
    assert path.read_text() == "begun\n"
    assert_whole(small.shell)


def test_the_next_one_does_not_wait_for_a_dead_one(small: Project, started: list[Running]) -> None:
    marker = f"5.{small.root.stat().st_ino}"
    small.script("slow", *daemons(marker))
    first = begin(small, started, "slow", marker)
    second = Running(small.shell, "realize", "slow")
    started.append(second)
    wait_until(lambda: "waits for process" in second.stderr, what="the wait")
    first.signal(signal.SIGKILL)
    assert second.wait(120) == 0
    assert Path(second.stdout.strip()).read_text() == "begun\n"
    assert_whole(small.shell)


def test_whoever_waits_can_be_interrupted(small: Project, started: list[Running]) -> None:
    marker = f"271829.{small.root.stat().st_ino}"
    small.script("slow", *daemons(marker))
    first = begin(small, started, "slow", marker)
    second = Running(small.shell, "realize", "slow")
    started.append(second)
    wait_until(lambda: "waits for process" in second.stderr, what="the wait")
    second.signal(signal.SIGINT)
    assert second.wait(30) == 130
    assert first.process.poll() is None
    first.signal(signal.SIGINT)
    assert first.wait(30) == 130
    assert_whole(small.shell)


def test_ctrl_c_ends_a_download(small: Project, started: list[Running]) -> None:
    with Server(b"x" * 1000, (Answer(hang_after=500),)) as server:
        small.recipe("file", f"kind: url\nurl: [{server.url}]\nsha256: {'0' * 64}\n")
        run = Running(small.shell, "realize", "file")
        started.append(run)
        wait_until(lambda: server.requests, what="the request")
        run.signal(signal.SIGINT)
        assert run.wait(30) == 130
    assert run.stdout == ""
    assert "file: interrupted after " in run.stderr
    assert_whole(small.shell)


def test_ctrl_c_ends_a_pull(small: Project, started: list[Running]) -> None:
    said = (Path(__file__).parent.parent / "codec/golden/nix-cache/none.narinfo").read_bytes()
    answers = (Answer(body=b"StoreDir: /nix/store\n"), Answer(body=said), Answer(body=said))
    with Server(b"x" * 880, (*answers, Answer(hang_after=100))) as server:
        path = "/nix/store/rsllm2la2r0fjfmlrn507j2bs7zdzj5s-tree"
        run = Running(small.shell, "cache", "pull", path, "--from", server.url)
        started.append(run)
        wait_until(lambda: len(server.requests) == 4, what="the request")
        run.signal(signal.SIGINT)
        assert run.wait(30) == 130
    assert run.stdout == ""
    assert "tree: interrupted after " in run.stderr
    assert_whole(small.shell)
