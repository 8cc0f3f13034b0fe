"""The client against agents in guests: hyperstart, and the tests' own where its source cannot be reached.

Each has one guest with one pod for most of what is asked here.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ccstore.codec.hyper import API_VERSION
from ccstore.errors import CcError
from ccstore.guest.agent_bodies import Address, Container, Interface, Pod, Route
from ccstore.guest.container import Root, Streams, started_pod
from tests.guest import agents
from tests.guest.agents import PATIENCE, Machine

AGENTS = ("testagent", "hyperstart")


@pytest.fixture(scope="module", params=AGENTS)
def machine(request: pytest.FixtureRequest, tool: Callable[[str], str], kernel: Path) -> Machine:
    return Machine(tool("qemu-system-x86_64"), kernel, request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def pod(
    machine: Machine, container_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[agents.Pod]:
    folder = tmp_path_factory.mktemp("guest")
    with agents.guest(machine, folder) as guest:
        with agents.pod(guest, container_root) as pod:
            yield pod
        assert guest.process.wait(PATIENCE) == 0  # PID 1 powers off after DESTROYPOD


def test_it_answers(pod: agents.Pod) -> None:
    assert pod.agent.version() == API_VERSION
    pod.agent.ping()
    pod.agent.rescan()
    pod.agent.online()


def test_output_comes_apart_and_the_status_through(pod: agents.Pod) -> None:
    status, heard = pod.run("echo hi; echo no >&2; exit 7")
    assert status == 7
    assert heard.out == b"hi\n"
    assert heard.err == b"no\n"


def test_what_a_process_is_given(pod: agents.Pod) -> None:
    status, heard = pod.run('hostname; pwd; echo "$WORDS"; echo "$0"')
    assert status == 0
    assert heard.out.decode() == 'pod0\n/\na "b" \\ \n}ü\n/bin/sh\n'


@pytest.mark.parametrize(("script", "status"), [("true", 0), ("exit 255", 255), ("/bin/nothing", 127)])
def test_statuses(pod: agents.Pod, script: str, status: int) -> None:
    assert pod.run(script)[0] == status


def test_a_program_that_is_not_there(pod: agents.Pod) -> None:
    assert pod.run("/bin/nothing", "at all")[0] == 127


def feed(data: bytes) -> int:
    """A descriptor from which `data` can be read, as fast as it is."""
    ours, theirs = os.pipe()

    def write_all() -> None:
        with os.fdopen(theirs, "wb") as pipe:
            try:
                pipe.write(data)
            except BrokenPipeError:
                return

    threading.Thread(target=write_all, daemon=True).start()
    return ours


@pytest.mark.parametrize("size", [0, 1, 512, 513, 300_000])
def test_input_arrives_whole(pod: agents.Pod, size: int) -> None:
    data = os.urandom(size)
    source = feed(data)
    status, heard = pod.run("md5sum", "-", stdin=source)
    os.close(source)
    assert status == 0
    assert heard.words[0] == hashlib.md5(data).hexdigest()


def test_input_waits_for_a_process_that_takes_its_time(pod: agents.Pod) -> None:
    data = os.urandom(150_000)
    source = feed(data)
    _, heard = pod.run("sleep 1; md5sum", stdin=source)
    os.close(source)
    assert heard.words[0] == hashlib.md5(data).hexdigest()


def test_input_and_output_at_once(pod: agents.Pod) -> None:
    data = os.urandom(200_000)
    source = feed(data)
    status, heard = pod.run("cat; exit 5", stdin=source)
    os.close(source)
    assert status == 5
    assert bytes(heard.out) == data


def test_input_that_nobody_reads_ends_with_the_process(pod: agents.Pod) -> None:
    source = feed(bytes(1_000_000))
    assert pod.run("head -c 3 >/dev/null; exit 4", stdin=source)[0] == 4
    os.close(source)
    running, _ = pod.start("exit 0")
    assert pod.agent.wait(running, PATIENCE) == 0
    with pytest.raises(BrokenPipeError):
        pod.agent.write(running, b"late")


def test_output_waits_for_who_reads_it(pod: agents.Pod) -> None:
    taken = bytearray()

    def slowly(data: bytes) -> None:
        if not taken:
            time.sleep(1)
        taken.extend(data)

    running = pod.agent.new_container(
        Container("slow", pod.process("seq 100000"), pod.root.image), slowly, slowly
    )
    assert pod.agent.wait(running, PATIENCE) == 0
    assert taken.decode().split() == [str(number) for number in range(1, 100_001)]


def test_who_cannot_take_output_is_told_and_the_others_go_on(pod: agents.Pod) -> None:
    def broken(data: bytes) -> None:
        raise BrokenPipeError("nobody reads")

    container = Container("broken", pod.process("yes"), pod.root.image)
    running = pod.agent.new_container(container, broken, broken)
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        pod.agent.wait(running, PATIENCE)
    assert pod.run("echo on")[1].out == b"on\n"
    pod.agent.kill("broken")


def test_containers_run_side_by_side(pod: agents.Pod) -> None:
    started = [pod.start(f"seq 3000; exit {number}") for number in range(3)]
    for number, (running, heard) in enumerate(started):
        assert pod.agent.wait(running, PATIENCE) == number
        assert len(heard.words) == 3000


def test_a_terminal_has_a_size_and_an_end_of_input(pod: agents.Pod) -> None:
    running, heard = pod.start("tty; read line; stty size; cat; exit 6", terminal=True)
    pod.agent.window_size(running, 33, 101)
    pod.agent.write(running, b"word\n")
    pod.agent.end_input(running)
    assert pod.agent.wait(running, PATIENCE) == 6
    assert "/dev/pts/" in heard.out.decode()
    assert b"33 101\r\n" in heard.out


def test_a_terminal_of_a_process_that_is_gone_at_once(pod: agents.Pod) -> None:
    for _ in range(3):
        heard = agents.Heard()
        streams = Streams(heard.out.extend, heard.err.extend, size=(24, 80))
        assert pod.started.run(pod.root, pod.process("exit 3", terminal=True), streams, timeout=PATIENCE) == 3


def test_a_terminal_whose_last_line_has_no_end(pod: agents.Pod) -> None:
    running, heard = pod.start("cat; exit 4", terminal=True)
    pod.agent.write(running, b"unfinished")
    pod.agent.end_input(running)
    assert pod.agent.wait(running, PATIENCE) == 4
    assert heard.out.count(b"unfinished") == 2  # the terminal's echo, and cat


def test_more_processes_in_a_container_and_their_signals(pod: agents.Pod) -> None:
    first, _ = pod.start("sleep 1000")
    second, heard = pod.more(
        first.container, "trap 'echo caught; exit 3' TERM; echo set; while :; do sleep 0.1; done"
    )
    third, _ = pod.more(first.container, "sleep 1000")
    wait_for(lambda: b"set" in heard.out)
    pod.agent.signal(second, signal.SIGTERM)
    assert pod.agent.wait(second, PATIENCE) == 3
    assert b"caught" in heard.out
    pod.agent.kill(first.container)
    assert pod.agent.wait(first, PATIENCE) == 137
    assert pod.agent.wait(third, PATIENCE) == 137


def wait_for(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_a_signal_ends(pod: agents.Pod, number: int) -> None:
    assert pod.run(f"kill -{number} $$")[0] == 128 + number


def test_files_in_a_container(pod: agents.Pod) -> None:
    running, heard = pod.start("read go; cat '/tmp/a}b'; wc -c </tmp/large")
    data = os.urandom(100_000)
    pod.agent.write_file(running.container, "/tmp/a}b", b"}{ words\n")
    pod.agent.write_file(running.container, "/tmp/large", data)
    assert pod.agent.read_file(running.container, "/tmp/large") == data
    with pytest.raises(CcError) as caught:
        pod.agent.read_file(running.container, "/tmp/nothing")
    assert caught.value.code == "agent-error"
    pod.agent.write(running, b"go\n")
    assert pod.agent.wait(running, PATIENCE) == 0
    assert heard.out == b"}{ words\n100000\n"


def test_what_the_agent_refuses(pod: agents.Pod) -> None:
    running, _ = pod.start("sleep 1000")
    requests: list[Callable[[], object]] = [
        lambda: pod.agent.exec("nowhere", pod.process("true"), print, print),
        lambda: pod.agent.kill("nowhere"),
        lambda: pod.agent.remove("nowhere"),
        lambda: pod.agent.new_container(
            Container(running.container, pod.process("true"), pod.root.image), print, print
        ),
        lambda: pod.agent.new_container(Container("c", pod.process("true"), "no-image"), print, print),
        lambda: pod.agent.window_size(running, 1, 1),
        lambda: pod.agent.start_pod(Pod("again")),
    ]
    for request in requests:
        with pytest.raises(CcError) as caught:
            request()
        assert caught.value.code == "agent-error"
    with pytest.raises(CcError, match="no such container"):
        pod.agent.kill("nowhere")
    assert pod.run("echo still here")[1].out == b"still here\n"
    pod.agent.kill(running.container)
    assert pod.agent.wait(running, PATIENCE) == 137


def test_a_wait_has_an_end_and_the_process_can_still_be_killed(pod: agents.Pod) -> None:
    running, _ = pod.start("trap '' TERM; sleep 1000")
    with pytest.raises(CcError) as caught:
        pod.agent.wait(running, 0.3)
    assert caught.value.code == "agent-timeout"
    pod.agent.kill(running.container)
    assert pod.agent.wait(running, PATIENCE) == 137


def test_network_and_users(pod: agents.Pod, machine: Machine) -> None:
    pod.agent.interface(Interface("dummy0", (Address("10.9.0.1", 24), Address("10.9.1.1", 16))))
    pod.agent.route(Route("10.77.0.0/16", "10.9.0.2", "dummy0"))
    if "hyperstart" not in machine.initramfs.name:
        return  # the tests' own agent takes these and does nothing
    _, heard = pod.run("ip address; ip route")
    said = heard.out.decode()
    for words in (
        "10.0.2.15/24",
        "10.9.0.1/24",
        "10.9.1.1/16",
        "default via 10.0.2.2 dev eth0",
        "10.77.0.0/16 via",
    ):
        assert words in said
    with pytest.raises(CcError):
        pod.agent.delete_interface("none0")
    running, heard = pod.start("id -u; id -g", user="user")
    assert pod.agent.wait(running, PATIENCE) == 0
    assert heard.words == ["1000", "1000"]


def test_a_block_device_is_a_root_and_a_stubborn_process_is_ended_in_time(
    machine: Machine, container_root: Path, tool: Callable[[str], str], tmp_path: Path
) -> None:
    image = tmp_path / "root.img"
    command = [tool("mke2fs"), "-q", "-t", "ext4", "-d", str(container_root), str(image), "32M"]
    subprocess.run(command, check=True)
    drive = ("-drive", f"file={image},format=raw,if=virtio,snapshot=on")
    with_disk = Machine(machine.qemu, machine.kernel, machine.initramfs, drive)
    with agents.guest(with_disk, tmp_path / "guest") as guest, guest.connect() as agent:
        with started_pod(agent, hostname="pod0", share=False, end_timeout=PATIENCE) as started:
            pod = agents.Pod(agent, started, Root("vda", "", "ext4"))
            status, heard = pod.run("cat /proc/mounts; ls /")
            assert status == 0
            assert "/dev/vda / ext4" in heard.out.decode()
            container = Container("c", pod.process("trap '' TERM; echo set; sleep 1000"), "vda", "", "ext4")
            agent.new_container(container, heard.err.extend, heard.err.extend)
            wait_for(lambda: b"set" in heard.err)
        assert guest.process.wait(PATIENCE) == 0
