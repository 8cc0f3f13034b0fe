"""`--executor`: the same targets elsewhere than in the sandbox give the same store paths and the same errors."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import (
    Project,
    Running,
    assert_whole,
    built,
    code,
    edit,
    leftovers,
    processes_with,
    wait_until,
)
from tests.cluster.casd import casd as casd
from tests.cluster.grid import Grid
from tests.cluster.grid import grid as grid
from tests.conftest import Shell, TinyProject, clone_store, tiny_project
from tests.images import docker_host as docker_host

EXECUTORS = ("docker", "remote", "cluster")
STEPS = ("kernel.tree", "kernel.patched", "kernel.kconfig", "kernel.config", "kernel", "kernel^dev")


@dataclass(frozen=True)
class Elsewhere:
    """An executor, and what a project needs to build with it."""

    executor: str
    environment: dict[str, str] = field(default_factory=dict)
    configuration: str = ""


def in_daemon(host: str) -> Elsewhere:
    return Elsewhere("docker", {"DOCKER_HOST": host})


@pytest.fixture(params=EXECUTORS)
def elsewhere(request: pytest.FixtureRequest) -> Elsewhere:
    if request.param == "docker":
        return in_daemon(request.getfixturevalue("docker_host"))
    url = (
        request.getfixturevalue("casd") if request.param == "remote" else request.getfixturevalue("grid").url
    )
    return Elsewhere("remote", configuration=f"remote: {{url: {json.dumps(url)}}}\n")


def configured(shell: Shell, elsewhere: Elsewhere) -> Shell:
    """The shell of a project whose configuration says where builds run."""
    config = shell.project / "recipes/ccstore.yml"
    before = config.read_text().partition("executor:")[0]
    config.write_text(f"{before}executor: {elsewhere.executor}\n{elsewhere.configuration}")
    shell.environment |= elsewhere.environment
    return shell


def test_the_tiny_kernel_has_the_same_store_paths(
    session_kernel: TinyProject, session_store: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    store = clone_store(session_store, tmp_path / "store")
    project = tiny_project(tmp_path / "project", store)
    shell = configured(project.shell, elsewhere)
    done = shell.run("realize", *STEPS, "--json")
    assert built(done.stderr) == list(STEPS[:-1])  # `kernel` makes both of its outputs
    found = {each["target"]: each for each in json.loads(done.stdout)}
    wanted = {step: session_kernel.shell.path(step).name for step in STEPS}
    assert {step: Path(each["path"]).name for step, each in found.items()} == wanted
    assert {each["executor"] for each in found.values()} == {elsewhere.executor}
    assert_whole(shell)


MANY = (
    "mkdir -p $out/empty/deeper && cd $out",
    "for folder in $(seq 100); do",
    "  mkdir files-$folder",
    "  for file in $(seq 100); do echo $folder $file >files-$folder/$file; done",
    "done",
    "chmod +x files-*/100",
    ": >nothing; : >nothing-to-run; chmod 700 nothing-to-run",
    "ln -s files-1/1 inside; ln -s / outside; ln -s nowhere broken; ln -s ../files-2 files-1/folder",
)


def test_an_output_of_many_files_has_the_same_store_path(
    small: Project, lean_store: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    """Ten thousand, some of them executable, with links and empty folders."""
    small.script("many", *MANY)
    [in_sandbox] = small.shell.realize("many")
    assert len([each for each in in_sandbox.rglob("files-*/*") if not each.is_symlink()]) == 10_000
    shell = configured(Shell(small.root, clone_store(lean_store, tmp_path / "elsewhere")), elsewhere)
    [found] = json.loads(shell.run("realize", "many", "--json").stdout)
    assert (Path(found["path"]).name, found["executor"]) == (in_sandbox.name, elsewhere.executor)
    assert_whole(shell)


def test_a_failure_is_explained_as_in_the_sandbox(
    session_store: Path, tmp_path: Path, elsewhere: Elsewhere
) -> None:
    """By the builder's own report, for a patch; by the log, for a source file."""
    project = tiny_project(tmp_path / "project", clone_store(session_store, tmp_path / "store"))
    shell = project.shell
    patch = project.root / "patches/0001-bus-say-that-a-patch-was-here.patch"
    text = patch.read_text()
    edit(patch, "bus", "another bus") if text.count("bus") == 1 else patch.write_text(
        text.replace("\n ", "\n  ")
    )
    in_sandbox = shell.run("realize", "kernel.patched", status=3)
    found = configured(shell, elsewhere).run("realize", "kernel.patched", status=3)
    assert code(found.stderr) == code(in_sandbox.stderr) == "patch-failed"
    assert (
        found.stderr[found.stderr.index("error:") :] == in_sandbox.stderr[in_sandbox.stderr.index("error:") :]
    )


