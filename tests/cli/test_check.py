"""`ccstore check`: every way in which a build can differ is caught and named, and what is the same is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from junitparser import Failure, JUnitXml

from tests.cli.conftest import (
    OtherUser,
    Project,
    Running,
    assert_whole,
    code,
    leftovers,
    processes_with,
    small_project,
    wait_until,
)
from tests.conftest import REPOSITORY, TinyProject, clone_store, requires

TIME, USER, RANDOM = "time", "user and group", "random numbers or a race"
TAR = "tar --owner=0 --group=0 --mode=a+rwX"
BINARY_TIME = (
    'import struct, sys, time; sys.stdout.buffer.write(b"\\x80" * 8 + struct.pack("<Q", int(time.time())))'
)
# by output: what makes it, and the cause that a check must name
AROUND = {
    "date": ("date > $date", TIME),
    "epoch": ("date +%s.%N > $epoch", TIME),
    "binary": (f"python3 -c '{BINARY_TIME}' > $binary", TIME),
    "mtime": (f"mkdir m; echo x > m/f; {TAR} -C m -cf $mtime f", TIME),
    "jobs": ('echo "made with $CCSTORE_CORES jobs" > $jobs', "number of jobs"),
    "mounts": (
        "awk '$5 == \"/out\" { print $4 }' /proc/self/mountinfo > $mounts",
        "store and build folder",
    ),
    "random": ("head -c 16 /dev/urandom > $random", RANDOM),
    "uuid": ("cat /proc/sys/kernel/random/uuid > $uuid", "random identifier"),
    "temporary": ("mktemp > $temporary", "random identifier"),
}
INSIDE = {
    "path": ("pwd > $path", "build path"),
    "home": ("mkdir $home; echo $HOME/file.o > $home/file", "build path"),
    "host": ("uname -n > $host", "host name"),
    "named": ("mkdir $named; touch $named/$(uname -n)", "host name"),
    "uid": ("id -u > $uid", USER),
    "name": ("whoami > $name", USER),
    "owner": ("mkdir o; echo x > o/f; tar --mode=a+rwX --mtime=@1 -C o -czf $owner f", USER),
    "order": ("mkdir n; touch n/{a..z}; ls -U n > $order", "order"),
    "members": (f"mkdir a; touch a/{{a..z}}; {TAR} --mtime=@1 -C a -cf $members .", "order"),
    "umask": ("umask > $umask", "umask"),
    "mode": ("touch f; stat -c %a f > $mode", "umask"),
    "elf": (
        'echo "char h[] = HOST; int main() {}" | gcc -DHOST="\\"on $(uname -n)\\"" -x c - -o $elf',
        "host name",
    ),
}
SAME = {
    "out": "echo the same > $out",
    "object": "mkdir c; echo 'int x = 1;' > c/x.c; gcc -c c/x.c -o $object",
    "sorted": "ls n > $sorted",
}
WAYS = AROUND | INSIDE


@dataclass(frozen=True)
class Checked:
    """The odd project, and what a check of it said: of each output as JSON, and as text."""

    project: Project
    outputs: dict[str, dict[str, Any]]
    text: str
    told: str

    def causes(self, output: str) -> set[str]:
        [round_] = self.outputs[output]["rounds"]
        findings = [each for one in round_["differences"] for each in one["findings"]]
        return {cause for each in findings for cause in each["causes"]}


@pytest.fixture(scope="module")
def open_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that other users may pass, where root becomes one; pytest's own is closed to them."""
    if os.geteuid() != 0:
        yield tmp_path_factory.mktemp("check")
        return
    with tempfile.TemporaryDirectory(prefix="ccstore-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def odd(open_place: Path, lean_store: Path) -> Project:
    """A project whose recipe `odd` differs in each of the ways, and does not in some outputs."""
    project = small_project(open_place / "project", clone_store(lean_store, open_place / "store"))
    project.recipe("clock", f"import: [{REPOSITORY}/recipes/faketime.yml]\nkind: path\npath: ccstore.yml\n")
    lines = [*(script for script, _ in WAYS.values()), *SAME.values()]
    project.script("odd", *lines, outputs=f"[{', '.join([*SAME, *WAYS])}]")
    project.shell.run("realize", "odd")
    return project


def checked(project: Project, *options: str) -> Checked:
    found = project.shell.run("check", "odd", "--json", *options, status=4)
    rows = {each["output"]: each for each in json.loads(found.stdout)}
    return Checked(project, rows, found.stdout, found.stderr)


@pytest.fixture(scope="module")
def usual(odd: Project) -> Checked:
    return checked(odd)


@pytest.fixture(scope="module")
def strict(odd: Project, usual: Checked) -> Checked:
    return checked(odd, "--strict")


@pytest.mark.parametrize("output", AROUND)
def test_what_differs_around_the_sandbox_is_caught_and_named(usual: Checked, output: str) -> None:
    assert not usual.outputs[output]["same"]
    assert any(cause.startswith(AROUND[output][1]) for cause in usual.causes(output)), usual.causes(output)


@pytest.mark.parametrize("output", [*INSIDE, *SAME])
def test_what_the_sandbox_fixes_does_not_differ(usual: Checked, output: str) -> None:
    assert usual.outputs[output]["same"]
    assert usual.outputs[output]["rounds"][0]["narHash"] == usual.outputs[output]["narHash"]


@pytest.mark.parametrize("output", WAYS)
def test_a_strict_check_catches_and_names_everything(strict: Checked, output: str) -> None:
    assert not strict.outputs[output]["same"]
    causes = strict.causes(output)
    assert any(cause.startswith(WAYS[output][1]) for cause in causes), causes


@pytest.mark.parametrize("output", SAME)
def test_what_is_the_same_is_the_same_in_a_strict_check(strict: Checked, output: str) -> None:
    assert strict.outputs[output]["same"]
    assert strict.outputs[output]["rounds"][0]["differences"] == []


def test_the_place_of_a_difference_is_told(strict: Checked) -> None:
    [elf] = strict.outputs["elf"]["rounds"][0]["differences"]
    places = [each["where"] for each in elf["findings"] if "host name" in each["causes"]]
    assert places[0][:2] == ["section .data", "symbol h+0x3"]
    [owner] = strict.outputs["owner"]["rounds"][0]["differences"]
    assert owner["findings"][0]["where"] == ["gzip data", "tar", "member f", "owner"]
    assert (owner["findings"][0]["first"], owner["findings"][0]["second"]) == ("1000", "4242")


def names(values: list[dict[str, str]]) -> set[str]:
    return {each["name"] for each in values}


def test_what_was_varied_is_told(usual: Checked, strict: Checked) -> None:
    around = {"store", "jobs", "load", "environment", "caller-umask", "clock"}
    inside = {"hostname", "user", "path", "umask", "order", "addresses"}
    for check, expected in ((usual, around), (strict, around | inside)):
        [round_] = check.outputs["out"]["rounds"]
        varied, left = names(round_["varied"]), names(round_["notVaried"])
        assert varied - {"caller", "processors", "kernel"} == expected
        assert varied | left == {*around, *inside, "caller", "processors", "kernel"}
        assert all(each["first"] != each["second"] for each in round_["varied"])
        assert all(each["why"] for each in round_["notVaried"])


def test_what_was_varied_was_measured_in_the_build(strict: Checked) -> None:
    """What the build itself found is what the check says."""
    said = {each["name"]: each["second"] for each in strict.outputs["out"]["rounds"][0]["varied"]}
    found = {
        output: each["rounds"][0]["differences"][0]["findings"][0]["second"]
        for output, each in strict.outputs.items()
        if not each["same"]
    }
    assert (found["host"], found["path"], found["umask"]) == (said["hostname"], said["path"], said["umask"])
    assert found["uid"] == said["user"].split(":")[0]
    assert found["jobs"] == f"made with {said['jobs']} jobs"
    assert found["date"].endswith(said["clock"][:4])
    assert int(said["clock"][:4]) > time.gmtime().tm_year


@requires(os.geteuid() == 0, "only root can become another user")
def test_root_builds_as_somebody_else(usual: Checked) -> None:
    [round_] = usual.outputs["out"]["rounds"]
    users = {each["name"]: (each["first"], each["second"]) for each in round_["varied"]}
    closed = {each["name"]: each["why"] for each in round_["notVaried"]}
    assert users.get("caller") == ("0", "65534") or "closed to other users" in closed["caller"]


def test_an_ordinary_user_cannot_become_another(other_user: OtherUser, lean_store: Path) -> None:
    project = small_project(other_user.home / "project", clone_store(lean_store, other_user.home / "store"))
    project.script("plain", "echo x > $out")
    other_user.owns(other_user.home)
    shell = other_user.shell(project.root, project.shell.store)
    [value] = json.loads(shell.run("check", "plain", "--json").stdout)
    why = {each["name"]: each["why"] for each in value["rounds"][0]["notVaried"]}
    assert (value["same"], why["caller"]) == (True, "only root can become another user")


def test_the_report_is_for_people(odd: Project) -> None:
    found = odd.shell.run("check", "odd", "--vary", "hostname,umask", status=4)
    assert code(found.stderr) == "not-reproducible"
    lines = found.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith("reproduced") and line.split()[1] == "odd"]
    report = found.stdout.partition("odd^host, round 1: not the same")[2].partition("\nodd^")[0]
    assert "      - ccstore\n      + rebuild-1\n      cause: host name\n" in report
    assert "host name: ccstore → rebuild-1" in found.stderr
    assert "Not varied:" in found.stderr
    same = {line.split()[1] for line in lines if line.startswith("reproduced")}
    assert {"odd^path", "odd^uid", "odd^order", "odd^jobs"} <= same
    assert not same & {"odd^host", "odd^umask", "odd^mode", "odd^named"}


