"""What runs when: one budget of make jobs for all builds, and the longest way to the end first."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tarfile

from tests.cli.conftest import Project, built
from tests.conftest import TinyProject, write
from tests.fetch.server import Answer, Server

CORES, FILES = 3, 9
COMPILER = """#!/bin/sh
echo "job $(date +%s%N) 1" >&2
sleep 0.1
gcc "$@"
status=$?
echo "job $(date +%s%N) -1" >&2
exit $status
"""


def many_files(tiny: TinyProject) -> None:
    """Makes the tree one with more to compile, and says in the log when each file is compiled."""
    tree = tiny.root / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", tiny.root / "tinylinux.tar.xz", "-C", tree], check=True)
    top = tree / "tinylinux-1.0.0"
    write(top / "scripts/compiler", COMPILER)
    names = [f"lib/file{number}" for number in range(FILES)]
    for number, name in enumerate(names):
        write(top / f"{name}.c", f"int file{number}(void);\nint file{number}(void) {{ return {number}; }}\n")
    makefile = top / "Makefile"
    text = makefile.read_text().replace("CC = gcc\n", "CC = sh $(srctree)/scripts/compiler\n")
    objects = " ".join(f"{name}.o" for name in names)
    makefile.write_text(text.replace("obj-y :=", f"obj-y := {objects}"))
    with tarfile.open(tiny.root / "tinylinux.tar.xz", "w:xz", preset=0) as archive:
        archive.add(top, top.name)


def jobs(*logs: str) -> list[int]:
    """How many files were being compiled, at the begin and the end of each."""
    events = sorted(
        (int(when), int(change))
        for log in logs
        for when, change in re.findall(r"^job (\d+) (-?1)$", log, re.M)
    )
    return [sum(change for _, change in events[: i + 1]) for i in range(len(events))]


def test_builds_share_one_budget_of_jobs(tiny: TinyProject) -> None:
    many_files(tiny)
    digest = hashlib.sha256((tiny.root / "tinylinux.tar.xz").read_bytes()).hexdigest()
    recipe = tiny.root / "recipes/kernel.yml"
    text = recipe.read_text().replace("patches: ../patches\n", "")
    recipe.write_text(re.sub(r"sha256: \w+", f"sha256: {digest}", text))
    for name in ("one", "other", "third"):
        write(tiny.root / f"recipes/{name}.yml", f"kind: kernel\nextends: kernel\nlocalversion: -{name}\n")
    shell = tiny.shell

    def log(name: str) -> str:
        return shell.run("log", name).stdout

    shell.run("realize", "kernel", "--cores", str(CORES))
    alone = jobs(log("kernel"))
    assert max(alone) == CORES
    shell.run("realize", "one", "other", "--cores", str(CORES), "--jobs", "2")
    together = jobs(log("one"), log("other"))
    assert len(together) == 2 * len(alone) > 4 * FILES
    assert max(together) == CORES
    shell.run("realize", "third", "--cores", "1", "--jobs", "2")
    assert max(jobs(log("third"))) == 1
    assert "jobserver" not in "".join(map(log, ("kernel", "one", "other", "third")))


def test_two_builds_do_not_begin_on_one_core(small: Project) -> None:
    for name in ("one", "other"):
        small.script(name, "date +%s%N", "sleep 0.5", "date +%s%N", "touch $out")
    small.shell.run("realize", "one", "other", "--cores", "1", "--jobs", "2")
    times = sorted(small.shell.run("log", name).stdout.split() for name in ("one", "other"))
    assert times[0][1] < times[1][0]


def chain(small: Project, run: str) -> None:
    """`end` needs `long`, which needs `begin`, and three builds that need nothing and take longer than `begin`."""
    seconds = {"begin": 0.1, "long": 1.5, "quick-a": 0.3, "quick-b": 0.3, "quick-c": 0.3}
    needs = {"long": "begin"}
    for name, each in seconds.items():
        inputs = {"inputs": f"{{before: {needs[name]}}}"} if name in needs else {}
        small.script(name, f"sleep {each}", f"echo {run} > $out", **inputs)
    listed = ", ".join(f"{name}: {name}" for name in ("quick-a", "quick-b", "quick-c", "long"))
    small.script("end", f"echo {run} > $out", inputs=f"{{{listed}}}")


def test_the_longest_way_to_the_end_goes_first(small: Project) -> None:
    chain(small, "first")
    small.shell.run("realize", "end", "--jobs", "1")
    chain(small, "second")
    found = small.shell.run("realize", "end", "--jobs", "1")
    assert built(found.stderr)[:2] == ["begin", "long"]
    assert sorted(built(found.stderr)[2:5]) == ["quick-a", "quick-b", "quick-c"]


def test_downloads_go_on_beside_builds(small: Project) -> None:
    content = b"x" * 1000
    digest = hashlib.sha256(content).hexdigest()
    with Server(content, (Answer(hang_after=500), Answer())) as server:
        small.recipe(
            "file",
            f"kind: url\nurl: [{server.url}, {server.url}-again]\nsha256: {digest}\nstall-timeout: 1s\n",
        )
        small.script("slow", "sleep 2", "touch $out")
        small.script("end", "touch $out", inputs="{file: file, slow: slow}")
        trace = small.root / "trace.json"
        small.shell.run("realize", "end", "--jobs", "1", "--cores", "1", "--trace", str(trace))
    slices = [each for each in json.loads(trace.read_text())["traceEvents"] if each["ph"] == "X"]
    [(begin, length)] = [(each["ts"], each["dur"]) for each in slices if each["name"] == "file"]
    [built] = [each for each in slices if each["name"] == "slow"]
    assert length > 1e6
    assert begin < built["ts"] + built["dur"]
    assert built["ts"] < begin + length