FAILURES = {
    "build-failed": ("echo oh no >&2", "exit 7"),
    "build-timeout": ("sleep 600",),
    "output-missing": ("true",),
    "output-invalid": ("mkdir /out/out", "mkfifo /out/out/fifo"),
}


def test_the_same_errors(small: Project, elsewhere: Elsewhere) -> None:
    failures = dict(FAILURES)
    if elsewhere.executor == "remote":
        del failures["output-invalid"]  # a worker brings back files, folders and links alone
    for wanted, script in failures.items():
        small.script(wanted, *script, timeout="2s" if wanted == "build-timeout" else "1m")
    in_sandbox = {each: failure(small, each) for each in failures}
    configured(small.shell, elsewhere)
    assert {each: failure(small, each) for each in failures} == in_sandbox
    assert {each: error[1] for each, error in in_sandbox.items()} == {each: each for each in failures}
    assert leftovers(small.shell.store) == []


def failure(project: Project, target: str) -> tuple[int, str, str]:
    """Exit status, code and what to do next."""
    found = project.shell.run("realize", target, status=None)
    return found.returncode, code(found.stderr), found.stderr.splitlines()[-1]


def test_the_option_goes_before_the_configuration(small: Project, elsewhere: Elsewhere) -> None:
    small.script("one", "echo 1 >$out")
    shell = configured(small.shell, elsewhere)
    said = shell.run("realize", "one", "--json", "--executor", "sandbox")
    assert json.loads(said.stdout)[0]["executor"] == "sandbox"


@pytest.fixture
def daemon(docker_host: str) -> Iterator[Any]:
    import docker

    with closing(docker.APIClient(docker_host)) as client:
        yield client


def remains(daemon: Any) -> tuple[list[str], list[str]]:
    containers = [each["Names"][0] for each in daemon.containers(all=True)]
    return containers, [each["Name"] for each in daemon.volumes()["Volumes"] or []]


@pytest.fixture
def in_docker(small: Project, docker_host: str) -> Project:
    configured(small.shell, in_daemon(docker_host))
    return small


@pytest.fixture
def slow(in_docker: Project) -> Iterator[tuple[Running, str]]:
    """A build that is in the middle, and what its processes have in their command lines."""
    mark = f"161803.{in_docker.root.stat().st_ino}"
    in_docker.script("slow", f"sleep {mark}")
    run = Running(in_docker.shell, "realize", "slow")
    try:
        wait_until(lambda: processes_with(f"sleep {mark}"), what="the build")
        yield run, mark
    finally:
        run.end()


def test_ctrl_c_ends_it_and_leaves_nothing(
    slow: tuple[Running, str], daemon: Any, in_docker: Project
) -> None:
    run, mark = slow
    run.signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert (run.stdout, processes_with(mark), remains(daemon)) == ("", [], ([], []))
    assert run.stderr.splitlines()[-1] == "interrupted"
    assert "Traceback" not in run.stderr
    assert_whole(in_docker.shell)


def test_gc_removes_what_a_killed_one_left(
    slow: tuple[Running, str], daemon: Any, in_docker: Project
) -> None:
    run, mark = slow
    run.signal(signal.SIGKILL)
    run.wait()
    assert remains(daemon) != ([], [])
    would = in_docker.shell.run("gc", "--dry-run", "--json")
    assert json.loads(would.stdout)["docker"] == {"containers": 2, "volumes": 4, "images": 0}
    assert processes_with(mark)
    done = in_docker.shell.run("gc")
    assert "in Docker deleted: 2 containers, 4 volumes\n" in done.stderr
    assert (remains(daemon), processes_with(mark)) == (([], []), [])


def test_without_a_daemon(small: Project, tmp_path: Path) -> None:
    small.script("one", "echo 1 >$out")
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/nothing"}
    small.shell.environment |= nowhere
    found = small.shell.run("realize", "one", "--executor", "docker", status=None)
    assert (found.returncode, code(found.stderr)) == (6, "no-docker")
    assert (
        f"error: no Docker daemon answers at {nowhere['DOCKER_HOST']}: No such file or directory"
        in found.stderr
    )
    said = small.shell.run("doctor").stdout
    assert "\nwithout docker: no Docker daemon answers at" in said
    configured(small.shell, in_daemon(nowhere["DOCKER_HOST"]))
    said = small.shell.run("doctor", status=6).stdout
    assert "\ncannot  docker: no Docker daemon answers at" in said
    assert "Docker" not in small.shell.run("gc").stderr  # nothing was ever put there