def test_equal_outputs_are_a_line_each_and_are_counted(small: Project) -> None:
    small.script("plain", "echo x > $out; echo y > $dev", outputs="[out, dev]")
    first = small.shell.run("check", "plain", "--rounds", "2")  # which also realises it
    assert [line.split()[:6] for line in first.stdout.splitlines()] == [
        ["reproduced", "plain", "2", "of", "2", "now,"],
        ["reproduced", "plain^dev", "2", "of", "2", "now,"],
    ]
    assert small.shell.run("root", "list").stdout.count("small/plain ") == 1
    small.shell.run("check", "plain^dev")
    listed = {line.split()[0]: line for line in small.shell.run("list").stdout.splitlines()}
    assert listed["plain"].endswith("reproduced 3 times")
    assert listed["plain^dev"].endswith("reproduced 3 times")
    [shown] = json.loads(small.shell.run("show", "plain").stdout)
    assert [(each["reproduced"], each["differed"]) for each in shown["outputs"].values()] == [(3, 0), (3, 0)]
    assert_whole(small.shell)


def test_differences_are_counted_too(usual: Checked) -> None:
    rows = json.loads(usual.project.shell.run("list", "--json").stdout)
    counts = {each["target"]: (each["reproduced"] > 0, each["differed"] > 0) for each in rows}
    assert (counts["odd"], counts["odd^epoch"]) == ((True, False), (False, True))
    text = usual.project.shell.run("list").stdout
    assert "differed" in next(line for line in text.splitlines() if line.startswith("odd^epoch "))


