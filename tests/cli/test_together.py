"""Several builds, and several ccstores, at the same time in one store."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.conftest import Project, Running, assert_whole, code
from tests.conftest import TinyProject

WHOEVER = "cat /proc/sys/kernel/random/uuid"  # no two builds of it are the same


def runs(store: Path, step: str) -> list[str]:
    """How each run of a step ended."""
    lines = (store / f"history/{step}.jsonl").read_text().split("\n")
    return [json.loads(line)["outcome"] for line in lines if line]


def test_eight_that_want_the_same_build_it_once(small: Project) -> None:
    small.script("first", f"{WHOEVER} >/out/out", "sleep 5")  # so that all have started by then
    small.script("second", "cat /in/first >/out/out", f"{WHOEVER} >>/out/out", inputs="{first: first}")
    all_eight = [Running(small.shell, "realize", "second") for _ in range(8)]
    try:
        assert [each.wait(240) for each in all_eight] == [0] * 8
    finally:
        for each in all_eight:
            each.end()
    assert runs(small.shell.store, "first") == runs(small.shell.store, "second") == ["built"]
    [answer] = {each.stdout for each in all_eight}
    assert answer == f"{small.shell.path('second')}\n"
    assert any("waits for process" in each.stderr for each in all_eight)
    assert_whole(small.shell)


def test_one_kernel_for_four(tiny: TinyProject) -> None:
    four = [Running(tiny.shell, "realize", "kernel") for _ in range(4)]
    try:
        assert [each.wait(240) for each in four] == [0] * 4
    finally:
        for each in four:
            each.end()
    for step in ("kernel.tree", "kernel.patched", "kernel.kconfig", "kernel.config", "kernel"):
        assert runs(tiny.shell.store, step) == ["built"]
    assert {each.stdout for each in four} == {f"{tiny.shell.path('kernel')}\n"}


def begun_and_built(stderr: str) -> list[str]:
    return re.findall(r"^\S+: (build begins|built) ", stderr + "\n", re.MULTILINE)


def test_independent_steps_build_side_by_side(small: Project) -> None:
    names = ["a", "b", "c"]
    for name in names:
        small.script(name, "sleep 2", f"echo {name} >/out/out")
    beside = small.shell.run("realize", "--jobs", "3", "--cores", "3", *names)
    assert re.findall(r"^\S+: (build begins|built)", beside.stderr, re.MULTILINE)[:3] == ["build begins"] * 3
    assert [Path(line).read_text() for line in beside.stdout.splitlines()] == ["a\n", "b\n", "c\n"]
    small.shell.run("root", "remove", *(f"small/{name}" for name in names))
    small.shell.run("gc")
    after = small.shell.run("realize", "--jobs", "1", *names)
    in_turn = re.findall(r"^\S+: (build begins|built)", after.stderr, re.MULTILINE)
    assert in_turn == ["build begins", "built"] * 3
    assert after.stdout == beside.stdout


def test_a_failure_ends_what_builds_beside_it(small: Project) -> None:
    small.script("slow", "sleep 300", "touch /out/out")
    small.script("broken", "sleep 1", "exit 7")
    found = small.fails("realize", "--jobs", "2", "slow", "broken", timeout=120)
    assert (found.returncode, code(found.stderr)) == (3, "build-failed")
    assert "exit status 7" in found.stderr


def test_a_collection_beside_a_build_takes_nothing_it_needs(small: Project) -> None:
    small.script("first", "echo first >/out/out")
    small.script("second", "sleep 3", "cat /in/first >/out/out", inputs="{first: first}")
    build = Running(small.shell, "realize", "second")
    try:
        while "second: build begins" not in build.stderr:
            assert build.process.poll() is None, build.stderr
        small.shell.run("gc")
        assert build.process.poll() is None, "the collection did not run beside the build"
        assert build.wait(120) == 0
    finally:
        build.end()
    assert Path(build.stdout.strip()).read_text() == "first\n"
    assert_whole(small.shell)
