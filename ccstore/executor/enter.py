"""Enters a sandbox: namespaces, mounts, exec. Stand-alone: only the standard library, run as
`python3 -I -S enter.py FD`, where FD is open on a JSON text (see `Spec`). What a build sees: `layout.py`.

Processes, each the child of the one before:

    ccstore   (a thread that outlives the build: PDEATHSIG follows the thread that forked)
    outer     makes the namespaces; SIGTERM makes it kill `init` and wait until the whole PID namespace is gone;
              with a `grace` it first asks `init` to have everything end by itself
    init      PID 1 inside: performs the operations, gives up all privileges, reaps; ends when the builder ends,
              and the kernel then kills whatever the builder left behind
    builder   PID 2: the command

Each of the first two asks for SIGKILL when its parent dies, so a `kill -9` of ccstore ends the build as well.

The status pipe (descriptor `status` of the spec) carries JSON lines: `{"ready": <monotonic seconds>, "seen": {…}}`
when the sandbox is complete, with what the builder can see of it, or what could not be done: `{"stage": namespaces |
operation | privileges | exec, "step": …, "errno": …}`. Without such a pipe the latter is printed on stderr. Exit
status: the builder's, 128 + signal if it was killed, 128 + SIGTERM if all ended within the `grace`, 125 when the
sandbox could not be made, 126 or 127 when the command could not be started.
"""

# pathlib alone would cost more time than all that this script imports
# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH109, PTH112, PTH115, PTH123, PTH211

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import signal
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn, TypedDict

    class Spec(TypedDict):
        """What to do. `parent` is the process that must be alive, or null; without `argv` it is a trial.

        `input` says what the command reads: nothing, what the caller does, or a terminal of its own, whose other
        end goes to the caller through the socket `terminal`. The descriptors `jobserver` become those of JOBSERVER.
        `grace` is how many seconds all processes have to end by themselves (SIGTERM) when the sandbox is to end.
        """

        root: str
        operations: list[list[Any]]
        argv: list[str]
        env: dict[str, str]
        conditions: Conditions
        network: bool
        input: str
        jobserver: list[int] | None
        grace: int
        parent: int | None
        status: int | None
        terminal: int | None

    class Conditions(TypedDict):
        """Those of `ccstore.ports.Conditions` that are made here. Ids are those inside; outside it is whoever runs
        ccstore. With a `probe`, a command that prints the time, more is measured before the builder begins."""

        hostname: str
        domain: str
        uid: int
        gid: int
        umask: int
        random_addresses: bool
        probe: list[str]


# resource limits of the builder: a fixed value, or as much as this host allows; CORE 1 is no file, and unlike 0 does
# not start the program either that a host may have for crashes (core(5)), which would be outside and root's
LIMITS = {"CORE": 1, "NOFILE": 4096, "STACK": 8 << 20, "CPU": None, "FSIZE": None, "DATA": None, "AS": None}
JOBSERVER = (198, 199)  # descriptors that scripts do not use for anything else
CANNOT_ENTER, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
# MS_RDONLY to MS_NOEXEC are the same numbers as MOUNT_ATTR_* and ST_*
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE, MS_RELATIME = 4096, 16384, 1 << 18, 1 << 21
KEPT_FLAGS, ST_RELATIME = 1 | 2 | 4 | 8 | 1024 | 2048, 4096
MNT_DETACH, AT_FDCWD, AT_RECURSIVE = 2, -100, 0x8000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NAME, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = (
    1,
    4,
    24,
    15,
    38,
    47,
)
PR_CAP_AMBIENT_CLEAR_ALL, CAPABILITY_VERSION_3 = 4, 0x20080522
ADDR_NO_RANDOMIZE, PERSONALITY_AS_IT_IS = 0x0040000, 0xFFFFFFFF
KEYCTL_JOIN_SESSION_KEYRING, SIOCSIFFLAGS, IFF_UP, AF_INET, SOCK_DGRAM = 1, 0x8914, 1, 2, 2
TIOCSCTTY = 0x540E
SYS_MOUNT_SETATTR = 442
SYS_PIVOT_ROOT, SYS_KEYCTL, SYS_SECCOMP = {"x86_64": (155, 250, 317), "aarch64": (41, 219, 277)}.get(
    os.uname().machine, (0, 0, 0)
)

