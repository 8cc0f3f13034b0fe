"""Reading what is not in the sandbox, and changing what is not the build's."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct

from .attempt import attempt, call, check, libc, main, read

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
MS_REMOUNT, MS_BIND, MNT_DETACH = 32, 4096, 2
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
NEW_MOUNT_API = {"open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442}
FS_IOC_SETFLAGS, FS_IMMUTABLE = 0x40086602, 0x10


def reads_the_host(*secrets: str) -> None:
    """`secrets` are files of the host: a user's, a store's database, another build's."""
    for secret in secrets:
        name = os.path.basename(secret)
        attempt(f"{name} by its name", lambda: read(secret))
        attempt(f"{name} through init's root", lambda: read(f"/proc/1/root{secret}"))
        attempt(f"{name} through init's folder", lambda: read(f"/proc/1/cwd{secret}"))
        attempt(f"{name} through our root", lambda: read(f"/proc/self/root{secret}"))
        for top in ("/", "/in/input", "/out", "/build", "/tmp", "/proc/self/cwd", "/dev/shm"):
            attempt(f"{name} above {top}", lambda: read(f"{top}/{'../' * 40}{secret}"))
    for name in ("mem", "maps", "environ", "io", "auxv", "stack", "syscall", "fd/0", "task/1/environ"):
        attempt(f"init's {name}", lambda: read(f"/proc/1/{name}"))
    for name in ("exe", "cwd", "root", "ns/mnt", "ns/net", "fd/1"):
        attempt(f"where init's {name} leads", lambda: os.readlink(f"/proc/1/{name}"))
    for name in (
        "/dev/mem",
        "/dev/kmsg",
        "/dev/sda",
        "/dev/vda",
        "/dev/fuse",
        "/dev/loop-control",
        "/sys/kernel",
    ):
        attempt(name, lambda: os.stat(name))


def leaves_the_root(secret: str) -> None:
    attempt("chroot", lambda: os.chroot("/build"))
    attempt("pivot_root", lambda: call(155, b"/build", b"/build"))
    attempt("umount /", lambda: check(libc.umount2(b"/", MNT_DETACH)))
    attempt("umount /in/input", lambda: check(libc.umount2(b"/in/input", 0)))
    attempt("mount tmpfs", lambda: check(libc.mount(b"none", b"/build", b"tmpfs", 0, None)))
    attempt("bind mount", lambda: check(libc.mount(b"/in", b"/build", None, MS_BIND, None)))
    attempt("remount", lambda: check(libc.mount(None, b"/in/input", None, MS_REMOUNT | MS_BIND, None)))
    attempt("fsopen", lambda: call(NEW_MOUNT_API["fsopen"], b"proc", 0))
    attempt("open_tree", lambda: call(NEW_MOUNT_API["open_tree"], AT_FDCWD, b"/", 1))
    attributes = struct.pack("QQQQ", 0, 1, 0, 0)  # take the read-only flag away
    attempt(
        "mount_setattr",
        lambda: call(NEW_MOUNT_API["mount_setattr"], AT_FDCWD, b"/in/input", 0, attributes, 32),
    )
    attempt("new user namespace", lambda: check(libc.unshare(CLONE_NEWUSER)))
    attempt("new mount namespace", lambda: check(libc.unshare(CLONE_NEWNS)))
    arguments = struct.pack("11Q", CLONE_NEWUSER, *[0] * 3, 17, *[0] * 6)
    attempt("clone3 into a user namespace", lambda: _cloned(arguments))
    attempt("init's mount namespace", lambda: os.open("/proc/1/ns/mnt", os.O_RDONLY))
    own = os.open("/proc/self/ns/user", os.O_RDONLY)
    attempt("our own user namespace again", lambda: check(libc.setns(own, CLONE_NEWUSER)))
    attempt("the user namespace above", lambda: fcntl.ioctl(own, 0xB702))  # NS_GET_PARENT
    attempt("open_by_handle_at", lambda: _by_handle("/in/input"))
    os.makedirs("/build/link", exist_ok=True)
    os.symlink("/" + "../" * 40 + secret.lstrip("/"), "/build/link/up")
    attempt("a link that leads up", lambda: read("/build/link/up"))


def _cloned(arguments: bytes) -> int:
    child = call(435, arguments, len(arguments))
    if child == 0:
        os._exit(0)
    return child


