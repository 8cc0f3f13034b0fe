"""Outputs that would do harm where they are taken to. Each attack writes /out/out, or tries to."""

from __future__ import annotations

import os
import socket
import stat
import struct

from .attempt import attempt, main


def special_bits() -> None:
    os.makedirs("/out/out/folder")
    for name, mode in (
        ("suid", 0o4755),
        ("sgid", 0o2755),
        ("sticky", 0o1777),
        ("open", 0o666),
        ("closed", 0),
    ):
        with open(f"/out/out/{name}", "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nid\n")
        os.chmod(f"/out/out/{name}", mode)
    os.chmod("/out/out/folder", 0o3777)
    # POSIX access list (acl(5)): version 2; owner, a user, group, mask, others
    entries = ((1, 7, -1), (2, 7, 1000), (4, 7, -1), (16, 7, -1), (32, 7, -1))
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *each) for each in entries)
    for name in ("system.posix_acl_access", "system.posix_acl_default", "user.note"):
        try:
            os.setxattr("/out/out/folder", name, access)
        except OSError as error:
            print(name, error)


def suid_file() -> None:
    with open("/out/out", "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nid\n")
    os.chmod("/out/out", 0o6777)


def suid_gains_nothing() -> None:
    """A copy of a program that is set-uid, run inside."""
    with open("/usr/bin/id", "rb") as source, open("/build/id", "wb") as target:
        target.write(source.read())
    os.chmod("/build/id", 0o6755)
    os.execv("/build/id", ["id", "-u"])


def devices() -> None:
    os.mkdir("/out/out")
    for name, kind, number in (("null", stat.S_IFCHR, (1, 3)), ("mem", stat.S_IFCHR, (1, 1)),
                               ("disk", stat.S_IFBLK, (8, 0)), ("kvm", stat.S_IFCHR, (10, 232))):  # fmt: skip
        attempt(name, lambda: os.mknod(f"/out/out/{name}", kind | 0o666, os.makedev(*number)))
        attempt(f"{name} in /dev", lambda: os.mknod(f"/dev/shm/{name}", kind | 0o666, os.makedev(*number)))


def fifo() -> None:
    os.mkdir("/out/out")
    os.mkfifo("/out/out/fifo", 0o666)


def fifo_alone() -> None:
    os.mkfifo("/out/out", 0o666)


def plug() -> None:
    os.mkdir("/out/out")
    socket.socket(socket.AF_UNIX).bind("/out/out/plug")


def whiteout() -> None:
    """A character device 0:0, which anybody may make since Linux 5.8: to overlayfs, that something is gone."""
    os.mkdir("/out/out")
    os.mknod("/out/out/file", stat.S_IFCHR | 0o666, 0)


def links_to(victim: str) -> None:
    """`victim` is a folder of the host with a file `kept` in it."""
    os.mkdir("/out/out")
    os.symlink(f"{victim}/kept", "/out/out/file")
    os.symlink(victim, "/out/out/folder")
    os.symlink("/" + "../" * 40 + victim.lstrip("/"), "/out/out/up")
    os.symlink("folder", "/out/out/again")
    os.symlink("loop", "/out/out/loop")


def link_alone(victim: str) -> None:
    """First a folder, which is then replaced."""
    os.mkdir("/out/out")
    os.rmdir("/out/out")
    os.symlink(victim, "/out/out")


def view_with_a_link(victim: str) -> None:
    """In a view of the input: a link takes the place of a folder whose files ccstore will want to fill in."""
    for name in os.listdir("/out/out/folder"):
        os.unlink(f"/out/out/folder/{name}")
    os.rmdir("/out/out/folder")
    os.symlink(victim, "/out/out/folder")


def closed_doors() -> None:
    """What it was given, it closes for everybody."""
    os.mkdir("/out/out")
    for folder in ("/out/out", "/out", "/build", "/tmp"):
        os.chmod(folder, 0)


def closed_doors_and_fails() -> None:
    closed_doors()
    os._exit(1)


def odd_names() -> None:
    os.mkdir("/out/out")
    for name in (
        b"\n",
        b"\xff\xfe",
        b"\x1b[31m",
        b"a" * 255,
        b"-rf",
        b"* ?",
        b".tmp-x",
        "é".encode(),
        "e\u0301".encode(),
    ):
        os.close(os.open(b"/out/out/" + name, os.O_CREAT | os.O_WRONLY, 0o644))


def too_deep() -> None:
    os.mkdir("/out/out")
    os.chdir("/out/out")
    for _ in range(60):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)


if __name__ == "__main__":
    main(globals())