# What no namespace hides. Keys belong to the host's user; the kernel's log is the host's, and most hosts let anybody
# read it; most families of sockets (AF_VSOCK leads to a virtual machine's host) know nothing of network namespaces;
# io_uring makes sockets too, and a filter cannot see its arguments, nor those of socketcall. By audit architecture,
# as 32-bit programs have numbers of their own: add_key, request_key, keyctl, io_uring_setup, syslog and (i386)
# socketcall; then socket.
HIDDEN_CALLS = {
    0xC000003E: ((248, 249, 250, 425, 103), 41),  # x86_64, and x32
    0x40000003: ((286, 287, 288, 425, 103, 102), 359),  # i386
    0xC00000B7: ((217, 218, 219, 425, 116), 198),  # aarch64
    0x40000028: ((309, 310, 311, 425, 103), 281),  # arm
}
SOCKET_FAMILIES = (1, AF_INET, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
BPF_LOAD, BPF_AND, BPF_JUMP_EQUAL, BPF_RETURN = 0x20, 0x54, 0x15, 0x06
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
SECCOMP_ALLOW, SECCOMP_ERRNO = 0x7FFF0000, 0x00050000

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> int:
    """The result of a C call; raises OSError if it is -1."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    names = (os.fsencode(each) for each in (source, target, kind))
    check(libc.mount(*names, ctypes.c_ulong(flags), os.fsencode(options)))


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def restrict(target: str, flags: int) -> None:
    """Adds `flags` to the mount at `target` and to all below it, keeping the flags that they have.

    A user namespace may not take away the flags of mounts that it inherits, so none is cleared.
    """
    attributes = (ctypes.c_uint64 * 4)(flags)
    path = os.fsencode(target)
    try:
        check(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, path, AT_RECURSIVE, attributes, ctypes.c_size_t(32)))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        for place in mounts_at(target):  # before Linux 5.12, or filtered in a container
            now = os.statvfs(place).f_flag
            kept = now & KEPT_FLAGS | (MS_RELATIME if now & ST_RELATIME else 0)
            mount("", place, "", MS_REMOUNT | MS_BIND | kept | flags)


def mounts_at(target: str) -> Iterator[str]:
    """The mount at `target` and those below it."""
    below = os.fsencode(target.rstrip("/") + "/")
    with open("/proc/self/mountinfo", "rb") as table:
        places = [line.split()[4] for line in table]
    for place in dict.fromkeys(places):
        plain = place.decode("unicode_escape").encode("latin-1")  # blanks are written as \\040
        if (plain + b"/").startswith(below):
            yield os.fsdecode(plain)


def mount_point(root: str, target: str, folder: bool) -> str:
    """The path of `target` on the host, made if it is not there; no link on the way is followed."""
    path = root
    parts = [part for part in target.split("/") if part]
    for i, part in enumerate(parts):
        path = f"{path}/{part}"
        want = folder or i < len(parts) - 1
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            if want:
                os.mkdir(path, 0o755)
            else:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        else:
            if stat.S_ISLNK(mode) or stat.S_ISDIR(mode) != want:
                raise NotADirectoryError(errno.ENOTDIR, f"not a real {'folder' if want else 'file'}", path)
    return path


class Operation:
    """One step in making the sandbox's file system. Targets are paths inside, sources paths of the host."""

    def execute(self, root: str) -> None:
        raise NotImplementedError

    def describe(self) -> str:
        """The step as a person would type it."""
        raise NotImplementedError

    def data(self) -> list[Any]:
        return [type(self).__name__, *vars(self).values()]


class Bind(Operation):
    """Shows a file or folder of the host, with all that is mounted below it."""

    def __init__(self, source: str, target: str, writable: bool = False) -> None:
        self.source, self.target, self.writable = source, target, writable

    def execute(self, root: str) -> None:
        target = mount_point(root, self.target, os.path.isdir(self.source))
        mount(self.source, target, "", MS_BIND | MS_REC)
        restrict(target, MS_NOSUID | MS_NODEV | (0 if self.writable else MS_RDONLY))

    def describe(self) -> str:
        return f"mount --rbind -o nosuid,nodev{'' if self.writable else ',ro'} {self.source} {self.target}"


class Device(Operation):
    """A device node of the host: making one is not allowed in a user namespace.

    The node is the host's own, which a builder that is the host's root could chmod: a read-only mount keeps it as
    it is, and still lets it be written to.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def execute(self, root: str) -> None:
        target = mount_point(root, f"dev/{self.name}", False)
        mount(f"/dev/{self.name}", target, "", MS_BIND)
        restrict(target, MS_RDONLY | MS_NOSUID | MS_NOEXEC)

    def describe(self) -> str:
        return f"mount --bind -o ro,nosuid,noexec /dev/{self.name} /dev/{self.name}"


class FileSystem(Operation):
    """A new file system of the kernel: tmpfs, proc or devpts."""

    def __init__(self, kind: str, target: str, options: str = "") -> None:
        self.kind, self.target, self.options = kind, target, options

    def execute(self, root: str) -> None:
        flags = (
            MS_NOSUID
            | (0 if self.kind == "devpts" else MS_NODEV)
            | (MS_NOEXEC if self.kind != "tmpfs" else 0)
        )
        mount(self.kind, mount_point(root, self.target, True), self.kind, flags, self.options)

    def describe(self) -> str:
        return f"mount -t {self.kind} -o {self.options or 'defaults'} {self.kind} {self.target}"


class Mask(Operation):
    """Makes a file of /proc one that nobody can open, if this kernel has it."""

    def __init__(self, target: str) -> None:
        self.target = target

    def execute(self, root: str) -> None:
        target = f"{root}/{self.target.lstrip('/')}"
        if os.path.lexists(target):
            mount("/dev/null", target, "", MS_BIND)
            restrict(target, MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)

    def describe(self) -> str:
        return f"mount --bind -o ro,nosuid,nodev,noexec /dev/null {self.target}"


class Freeze(Operation):
    """Makes one mount, and none below it, read-only."""

    def __init__(self, target: str) -> None:
        self.target = target

    def execute(self, root: str) -> None:
        target = mount_point(root, self.target, True)
        mount("", target, "", MS_REMOUNT | MS_BIND | MS_RDONLY | os.statvfs(target).f_flag & KEPT_FLAGS)

    def describe(self) -> str:
        return f"mount -o remount,bind,ro {self.target}"


class Overlay(Operation):
    """Layers of folders; what is changed goes to `upper`, or nothing can be changed if that is empty.

    The builder owns the files but has no capabilities, so a folder of mode 0555 would stop it from patching.
    Letting overlayfs copy up and chmod every folder costs more than making the same folders in `upper`
    beforehand: a folder in both layers is merged. Layers are named by descriptor, so that no path of the host
    needs quoting or shows up in the sandbox's mount table. `volatile`: who registers an output syncs it.
    """

    def __init__(self, target: str, layers: list[str], upper: str = "", work: str = "") -> None:
        self.target, self.layers, self.upper, self.work = target, layers, upper, work

    def execute(self, root: str) -> None:
        target = mount_point(root, self.target, True)
        layers = ":".join(self._name(layer) for layer in self.layers)
        options = f"userxattr,lowerdir={layers}"
        if self.upper:
            copy_folders(self.layers[0], self.upper)
            options += f",volatile,upperdir={self._name(self.upper)},workdir={self._name(self._new_work())}"
        mount("overlay", target, "overlay", MS_NOSUID | MS_NODEV | (0 if self.upper else MS_RDONLY), options)

    def _name(self, folder: str) -> str:
        return f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"

    def _new_work(self) -> str:
        """An empty work folder each time: overlayfs refuses one that another mount left."""
        os.makedirs(self.work, exist_ok=True)
        path = f"{self.work}/{len(os.listdir(self.work))}"
        os.mkdir(path)
        return path

    def describe(self) -> str:
        upper = f",upperdir={self.upper},workdir={self.work}" if self.upper else ""
        return f"mount -t overlay -o userxattr,lowerdir={':'.join(self.layers)}{upper} overlay {self.target}"


def copy_folders(source: str, target: str) -> None:
    """Makes each folder below `source` in `target` too, without files, and writable."""
    pending = [""]
    while pending:
        here = pending.pop()
        with os.scandir(source + here) as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        for name in names:
            path = f"{here}/{name}"
            try:
                os.mkdir(target + path, 0o755)
            except FileExistsError:
                continue  # a kept failed build is entered again: what it did stays
            pending.append(path)


class Link(Operation):
    def __init__(self, text: str, path: str) -> None:
        self.text, self.path = text, path

    def execute(self, root: str) -> None:
        os.symlink(self.text, f"{root}/{self.path.lstrip('/')}")

    def describe(self) -> str:
        return f"ln -s {self.text} {self.path}"


class Text(Operation):
    """A small read-only file."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.text = path, text

    def execute(self, root: str) -> None:
        path = mount_point(root, self.path, False)
        os.chmod(path, 0o644)
        write(path, self.text)
        os.chmod(path, 0o444)
        os.utime(path, (1, 1))  # as in the store

    def describe(self) -> str:
        return f"write {len(self.text)} characters to {self.path}"


class Program(Text):
    """A small script."""

    def execute(self, root: str) -> None:
        super().execute(root)
        os.chmod(mount_point(root, self.path, False), 0o555)  # noqa: S103


class Folder(Operation):
    def __init__(self, path: str) -> None:
        self.path = path

    def execute(self, root: str) -> None:
        mount_point(root, self.path, True)

    def describe(self) -> str:
        return f"mkdir -p {self.path}"


class Copy(Operation):
    """A copy of a host's file or folder, whose folders list their entries in the reverse order of the original's."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = source, target

    def execute(self, root: str) -> None:
        parent, _, name = self.target.rpartition("/")
        folder = mount_point(root, parent, True)
        copy_reversed(self.source, f"{folder}/{name}", lists_newest_first(folder))

    def describe(self) -> str:
        return f"cp -r --preserve=mode,timestamps {self.source} {self.target}"


def lists_newest_first(folder: str) -> bool:
    """Whether the file system of `folder` lists what was made last before what was made first, as tmpfs does."""
    names = order_of_listing(folder)
    return names.index("a") > names.index("b")


def order_of_listing(folder: str) -> str:
    """The names a to h in the order in which `folder` lists them after they were made in this one."""
    place = f"{folder}/.order"
    os.mkdir(place)
    for name in "abcdefgh":
        os.mkdir(f"{place}/{name}")
    names = os.listdir(place)
    for name in names:
        os.rmdir(f"{place}/{name}")
    os.rmdir(place)
    return "".join(names)


def copy_reversed(source: str, target: str, newest_first: bool) -> None:
    status = os.lstat(source)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
        return
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(target)
        names = os.listdir(source)
        for name in names if newest_first else reversed(names):
            copy_reversed(f"{source}/{name}", f"{target}/{name}", newest_first)
    else:
        with open(source, "rb") as old, open(target, "xb") as new:
            while os.sendfile(new.fileno(), old.fileno(), None, 1 << 30):
                pass
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


class Setting(Operation):
    """A kernel setting of the new namespaces."""

    def __init__(self, path: str, value: str) -> None:
        self.path, self.value = path, value

    def execute(self, root: str) -> None:
        write(f"{root}/{self.path.lstrip('/')}", self.value)

    def describe(self) -> str:
        return f"echo {self.value} > {self.path}"


OPERATIONS = {
    each.__name__: each
    for each in (Bind, Copy, Device, FileSystem, Folder, Freeze, Mask, Overlay, Link, Program, Text, Setting)
}


class RefusedError(Exception):
    """The system did not allow a step."""

    def __init__(self, stage: str, step: str, error: OSError) -> None:
        super().__init__(f"{step}: {error}")
        self.stage, self.step, self.error = stage, step, error


def attempt(stage: str, step: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        raise RefusedError(stage, step, error) from error


def die_with_parent() -> None:
    check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def enter_namespaces(network: bool, conditions: Conditions) -> None:
    """New namespaces of every kind, in which this process has all capabilities, for one user and one group."""
    user, group = os.geteuid(), os.getegid()
    try:  # noqa: SIM105 (contextlib would cost time)
        os.setgroups([])
    except PermissionError:
        pass  # an ordinary user keeps them, shown as 65534 inside
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP
    attempt("namespaces", "unshare", lambda: check(libc.unshare(flags | (0 if network else CLONE_NEWNET))))
    maps = {"uid_map": f"{conditions['uid']} {user} 1", "gid_map": f"{conditions['gid']} {group} 1"}
    for name, text in {"setgroups": "deny", **maps}.items():
        attempt("namespaces", f"write /proc/self/{name}", lambda: write(f"/proc/self/{name}", text))  # noqa: B023
    attempt("namespaces", "make mounts private", lambda: mount("", "/", "", MS_REC | MS_PRIVATE))
    host, domain = conditions["hostname"].encode(), conditions["domain"].encode()
    attempt("namespaces", "sethostname", lambda: check(libc.sethostname(host, len(host))))
    attempt("namespaces", "setdomainname", lambda: check(libc.setdomainname(domain, len(domain))))
    if not network:
        attempt("namespaces", "ip link set lo up", loopback_up)


def loopback_up() -> None:
    plug = check(libc.socket(AF_INET, SOCK_DGRAM, 0))
    try:
        fcntl.ioctl(
            plug, SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + IFF_UP.to_bytes(2, sys.byteorder) + bytes(22)
        )
    finally:
        os.close(plug)


def make_root(root: str, operations: list[list[Any]]) -> None:
    for kind, *values in operations:
        operation = OPERATIONS[kind](*values)
        attempt("operation", operation.describe(), lambda: operation.execute(root))  # noqa: B023


def pivot(root: str) -> None:
    """`root` becomes `/`, and the host's file systems are let go (pivot_root(2), "pivot_root(".", ".")")."""
    os.chdir(root)
    check(libc.syscall(SYS_PIVOT_ROOT, b".", b"."))
    check(libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def give_up_privileges() -> None:
    """No capability is left, and none can be had again; `init` cannot be traced or read by the builder."""
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == -1:
            break  # EINVAL: this kernel knows no more of them
    check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    header, nothing = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    check(libc.capset(header, nothing))
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    check(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    # the session keyring is the caller's; where keyctl is filtered the builder cannot reach it either
    libc.syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, None)
    forbid_hidden_calls()


def forbid_hidden_calls() -> None:
    """From now on the system calls of HIDDEN_CALLS fail, as on a kernel that has none of it (seccomp(2))."""
    steps = filter_steps()
    program = (ctypes.c_uint64 * len(steps))(*steps)
    header = (ctypes.c_uint64 * 2)(len(steps), ctypes.addressof(program))  # struct sock_fprog, padded
    flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW  # or older kernels slow the whole build down
    check(libc.syscall(SYS_SECCOMP, SECCOMP_SET_MODE_FILTER, flags, header))


def filter_steps() -> list[int]:
    """The instructions of the filter, each a struct sock_filter as one number."""
    steps: list[int] = []
    for architecture, (hidden, plug) in HIDDEN_CALLS.items():
        allow = len(hidden) + len(SOCKET_FAMILIES) + 5
        block = [
            instruction(BPF_LOAD, 0),
            instruction(BPF_AND, 0x3FFFFFFF),
        ]  # the number, without the bit of x32
        block += [
            instruction(BPF_JUMP_EQUAL, each, allow + 1 - after) for after, each in enumerate(hidden, 3)
        ]
        block.append(instruction(BPF_JUMP_EQUAL, plug, 0, allow - len(block) - 1))
        block.append(instruction(BPF_LOAD, 16))  # the first argument
        families = enumerate(SOCKET_FAMILIES, len(block) + 1)
        block += [instruction(BPF_JUMP_EQUAL, each, allow - after) for after, each in families]
        block.append(instruction(BPF_RETURN, SECCOMP_ERRNO | errno.EAFNOSUPPORT))
        block.append(instruction(BPF_RETURN, SECCOMP_ALLOW))
        block.append(instruction(BPF_RETURN, SECCOMP_ERRNO | errno.ENOSYS))
        steps.append(instruction(BPF_LOAD, 4))  # the architecture
        steps.append(instruction(BPF_JUMP_EQUAL, architecture, 0, len(block)))
        steps += block
    return [*steps, instruction(BPF_RETURN, SECCOMP_ALLOW)]


def instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> int:
    """Jumps skip so many instructions."""
    return code | if_true << 16 | if_false << 24 | operand << 32


def calm(conditions: Conditions) -> None:
    """Fixes what a process inherits besides its environment: signals, limits, umask, address layout."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(conditions["umask"])
    for name in LIMITS:
        limit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(limit)[1]
        wanted = LIMITS[name]
        soft = hard if wanted is None or -1 < hard < wanted else wanted
        resource.setrlimit(limit, (soft, hard if name == "STACK" else soft))
    check(libc.personality(0 if conditions["random_addresses"] else ADDR_NO_RANDOMIZE))


def look_around(spec: Spec) -> dict[str, Any]:
    """What the builder can see of its surroundings, found out as it would."""
    host, home = os.uname(), os.getcwd()
    umask = os.umask(0)
    os.umask(umask)
    seen = {
        "hostname": host.nodename,
        "kernel": host.release,
        "user": f"{os.getuid()}:{os.getgid()}",
        "path": home,
        "umask": f"{umask:04o}",
        "addresses": "fixed" if libc.personality(PERSONALITY_AS_IT_IS) & ADDR_NO_RANDOMIZE else "random",
        "processors": str(len(os.sched_getaffinity(0))),
        "jobs": spec["env"].get("CCSTORE_CORES", ""),
    }
    if spec["conditions"]["probe"]:
        seen["order"] = order_of_listing(home)
        told = output_of(spec["conditions"]["probe"], spec["env"])
        return seen | ({"clock": int(told)} if told.strip().isdigit() else {})
    return {**seen, "clock": time.time()}


def output_of(command: list[str], env: dict[str, str]) -> bytes:
    """What a command prints; nothing if it cannot be started."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        execute(command, env)
        os._exit(NOT_FOUND)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        printed = file.read()
    os.waitpid(child, 0)
    return printed


def begin_session(spec: Spec) -> None:
    """The command leads a session of its own: it cannot put words into the caller's terminal."""
    os.setsid()
    if spec["terminal"] is not None:
        own_terminal(spec["terminal"])
    elif spec["input"] == "nothing":
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)


def own_terminal(line: int) -> None:
    """Makes a terminal of the sandbox's own and gives the caller its other end; a shell in it has job control."""
    import socket  # `main` has imported it, while it could be found

    other, mine = os.openpty()
    with socket.socket(fileno=line) as caller:
        socket.send_fds(caller, [b"terminal"], [other])
    os.close(other)
    fcntl.ioctl(mine, TIOCSCTTY, 0)
    for descriptor in range(3):
        os.dup2(mine, descriptor)


def let_go(spec: Spec) -> None:
    """Of what only the command needs; the end of the socket tells the caller that no terminal will come."""
    if spec["terminal"] is not None:
        os.close(spec["terminal"])
    for each in spec["jobserver"] or ():
        os.close(each)


def become_builder(spec: Spec, report: Report) -> NoReturn:
    attempt("privileges", "session", lambda: begin_session(spec))
    attempt("privileges", "chdir", lambda: os.chdir(spec["env"].get("HOME", "/")))
    attempt("privileges", "signals and limits", lambda: calm(spec["conditions"]))
    attempt("privileges", "descriptors", lambda: keep_descriptors(spec["jobserver"] or [], report))
    attempt("privileges", "look around", lambda: report.send(ready(spec)))
    error = execute(spec["argv"], spec["env"])
    report.send({"stage": "exec", "step": spec["argv"][0], "errno": error.errno})
    os._exit(NOT_FOUND if error.errno == errno.ENOENT else CANNOT_EXECUTE)


def keep_descriptors(jobserver: list[int], report: Report) -> None:
    """Closes all but the standard ones, the jobserver's, which get their numbers, and the report."""
    above = max(JOBSERVER) + 1
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, above) for each in jobserver]
    report.move(above)
    os.closerange(3, above)
    for old, new in zip(moved, JOBSERVER, strict=False):
        os.dup2(old, new)
        os.close(old)
    os.closerange(above, report.keep)
    os.closerange(max(above, report.keep + 1), 1 << 20)