def test_rounds_have_conditions_of_their_own(small: Project) -> None:
    small.script("plain", "echo x > $out")
    options = ("--rounds", "2", "--vary", "store,hostname,path,jobs")
    [value] = json.loads(small.shell.run("check", "plain", *options, "--json").stdout)
    one, other = ({each["name"]: each["second"] for each in round_["varied"]} for round_ in value["rounds"])
    assert all(one[name] != other[name] for name in ("hostname", "path", "jobs", "store"))


def test_the_record_goes_with_its_realisation(small: Project) -> None:
    small.script("plain", "echo x > $out")
    small.shell.run("check", "plain")
    folder = small.shell.store / "checks"
    assert len(list(folder.iterdir())) == 1
    small.shell.run("gc")
    assert len(list(folder.iterdir())) == 1
    small.shell.run("root", "remove", "small/plain")
    small.shell.run("gc")
    assert list(folder.iterdir()) == []


def test_a_record_that_cannot_be_read_is_found_and_removed(small: Project) -> None:
    small.script("plain", "echo x > $out")
    small.shell.run("check", "plain")
    [record] = (small.shell.store / "checks").iterdir()
    record.write_text("{")
    assert small.shell.run("list").stdout.count("reproduced") == 0
    assert small.shell.run("verify", status=4).stdout.startswith("check  ")
    small.shell.run("verify", "--repair")
    assert list((small.shell.store / "checks").iterdir()) == []
    small.shell.run("check", "plain")
    assert "reproduced once" in small.shell.run("list").stdout


