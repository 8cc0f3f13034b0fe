"""Becomes a virtual machine monitor that cannot outlive ccstore. Stand-alone: only the standard library and, for
archives, the builder `image_tree`; run as `python3 -I -S enter.py FD`, where FD is open on a JSON text (see `Spec`).

The process asks for SIGKILL when its parent dies, and then becomes the program. When the guest gets a container's
root file system, it first makes one that dies with it: in a mount namespace of its own (and a user namespace, unless
it is root already), on a tmpfs that nothing else ever sees,

    <TOP>/share/<image>/<rootfs>   overlayfs: the folder that the user gave below, the tmpfs above

or a copy of the folder, where overlayfs cannot keep its marks on a tmpfs (before Linux 6.6) or the folder is another
user's, whom the container's root could not act for; or what was in an archive. The agent starts no process without
/etc/passwd and /etc/group, so they are made where they are missing. Whichever way the process ends, nothing is left
to remove.

In `argv`, SHARE stands for `<TOP>/share`. What could not be done is written to the descriptor `status` as JSON,
`{"step": …, "text": …}`; it reaches its end when the program runs.
"""

# pathlib alone would cost more time than all that this script imports
# ruff: noqa: PTH100, PTH101, PTH102, PTH103, PTH115, PTH116, PTH120, PTH123, PTH211

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypedDict

    class Root(TypedDict):
        """A container's root: a folder that is never written, or a tar archive; `at` is its path below the share."""

        folder: str | None
        archive: int | None
        at: str

    class Spec(TypedDict):
        """What to do. `keep` are the descriptors that the program inherits."""

        parent: int
        status: int
        keep: list[int]
        root: Root | None
        argv: list[str]
        env: dict[str, str]


SHARE = "@share@"
BUILDERS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "builders")
TOP = "/sys/fs"  # a folder that every Linux has and no monitor looks into
CANNOT_ENTER = 125
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 16384, 1 << 18
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(Exception):
    """The system did not allow a step."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step, self.error = step, error


def check(result: int) -> None:
    """Raises OSError if a C call gave -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    names = (os.fsencode(each) for each in (kind, target, kind))
    check(libc.mount(*names, ctypes.c_ulong(flags), os.fsencode(options)))


def die_with(parent: int) -> None:
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os._exit(CANNOT_ENTER)


def own_mounts() -> None:
    """A mount namespace of one's own; an ordinary user is root in a user namespace, and in it alone."""
    user, group = os.geteuid(), os.getegid()
    try:
        check(libc.unshare(CLONE_NEWNS))
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    check(libc.mount(b"", b"/", b"", ctypes.c_ulong(MS_REC | MS_PRIVATE), b""))


def private_root(root: Root) -> str:
    """Makes the container's root and returns the path of the share that holds it."""
    # named by descriptor, as overlayfs would split a path at commas and colons
    folder, lower = root["folder"], ""
    if folder is not None:
        lower = f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"
    mount("tmpfs", TOP, MS_NOSUID | MS_NODEV, "mode=0755")
    place = f"{TOP}/share/{root['at']}"
    for each in (place, f"{TOP}/upper", f"{TOP}/work"):
        os.makedirs(each, mode=0o755)
    if root["archive"] is not None:
        unpack(root["archive"], place)
    elif not overlay(lower, place):
        copy(lower, place)
    complete(place)
    return f"{TOP}/share"


def complete(place: str) -> None:
    """Adds the files that the agent insists on; no link is followed, as it could lead to the host's."""
    if not os.path.lexists(f"{place}/etc"):
        os.mkdir(f"{place}/etc", 0o755)
    if not stat.S_ISDIR(os.lstat(f"{place}/etc").st_mode):
        return
    for name, text in (("passwd", b"root:x:0:0:root:/:/bin/sh\n"), ("group", b"root:x:0:\n")):
        path = f"{place}/etc/{name}"
        if not os.path.lexists(path):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(file, text)
            os.close(file)


def unpack(archive: int, place: str) -> None:
    """Unpacks an archive of ours; an ordinary user has but one owner to give, and no devices."""
    from pathlib import Path  # only now, like what needs it: they take a while

    if TYPE_CHECKING or __package__:
        from ccstore.builders import image_tree
    else:
        sys.path.append(BUILDERS)
        import image_tree
    image_tree.unpack(Path(f"/proc/self/fd/{archive}"), Path(place), ordinary=True)


def overlay(lower: str, place: str) -> bool:
    """Mounts the layers; False where that cannot be, or would not do."""
    inside = in_user_namespace()
    if inside and os.stat(lower).st_uid != 0:
        return False
    marks, kind = ("userxattr,", "user") if inside else ("", "trusted")
    try:
        os.setxattr(f"{TOP}/work", f"{kind}.overlay.opaque", b"n")
        os.chmod(
            f"{TOP}/upper", stat.S_IMODE(os.stat(lower).st_mode)
        )  # the one folder that is never copied up
        layers = f"lowerdir={lower},upperdir={TOP}/upper,workdir={TOP}/work"
        mount("overlay", place, MS_NOSUID | MS_NODEV, marks + layers)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.ENOMEM):
            raise
        return False
    return True


def in_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split() != ["0", "0", "4294967295"]


def copy(source: str, target: str) -> None:
    """Copies a tree; what cannot be made without privileges (device nodes) is left out."""
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            copy_entry(entry.path, f"{target}/{entry.name}")
    os.chmod(target, stat.S_IMODE(os.stat(source).st_mode))


def copy_entry(source: str, target: str) -> None:
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        os.mkdir(target, 0o755)
        copy(source, target)
    elif stat.S_ISREG(status.st_mode):
        with open(source, "rb") as old, open(target, "wb") as new:
            while data := old.read(1 << 20):
                new.write(data)
        os.chmod(target, stat.S_IMODE(status.st_mode))
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(target, stat.S_IMODE(status.st_mode))


def attempt(step: str, action: object, *values: object) -> object:
    try:
        return action(*values)  # type: ignore[operator]
    except OSError as error:
        raise RefusedError(step, error) from error


def run(spec: Spec) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    argv = spec["argv"]
    attempt("prctl", die_with, spec["parent"])
    root = spec["root"]
    if root is not None:
        attempt("make namespaces", own_mounts)
        attempt("prctl", die_with, spec["parent"])  # a change of credentials takes it back
        share = str(attempt("make the container's root", private_root, root))
        argv = [word.replace(SHARE, share) for word in argv]
    for descriptor in spec["keep"]:
        os.set_inheritable(descriptor, True)
    attempt(f"run {argv[0]}", os.execve, argv[0], argv, spec["env"])
    os._exit(CANNOT_ENTER)


def main() -> NoReturn:
    with open(int(sys.argv[1]), encoding="utf-8") as source:
        spec: Spec = json.load(source)
    os.set_inheritable(spec["status"], False)
    try:
        run(spec)
    except RefusedError as refused:
        message = {"step": refused.step, "errno": refused.error.errno, "text": str(refused.error)}
        os.write(spec["status"], json.dumps(message).encode())
    finally:
        os._exit(CANNOT_ENTER)


if __name__ == "__main__":
    main()