def ready(spec: Spec) -> dict[str, Any]:
    seen = look_around(spec)
    return {"ready": time.monotonic(), "seen": seen}


def execute(command: list[str], env: dict[str, str]) -> OSError:
    """Becomes the command, searched in PATH as a shell does; why not, if that fails.

    Not os.execvpe: that imports a module on its way, and the host's modules are out of sight by now.
    """
    folders = [""] if "/" in command[0] else [f"{each}/" for each in env.get("PATH", "").split(":")]
    failure = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in folders:
        try:
            os.execve(folder + command[0], command, env)  # noqa: S606
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error
    return failure


def hide_command_line() -> None:
    """Overwrites this process's arguments, which `ps` would show: they hold paths of the host."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end (proc(5)), less two before the ")"
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, b"init", 4)
    check(libc.prctl(PR_SET_NAME, b"init", 0, 0, 0))


def run_init(spec: Spec, report: Report, life: int) -> NoReturn:
    die_with_parent()
    os.set_blocking(life, False)
    try:
        os.read(life, 1)
        os._exit(CANNOT_ENTER)  # end of file: the parent died before it was asked for the signal
    except BlockingIOError:
        os.close(life)
    attempt("privileges", "hide the command line", hide_command_line)
    make_root(spec["root"], spec["operations"])
    attempt("privileges", f"pivot_root to {spec['root']}", lambda: pivot(spec["root"]))
    attempt("privileges", "drop capabilities", give_up_privileges)
    if not spec["argv"]:
        os._exit(0)
    builder = os.fork()
    if builder == 0:
        guarded(report, lambda: become_builder(spec, report))
    report.close()
    let_go(spec)
    reap(builder, spec["grace"])


def reap(builder: int, grace: int) -> NoReturn:
    """Waits for the builder to end or, once it is asked to end within the `grace`, for every process."""
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        os.kill(-1, signal.SIGTERM)

    if grace:  # else a build could ask for its own end: the first process takes what it has a handler for
        signal.signal(signal.SIGTERM, ask)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while True:
        try:
            ended, status = os.wait()
        except ChildProcessError:
            os._exit(128 + signal.SIGTERM)
        if ended == builder and not asked:
            os._exit(exit_status(status))


def exit_status(status: int) -> int:
    """The wait status as a shell gives it: 128 + signal for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class Report:
    """Where the caller learns how it went."""

    def __init__(self, fd: int | None) -> None:
        self.keep = -1 if fd is None else fd
        if fd is not None:
            os.set_inheritable(fd, False)

    def move(self, lowest: int) -> None:
        """To a descriptor that is not below `lowest`."""
        if self.keep >= 0:
            self.keep = fcntl.fcntl(self.keep, fcntl.F_DUPFD_CLOEXEC, lowest)

    def send(self, message: dict[str, Any]) -> None:
        if self.keep >= 0:
            os.write(self.keep, json.dumps(message).encode() + b"\n")
        elif "ready" not in message:
            print(f"enter: {message['step']}: {os.strerror(message['errno'] or 0)}", file=sys.stderr)

    def close(self) -> None:
        if self.keep >= 0:
            os.close(self.keep)