def test_only_what_was_built_here_is_shown_to_the_store(small: Project) -> None:
    """Nothing that a rebuild gave is registered."""
    small.script("odd", "date +%N > $out")
    small.shell.run("realize", "odd")
    before = sorted(path.name for path in (small.shell.store / "objects").iterdir())
    small.shell.run("check", "odd", status=4)
    assert sorted(path.name for path in (small.shell.store / "objects").iterdir()) == before
    assert leftovers(small.shell.store) == []
    assert_whole(small.shell)


def test_both_outputs_can_be_kept(small: Project, tmp_path: Path) -> None:
    small.script("odd", "mkdir $out; date +%N > $out/a; echo x > $out/b; chmod 755 $out/b")
    kept = tmp_path / "kept"
    small.shell.run("check", "odd", "--keep", str(kept), status=4)
    first, second = kept / "odd/first", kept / "odd/second"
    assert (first / "a").read_text() == (small.shell.path("odd") / "a").read_text()
    assert (first / "a").read_text() != (second / "a").read_text()
    assert stat.S_IMODE((second / "b").stat().st_mode) & 0o111
    again = small.shell.run("check", "odd", "--keep", str(kept), status=2)
    assert code(again.stderr) == "output-exists"


def test_diffoscope_reports_where_it_is_installed(
    small: Project, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    tool("diffoscope")
    small.script("odd", "mkdir $out; date +%N > $out/a")
    small.shell.run("check", "odd", "--html", str(tmp_path / "html"), status=4)
    report = (tmp_path / "html/odd.html").read_text()
    assert "diffoscope" in report
    words = re.sub(r"<[^>]*>", "", report)  # the digits that differ are marked one by one
    assert (small.shell.path("odd") / "a").read_text().strip() in words


def test_html_without_diffoscope_fails_before_anything_is_built(small: Project, tmp_path: Path) -> None:
    small.script("plain", "echo x > $out")
    small.shell.environment["PATH"] = str(tmp_path)
    found = small.shell.run("check", "plain", "--html", str(tmp_path / "html"), status=6)
    assert code(found.stderr) == "tool-missing"
    assert "built" not in found.stderr


def test_junit(odd: Project, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    odd.shell.run("check", "odd", "--vary", "hostname", "--junit", str(report), status=4)
    [suite] = JUnitXml.fromfile(str(report))
    cases = {case.name: case for case in suite}
    assert len(cases) == len(WAYS) + len(SAME) == suite.tests
    assert cases["odd is the same in round 1"].result == []
    [failure] = cases["odd^host is the same in round 1"].result
    assert isinstance(failure, Failure)
    assert "cause: host name" in failure.text
    assert suite.failures == sum(bool(case.result) for case in suite)
    assert "host name: ccstore → rebuild-1" in cases["odd is the same in round 1"].system_out


def test_a_report_that_cannot_be_written(small: Project, tmp_path: Path) -> None:
    small.script("plain", "echo x > $out")
    found = small.shell.run("check", "plain", "--junit", str(tmp_path / "no/where.xml"), status=2)
    assert code(found.stderr) == "usage"


def test_a_rebuild_that_fails(small: Project, tmp_path: Path) -> None:
    small.script("fragile", "echo before; test $(uname -n) = ccstore; echo x > $out")
    found = small.shell.run("check", "fragile", "--strict", "--without", "clock", status=3)
    assert code(found.stderr) == "build-failed"
    assert "fragile (round 1) failed, and the first build did not" in found.stderr
    assert "`--keep DIR` keeps its log" in found.stderr
    small.shell.run("check", "fragile", "--vary", "hostname", "--keep", str(tmp_path / "kept"), status=3)
    assert (tmp_path / "kept/fragile.log").read_text() == "before\n"
    assert_whole(small.shell)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["toolchain.bash"], "is not built"),
        (["plain", "--vary", "moon"], "no condition"),
        (["plain", "--vary", "path", "--without", "umask"], "not both"),
        (["plain", "--rounds", "0"], "rounds"),
    ],
)
def test_what_cannot_be_checked(small: Project, arguments: list[str], words: str) -> None:
    small.script("plain", "echo x > $out")
    found = small.shell.run("check", *arguments, status=2)
    assert code(found.stderr) == "usage"
    assert words in found.stderr


