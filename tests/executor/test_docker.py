"""Builds in a real Docker daemon: what is put there, what is removed again, and what never is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ccstore.errors import CcError
from ccstore.events import Event, Noted
from ccstore.executor import docker_sandbox, docker_sweep
from ccstore.executor.docker import Docker
from ccstore.executor.lease import owner
from ccstore.ports import Cancel
from tests.lines import Line

from .conftest import Builds, PlainTree, alive, marker, unheard, wait_until

EXECUTORS = ("docker",)


@pytest.fixture
def daemon(docker_host: str) -> Iterator[Any]:
    import docker

    with closing(docker.APIClient(docker_host)) as client:
        yield client


def there(daemon: Any) -> tuple[set[str], set[str]]:
    """Every container, and every volume, of the daemon."""
    containers = {each["Names"][0].lstrip("/") for each in daemon.containers(all=True)}
    return containers, {each["Name"] for each in daemon.volumes()["Volumes"] or []}


def test_nothing_but_the_image_stays(builds: Builds, daemon: Any) -> None:
    before = there(daemon)
    builds.run("echo x > $out", inputs={"source": builds.tree("source", {"a": ""})}, files={"x": ""})
    builds.run("exit 1", keep_failed=True)
    builds.run("sleep 60", timeout=0.2)
    assert there(daemon) == before
    assert list((builds.place / "docker/leases").iterdir()) == []


def test_the_toolchain_becomes_an_image_once(builds: Builds, docker_host: str, tmp_path: Path) -> None:
    told: list[Event] = []
    builds.executor = Docker(tmp_path / "state", {"DOCKER_HOST": docker_host}, told.append)
    (tmp_path / "other-root").mkdir()
    subprocess.run(["cp", "-a", f"{builds.root.path}/.", tmp_path / "other-root"], check=True)
    (tmp_path / "other-root/etc/made-for").write_text(str(tmp_path))
    root = PlainTree(tmp_path / "other-root")
    for _ in range(2):
        assert builds.run("cat /etc/made-for > $out", root=root).out() == str(tmp_path)
    assert [type(each) for each in told] == [Noted]


def kill_in_the_middle(builds: Builds, mark: str) -> None:
    """Runs a build in a process of its own that is killed."""
    request = builds.request(f"sleep {mark}", inputs={"source": builds.tree("source", {"a": ""})})
    child = os.fork()
    if child == 0:
        builds.executor.build(request, unheard, Cancel())
        os._exit(0)
    wait_until(lambda: alive(mark))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_what_a_killed_one_left_is_removed_and_nothing_else(builds: Builds, daemon: Any) -> None:
    mark = marker()
    builds.run("true")
    strange = daemon.create_container(
        daemon.images()[0]["Id"], ["true"], name="not-ours", labels={"ccstore.store": "another"}
    )
    daemon.create_volume("not-ours", labels={"ccstore.store": "another"})
    before = there(daemon)
    try:
        kill_in_the_middle(builds, mark)
        containers, volumes = there(daemon)
        assert (len(containers - before[0]), len(volumes - before[1])) == (2, 4)
        builds.run("true")
        assert there(daemon) == before
        assert not alive(mark)
    finally:
        daemon.remove_container(strange["Id"])
        daemon.remove_volume("not-ours")


def test_a_build_that_runs_is_left_alone(builds: Builds, daemon: Any, docker_host: str) -> None:
    """Also by a sweep of another process, and after the store was copied."""
    mark = marker()
    request = builds.request(f"sleep {mark}; echo x > $out", timeout=60)
    cancel = Cancel()
    build = threading.Thread(target=builds.executor.build, args=(request, unheard, cancel))
    build.start()
    try:
        wait_until(lambda: alive(mark))
        state, copy = builds.place / "docker", builds.place / "copy"
        subprocess.run(["cp", "-a", state, copy], check=True)
        for folder in (state, copy):
            swept = docker_sweep.sweep(daemon, folder)
            assert (swept.containers, swept.volumes) == (0, 0)
        assert alive(mark)
    finally:
        cancel.cancel()
        build.join()
    assert not alive(mark)


def test_images_of_lost_toolchains_are_removed(builds: Builds, daemon: Any) -> None:
    root = builds.place / "lost-root"
    subprocess.run(["cp", "-a", builds.root.path, root], check=True)
    (root / "etc/made-for").write_text(str(builds.place))
    builds.run("true", root=PlainTree(root))
    mine = {"label": f"ccstore.store={owner(builds.place / 'docker')}"}
    [image] = daemon.images(filters=mine)
    asked: list[str] = []

    def keep(toolchain: str) -> bool:
        asked.append(toolchain)
        return len(asked) == 1

    assert docker_sweep.sweep_images(daemon, builds.place / "docker", keep) == 0
    assert docker_sweep.sweep_images(daemon, builds.place / "docker", keep, dry_run=True) == 1
    assert docker_sweep.sweep_images(daemon, builds.place / "docker", keep) == 1
    assert asked == [PlainTree(root).nar_hash.hex] * 3
    assert daemon.images(filters=mine) == []
    assert image["Id"] not in {each["Id"] for each in daemon.images()}


def test_no_daemon(builds: Builds, tmp_path: Path) -> None:
    builds.executor = Docker(tmp_path / "state", {"DOCKER_HOST": f"unix://{tmp_path}/nothing"})
    request = builds.request("true")
    with pytest.raises(CcError) as caught:
        builds.executor.build(request, unheard, Cancel())
    assert caught.value.code == "no-docker"
    assert caught.value.message.endswith("/nothing: No such file or directory")
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []


@pytest.fixture
def line(docker_host: str) -> Iterator[Line]:
    made = Line(docker_host.removeprefix("unix://"))
    yield made
    made.cut()


def test_a_daemon_at_the_end_of_a_line(builds: Builds, line: Line, tmp_path: Path) -> None:
    builds.executor = Docker(tmp_path / "state", {"DOCKER_HOST": f"tcp://{line.place}"})
    done = builds.run(
        "cat /in/source/a/b; echo changed > $out/a/new",
        inputs={"source": builds.tree("source", {"a/b": "text\n"})},
        overlays={"out": "source"},
    )
    assert done.log == "text\n"
    assert done.tree() == {"": "/", "a": "/", "a/b": "text\n", "a/new": "changed\n"}
    assert builds.run("sleep 60", timeout=0.3).result.outcome == "timeout"


def test_a_line_that_is_cut(builds: Builds, line: Line, daemon: Any, docker_host: str) -> None:
    mark, state = marker(), builds.place / "docker"
    before = there(daemon)
    builds.executor = Docker(state, {"DOCKER_HOST": f"tcp://{line.place}"})
    request = builds.request(f"echo begun; sleep {mark}")
    with pytest.raises(CcError) as caught:
        builds.executor.build(request, lambda _: line.cut(), Cancel())
    assert caught.value.code == "no-docker"
    assert list(request.scratch.iterdir()) == list(request.staging.iterdir()) == []
    assert alive(mark)
    builds.executor = Docker(state, {"DOCKER_HOST": docker_host})
    builds.run("true")
    assert there(daemon) == before
    assert not alive(mark)


def test_a_toolchain_without_a_shell(builds: Builds) -> None:
    with pytest.raises(CcError) as caught:
        builds.run("true", root=builds.tree("bare", {"bin/x": ""}))
    assert caught.value.code == "sandbox-failed"
    assert "/bin/sh" in caught.value.message


def test_too_much_memory_is_told(builds: Builds, docker_host: str, tmp_path: Path) -> None:
    builds.executor = Docker(tmp_path / "state", {"DOCKER_HOST": docker_host}, memory=64 << 20)
    done = builds.run("head -c 400000000 /dev/zero | tail -c 390000000 | wc -c")
    assert done.result.outcome == "built"  # of a pipe the last command's status counts
    done = builds.run("tail -c 390000000 /dev/zero")
    assert (done.result.outcome, done.result.exit_status) == ("failed", 137)
    assert "want of memory" in done.log


def test_too_many_processes_fail_the_build_only(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_sandbox, "PROCESSES", 16)
    done = builds.run("i=0; while [ $i -lt 50 ]; do sleep 60 & i=$((i+1)); done; exit 0", timeout=60)
    assert done.result.outcome == "failed", done.result
    assert "fork" in done.log


def test_a_network_only_when_asked_for(builds: Builds) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        connect = f"nc -w 5 127.0.0.1 {server.getsockname()[1]} </dev/null"
        done = builds.run(f"{connect} && hostname && test -s /etc/resolv.conf -o -e /etc/hosts", network=True)
    assert (done.result.outcome, done.log) == ("built", "ccstore\n")


def test_little_is_there_that_the_sandbox_has_not(builds: Builds) -> None:
    done = builds.run("ls -A / /etc /sys; cat /etc/hosts /etc/resolv.conf")
    listed = [part.partition(":") for part in done.log.split("\n\n")]
    assert {name: sorted(text.split()) for name, _, text in listed} == {
        "/": [".dockerenv", "bin", "build", "dev", "etc", "in", "out", "proc", "sys", "tmp", "usr"],
        "/etc": ["hostname", "hosts", "mtab", "resolv.conf"],
        "/sys": [],
    }


def test_a_failure_that_was_kept_runs_again(
    builds: Builds, docker_host: str, tool: Callable[[str], str]
) -> None:
    tool("docker")
    done = builds.run(
        "cat mark /tmp/mark /in/source/a '/in/.builder/n o'; echo kept | tee mark > /tmp/mark; rm $out/a; exit 9",
        inputs={"source": builds.tree("it's", {"a": "text\n"})},
        files={"n o": "it's 'quoted'\n"},
        overlays={"out": "source"},
        keep_failed=True,
    )
    again = subprocess.run(
        ["/bin/sh", "-c", done.result.command],
        env={**os.environ, "DOCKER_HOST": docker_host},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (again.returncode, again.stdout) == (9, "kept\nkept\ntext\nit's 'quoted'\n"), again


def test_the_library_is_not_imported_before_a_build() -> None:
    code = "import sys, ccstore.build.workspace; print('docker' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