def _by_handle(path: str) -> int:
    """The handle of a file by its name, then any file of that disk by its number (CVE-2014-9357's way)."""
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    check(libc.name_to_handle_at(AT_FDCWD, path.encode(), handle, ctypes.byref(mount), 0))
    return check(libc.open_by_handle_at(os.open(path, os.O_RDONLY), handle, os.O_RDONLY))


def changes_inputs() -> None:
    """/in/input is a folder with `file` (read-only) and `run` (executable); the root is the toolchain."""
    file, folder = "/in/input/file", "/in/input"
    os.symlink(file, "/build/link")
    descriptor = os.open(file, os.O_RDONLY)
    path_only = os.open(file, os.O_PATH)
    for name, path in (("an input", file), ("through a link", "/build/link"), ("a folder", folder),
                       ("through /proc/self/fd", f"/proc/self/fd/{descriptor}"),
                       ("the toolchain", "/usr/bin/env"),
                       ("through a path descriptor", f"/proc/self/fd/{path_only}"),
                       ("builder's text", "/in/.builder/x"),
                       ("a device", "/dev/null")):  # fmt: skip
        attempt(f"chmod {name}", lambda: os.chmod(path, 0o777))
        attempt(f"time of {name}", lambda: os.utime(path, (5, 5)))
        attempt(f"owner of {name}", lambda: os.chown(path, 1000, 1000))
        attempt(f"attribute of {name}", lambda: os.setxattr(path, "user.x", b"y"))
    attempt("open for writing", lambda: os.open(file, os.O_RDWR))
    attempt("open again for writing", lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR))
    attempt("truncate", lambda: os.truncate(file, 0))
    attempt("chmod the open file", lambda: os.fchmod(descriptor, 0o666))
    attempt("time of the open file", lambda: os.utime(descriptor, (5, 5)))
    attempt("map for writing", lambda: mmap.mmap(descriptor, 4, prot=mmap.PROT_WRITE))
    attempt("immutable", lambda: fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("i", FS_IMMUTABLE)))
    attempt("remove", lambda: os.unlink(file))
    attempt("rename", lambda: os.rename(file, "/build/file"))
    attempt("rename over", lambda: os.replace("/build/link", file))
    attempt("exchange", lambda: check(libc.renameat2(AT_FDCWD, b"/build/link", AT_FDCWD, file.encode(), 2)))
    attempt("new file", lambda: os.open(f"{folder}/new", os.O_CREAT | os.O_WRONLY))
    attempt("hard link into /build", lambda: os.link(file, "/build/hard"))
    attempt("hard link into /out", lambda: os.link(file, "/out/hard"))
    attempt(
        "hard link through the descriptor",
        lambda: _linked(b"/proc/self/fd/%d" % descriptor, AT_SYMLINK_FOLLOW),
    )
    attempt("hard link of the descriptor", lambda: _linked(b"", AT_EMPTY_PATH, descriptor))
    attempt("hard link of the toolchain", lambda: os.link("/usr/bin/env", "/build/env"))


def _linked(source: bytes, flags: int, folder: int = AT_FDCWD) -> int:
    return check(libc.linkat(folder, source, AT_FDCWD, b"/out/hard", flags))


def works_on_a_view() -> None:
    """/out/out is a writable view of the input: what is done to it must not reach the input."""
    os.chmod("/out/out/file", 0o4777)
    os.utime("/out/out/file", (5, 5))
    os.chmod("/out/out/run", 0o755)
    with open("/out/out/run", "r+b") as file:
        file.write(b"changed")
    os.link("/out/out/run", "/out/out/again")
    os.chmod("/out/out", 0o777)
    os.unlink("/out/out/folder/inside")
    os.rmdir("/out/out/folder")
    os.symlink("/in", "/out/out/folder")
    attempt("take the view away", lambda: check(libc.umount2(b"/out/out", MNT_DETACH)))
    attempt("put something else in its place", lambda: os.rename("/out/out", "/out/other"))
    attempt("remove its folder", lambda: os.rmdir("/out/out"))
    attempt("mark of the overlay", lambda: os.setxattr("/out/out/run", "user.overlay.redirect", b"/etc"))
    attempt("mark of root's overlays", lambda: os.setxattr("/out/out/run", "trusted.overlay.opaque", b"y"))


if __name__ == "__main__":
    main(globals())