def test_an_unknown_target(small: Project) -> None:
    assert code(small.shell.run("check", "moon", status=2).stderr) == "recipe-unknown"


def test_the_clock_that_cannot_be_had_is_told(small: Project) -> None:
    """The library for another time is fetched, and here no mirror can be reached."""
    small.script("plain", "echo x > $out")
    small.shell.run("realize", "plain")
    small.shell.environment["CCSTORE_MIRROR_DEBIAN"] = "http://127.0.0.1:9/"
    found = small.shell.run("check", "plain", "--vary", "clock,hostname")
    assert "the time will not be varied: " in found.stderr
    assert found.stdout.startswith("reproduced  plain ")


def test_what_ccstore_makes_itself_is_checked_too(strict: Checked) -> None:
    """The tree of packages that the strict check's clock comes from: they are in the store by now."""
    [value] = json.loads(strict.project.shell.run("check", "faketime", "--strict", "--json").stdout)
    [round_] = value["rounds"]
    assert value["same"]
    assert {"store", "load", "environment", "caller-umask"} <= names(round_["varied"])
    why = {each["name"]: each["why"] for each in round_["notVaried"]}
    assert why["hostname"] == "ccstore makes this itself, without a sandbox"


def test_a_kernel_is_reproducible_in_every_step(realised: TinyProject) -> None:
    steps = ["kernel", "kernel.config", "kernel.kconfig", "kernel.patched", "kernel.tree", "kernel.oci"]
    found = realised.shell.run("check", "--strict", "--without", "clock", *steps)
    same = [line.split()[:2] for line in found.stdout.splitlines()]
    outputs = ["kernel", "kernel^dev", *steps[1:]]
    assert same == [["reproduced", each] for each in outputs]
    assert_whole(realised.shell)


@pytest.fixture
def started() -> Iterator[list[Running]]:
    running: list[Running] = []
    yield running
    for each in running:
        each.end()


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


def begin(small: Project, started: list[Running], marker: str) -> Running:
    """A check of a step that takes for ever the second time."""
    small.script("slow", "echo x > $out", "test $(uname -n) = ccstore || sleep " + marker)
    small.shell.run("realize", "slow")
    run = Running(small.shell, "check", "slow", "--vary", "hostname,load,caller")
    started.append(run)
    wait_until(lambda: processes_with(f"sleep {marker}"), what="the rebuild")
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_check_and_removes_everything(
    small: Project, started: list[Running], number: signal.Signals
) -> None:
    marker = f"314159.{number.value}{small.root.stat().st_ino}"
    run = begin(small, started, marker)
    run.signal(number)
    assert run.wait(30) == 130
    assert (run.stdout, processes_with(marker), processes_with(str(small.shell.store))) == ("", [], [])
    assert "Traceback" not in run.stderr
    assert leftovers(small.shell.store) == []
    assert_whole(small.shell)


def test_a_killed_check_takes_its_build_along(small: Project, started: list[Running]) -> None:
    marker = f"2718.{small.root.stat().st_ino}"
    run = begin(small, started, marker)
    [beside] = children(run.process.pid)
    run.signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: not processes_with(marker), 5, "the end of the build")
    wait_until(lambda: not Path(f"/proc/{beside}").exists(), 5, "the end of the process that built")
    assert leftovers(small.shell.store) != []
    small.shell.run("gc")
    assert_whole(small.shell)