def guarded(report: Report, action: Callable[[], NoReturn]) -> NoReturn:
    """Runs `action` in a forked child: whatever happens, the child never returns into its parent's code."""
    try:
        action()
    except RefusedError as refused:
        report.send({"stage": refused.stage, "step": refused.step, "errno": refused.error.errno})
    except BaseException as defect:
        report.send({"stage": "internal", "step": repr(defect), "errno": None})
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(CANNOT_ENTER)


def run_outer(spec: Spec, report: Report) -> NoReturn:
    die_with_parent()
    os.umask(0o022)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    enter_namespaces(spec["network"], spec["conditions"])
    die_with_parent()  # a change of credentials takes it back
    if spec["parent"] is not None and os.getppid() != spec["parent"]:
        os._exit(CANNOT_ENTER)
    life, alive = os.pipe()
    init = os.fork()
    if init == 0:
        os.close(alive)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        guarded(report, lambda: run_init(spec, report, life))
    os.close(life)
    report.close()
    let_go(spec)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: end(init, spec["grace"]))
    signal.signal(signal.SIGALRM, lambda *_: os.kill(init, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    os._exit(exit_status(os.waitpid(init, 0)[1]))


def end(init: int, grace: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.kill(init, signal.SIGTERM if grace else signal.SIGKILL)
    signal.alarm(grace)


def main() -> NoReturn:
    with open(int(sys.argv[1]), encoding="utf-8") as source:
        spec: Spec = json.load(source)
    if spec["terminal"] is not None:
        import socket  # noqa: F401  the modules are out of sight when it is needed
    report = Report(spec["status"])
    guarded(report, lambda: run_outer(spec, report))


if __name__ == "__main__":
    main()
