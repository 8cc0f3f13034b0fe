"""What a build cannot see, and cannot change."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import uuid
from threading import Thread

import pytest

from .conftest import Builds
from .nested import in_namespaces, mount_tmpfs


def test_there_is_only_a_loopback_and_it_is_up(builds: Builds) -> None:
    done = builds.run("ls /proc/sys/net/ipv4/conf; ifconfig lo | grep -c 'UP LOOPBACK RUNNING'")
    assert done.log.split() == ["all", "default", "lo", "1"]


def test_a_server_of_the_host_can_be_reached_only_when_asked_for(builds: Builds) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connect = (
            f"nc -w 5 127.0.0.1 {server.getsockname()[1]} </dev/null && test -e /etc/hosts && ! touch /etc/x"
        )
        assert builds.run(connect).result.outcome == "failed"
        Thread(target=lambda: server.accept()[0].close()).start()
        done = builds.run(connect, network=True)
    assert done.result.outcome == "built", done.log


def test_no_host_files(builds: Builds) -> None:
    done = builds.run(f"ls /; ls /in; ls -a /tmp /build; cat {builds.root.path}/bin/busybox")
    names = ["bin", "build", "dev", "etc", "in", "out", "proc", "tmp", "usr"]
    assert done.result.exit_status == 1
    assert done.log.split()[: len(names)] == names
    assert "No such file" in done.log.splitlines()[-1]


def test_no_host_processes_and_no_host_paths_in_them(builds: Builds) -> None:
    done = builds.run("ps -o pid,args; cat /proc/1/environ; readlink /proc/1/exe; cat /proc/self/cgroup")
    assert [line.split()[:2] for line in done.log.splitlines()[1:3]] == [["1", "init"], ["2", "/bin/sh"]]
    assert str(builds.place) not in done.log.replace(str(done.request.argv), "")
    assert "enter" not in done.log


def test_the_tree_and_the_inputs_are_read_only(builds: Builds) -> None:
    tree = builds.tree("source", {"a/b": "text"})
    attempts = [
        "echo x > /x",
        "echo x > /in/x",
        "chmod 777 /bin",
        "chmod 777 /in/source/a",
        "echo x >> /in/source/a/b",
        "chmod 666 /in/source/a/b",
        "touch /in/source/a/b",
        "rm -f /in/source/a/b",
        "ln /in/source/a/b /build/b",
        "touch /dev/x",
        "mount -o remount,rw /in/source",
        "umount /in/source",
        "mount -t tmpfs none /build",
        "mknod /build/null c 1 3",
        "chown 0 /build",
        "hostname other",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo other > /proc/sys/kernel/hostname",
        "v=$(cat /proc/sys/vm/swappiness); echo $v > /proc/sys/vm/swappiness",
        "true >> /proc/irq/default_smp_affinity",
        "true >> /proc/1/oom_score_adj",
        "chmod 666 /dev/null",
        "touch -c /dev/zero",
    ]
    script = "".join(f"({each}) 2>/dev/null && echo '{each}'\n" for each in attempts)
    done = builds.run(script + "true", inputs={"source": tree})
    assert done.result.outcome == "built"
    assert done.log == ""
    assert (tree.path / "a/b").read_text() == "text"
    assert (tree.path / "a/b").stat().st_mode & 0o777 == 0o444


def calling(number: int, argument: int, gate: str = "0f05") -> bytes:
    """A program for x86_64 that makes one system call and exits with its errno: ELF header, one segment, code.

    The `gate` cd80 is that of 32-bit programs (int 0x80), which have other numbers.
    """
    code = b"\xb8" + struct.pack("<I", number)  # mov eax; mov edi; mov ebx
    code += b"\xbf" + struct.pack("<I", argument) + b"\xbb" + struct.pack("<I", argument)
    code += bytes.fromhex(
        f"31f6 31d2 31c9 {gate} f7d8 89c7 b83c000000 0f05"
    )  # no more arguments; exit(-result)
    start, base = 64 + 56, 0x400000
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = start + len(code)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86_64")
@pytest.mark.parametrize(
    ("number", "argument", "wanted"),
    [
        pytest.param(248, 0, errno.ENOSYS, id="add_key"),
        pytest.param(249, 0, errno.ENOSYS, id="request_key"),
        pytest.param(250, 0, errno.ENOSYS, id="keyctl"),
        pytest.param(250 | 1 << 30, 0, errno.ENOSYS, id="keyctl of x32"),
        pytest.param(425, 1, errno.ENOSYS, id="io_uring_setup"),
        pytest.param(103, 10, errno.ENOSYS, id="syslog"),
        pytest.param(41, socket.AF_VSOCK, errno.EAFNOSUPPORT, id="AF_VSOCK"),
        pytest.param(41, socket.AF_ALG, errno.EAFNOSUPPORT, id="AF_ALG"),
        # type 0 is none that they have, so the family itself is let through
        pytest.param(41, socket.AF_UNIX, errno.ESOCKTNOSUPPORT, id="AF_UNIX"),
        pytest.param(41, socket.AF_INET6, errno.ESOCKTNOSUPPORT, id="AF_INET6"),
    ],
)
def test_what_no_namespace_hides_is_forbidden(
    builds: Builds, number: int, argument: int, wanted: int
) -> None:
    program = builds.place / "program"
    program.write_bytes(calling(number, argument))
    program.chmod(0o555)
    done = builds.run("", argv=("/in/program",), inputs={"program": type(builds.root)(program)})
    assert done.result.exit_status == wanted, done.log


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86_64")
@pytest.mark.parametrize(
    ("number", "argument", "wanted"),
    [
        pytest.param(286, 0, errno.ENOSYS, id="add_key"),
        pytest.param(288, 0, errno.ENOSYS, id="keyctl"),
        pytest.param(425, 1, errno.ENOSYS, id="io_uring_setup"),
        pytest.param(103, 10, errno.ENOSYS, id="syslog"),
        pytest.param(102, 1, errno.ENOSYS, id="socketcall"),
        pytest.param(359, socket.AF_VSOCK, errno.EAFNOSUPPORT, id="AF_VSOCK"),
        pytest.param(359, socket.AF_UNIX, errno.ESOCKTNOSUPPORT, id="AF_UNIX"),
    ],
)
def test_32_bit_calls_are_no_way_around(builds: Builds, number: int, argument: int, wanted: int) -> None:
    program = builds.place / "program"
    program.write_bytes(calling(number, argument, gate="cd80"))
    program.chmod(0o555)
    done = builds.run("", argv=("/in/program",), inputs={"program": type(builds.root)(program)})
    # some kernels have no such calls at all
    assert done.result.exit_status in (wanted, 128 + signal.SIGSEGV), done.log


def test_init_cannot_be_killed(builds: Builds) -> None:
    done = builds.run("for s in INT TERM HUP QUIT KILL USR1; do kill -$s 1; done; sleep 0.1; echo alive")
    assert done.log == "alive\n"


def test_no_descriptor_is_inherited(builds: Builds) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        done = builds.run("", argv=("ls", "/proc/self/fd"))
    finally:
        os.close(reader)
        os.close(writer)
    assert done.log.split() == ["0", "1", "2", "3"]  # 3 is the folder that ls reads


def test_the_devices_work(builds: Builds) -> None:
    script = """
        head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null
        echo x > /dev/full || echo full; echo x > /dev/shm/x; cat /dev/shm/x; echo out > /dev/stdout
        ls /dev | tr '\\n' ' '
    """
    lines = builds.run(script).log.splitlines()
    assert lines[:2] == ["3", "3"]
    assert lines[3:6] == ["full", "x", "out"]
    assert lines[6] == "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero "


def test_system_v_ipc_is_private(builds: Builds) -> None:
    assert builds.run("cat /proc/sysvipc/shm | wc -l; cat /proc/sysvipc/msg | wc -l").log.split() == [
        "1",
        "1",
    ]


def test_a_mount_below_an_input_is_read_only_too(builds: Builds) -> None:
    """The mount is made in namespaces of the test's own, so it needs no root and is gone with them."""

    def action() -> None:
        inner = builds.place / "holder/inner"
        mount_tmpfs(inner)
        (inner / "file").write_text("x")
        tree = type(builds.root)(builds.place / "holder")
        done = builds.run("cat /in/holder/inner/file; echo y > /in/holder/inner/new", inputs={"holder": tree})
        assert done.result.outcome == "failed"
        assert done.log.startswith("x")
        assert "Read-only" in done.log

    in_namespaces(action)


def test_nothing_of_a_name_is_left_on_the_host(builds: Builds) -> None:
    name = f"ccstore-{uuid.uuid4().hex}"
    builds.run(f"touch /tmp/{name} /build/{name} /dev/shm/{name}")
    found = subprocess.run(["find", "/tmp", "/dev/shm", "-maxdepth", "4", "-name", name], capture_output=True)
    assert found.stdout == b""