def test_remote_execution_wants_a_service(small: Project, casd: str) -> None:
    small.script("one", "echo 1 >$out")
    found = small.shell.run("realize", "one", "--executor", "remote", status=2)
    assert code(found.stderr) == "usage"
    assert "--remote URL" in found.stderr
    done = small.shell.run("realize", "one", "--remote", casd, "--json")
    assert json.loads(done.stdout)[0]["executor"] == "remote"
    for verb in ("realize", "check"):
        found = small.shell.run(verb, "one", "--executor", "sandbox", "--remote", casd, status=2)
        assert "--remote goes with --executor remote" in found.stderr
    configured(small.shell, Elsewhere("remote"))
    assert "\ncannot  remote: no service is configured" in small.shell.run("doctor", status=6).stdout
    configured(small.shell, Elsewhere("remote", configuration=f"remote: {{url: {json.dumps(casd)}}}\n"))
    assert f"\nok      remote: {casd}" in small.shell.run("doctor").stdout


def test_what_failed_on_a_service_is_not_said_to_run_again_here(small: Project, casd: str) -> None:
    small.script("one", "exit 3")
    found = small.shell.run("realize", "one", "--remote", casd, "--keep-failed", status=3)
    [kept] = re.findall(r"kept at (/\S+)", found.stderr)
    assert "again.sh" not in found.stderr
    assert not (Path(kept) / "again.sh").exists()


def test_doctor_finds_a_daemon(small: Project, docker_host: str) -> None:
    small.shell.environment |= {"DOCKER_HOST": docker_host}
    assert "\nok      docker: " in small.shell.run("doctor").stdout


def test_gc_removes_the_image_of_a_toolchain_that_is_gone(in_docker: Project, daemon: Any) -> None:
    for each in daemon.images("ccstore/toolchain"):  # made by other tests, and so another store's
        daemon.remove_image(each["Id"], force=True)
    in_docker.script("one", "echo 1 >$out")
    shell = in_docker.shell
    shell.run("realize", "one")
    assert len(daemon.images("ccstore/toolchain")) == 1
    shell.run("gc", "--no-keep-inputs")
    assert len(daemon.images("ccstore/toolchain")) == 1
    shell.run("root", "remove", "tests/toolchain")
    said = shell.run("gc", "--no-keep-inputs")
    assert "in Docker deleted: 1 image\n" in said.stderr
    assert daemon.images("ccstore/toolchain") == []
    assert_whole(shell)


def test_files_of_the_configuration_are_beside_it(small: Project, casd: str) -> None:
    small.script("one", "echo 1 >$out")
    (small.root / "recipes/token").write_text("a secret\n")
    shell = configured(
        small.shell, Elsewhere("remote", configuration=f"remote: {{url: {casd}, token: token}}\n")
    )
    shell.run("-C", "recipes", "realize", "one")
    (small.root / "recipes/token").unlink()
    small.script("one", "echo 2 >$out")
    found = shell.run("realize", "one", status=None)
    assert code(found.stderr) == "config-invalid"


def test_a_check_builds_again_where_it_is_told_to(small: Project, elsewhere: Elsewhere) -> None:
    """And takes nothing that the service remembers."""
    small.script("steady", "echo always the same >$out")
    small.script("odd", "cat /proc/sys/kernel/random/uuid >$out")
    shell = configured(small.shell, elsewhere)
    shell.run("realize", "steady", "odd")
    said = shell.run("check", "steady", "--executor", elsewhere.executor, "--json").stdout
    [here] = json.loads(said)[0]["rounds"]
    assert {each["name"] for each in here["varied"]} == {"store", "jobs"}
    reasons = {each["name"]: each["why"] for each in here["notVaried"]}
    assert reasons["umask"] == "only the sandbox can vary it"
    different = shell.run("check", "odd", "--executor", elsewhere.executor, status=4)
    assert code(different.stderr) == "not-reproducible"
    assert leftovers(shell.store) == []


def test_many_builds_are_spread_over_the_workers(small: Project, grid: Grid) -> None:
    names = [f"one-{number}" for number in range(6)]
    for name in names:
        small.script(name, f"sleep 2; echo {name} {small.root} >$out")
    shell = configured(small.shell, Elsewhere("remote", configuration=f"remote: {{url: {grid.url}}}\n"))
    done = shell.run("realize", *names)
    assert len(done.stdout.splitlines()) == len(names)
    placed = dict(re.findall(r"^(\S+): runs on (\S+)$", done.stderr, re.MULTILINE))
    assert set(placed) == set(names)
    assert set(placed.values()) == {"worker-1", "worker-2"}
