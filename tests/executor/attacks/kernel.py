"""Changing the host's kernel, learning from it, and getting privileges back."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import time

from .attempt import attempt, call, check, libc, main, write

SETTINGS = (
    "kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "kernel/sysrq", "kernel/randomize_va_space",
    "kernel/pid_max", "kernel/ns_last_pid", "kernel/shmmax", "vm/drop_caches", "vm/overcommit_memory",
    "fs/file-max", "fs/mqueue/msg_max", "net/ipv4/ip_forward", "net/core/somaxconn", "user/max_user_namespaces",
)  # fmt: skip
OWN = (
    "oom_score_adj",
    "uid_map",
    "gid_map",
    "setgroups",
    "attr/current",
    "coredump_filter",
    "timerslack_ns",
    "comm",
)
SECRETS = ("kmsg", "kcore", "timer_list", "sched_debug", "keys", "key-users", "slabinfo", "vmallocinfo", "kpagecount",
           "kpageflags", "tty/driver/serial", "latency_stats", "allocinfo", "page_owner", "1/mem")  # fmt: skip
CALLS: dict[str, tuple[int, *tuple[int | bytes | None, ...]]] = {
    "init_module": (175, b"", 0, b""), "finit_module": (313, 0, b"", 0), "delete_module": (176, b"ext4", 0),
    "kexec_load": (246, 0, 0, 0, 0), "reboot": (169, 0xFEE1DEAD, 672274793, 0x1234567), "swapon": (167, b"/build", 0),
    "swapoff": (168, b"/build"), "acct": (163, b"/build/x"), "iopl": (172, 3), "ioperm": (173, 0, 1, 1),
    "sethostname": (170, b"x", 1), "setdomainname": (171, b"x", 1), "settimeofday": (164, bytes(16), None),
    "clock_settime": (227, 0, bytes(16)), "vhangup": (153,), "syslog": (103, 10, 0, 0),
    "quotactl": (179, 0x800002, 0, 0, 0),
    "bpf": (321, 0, struct.pack("IIII", 1, 4, 4, 1) + bytes(120), 136), "lookup_dcookie": (212, 0, 0, 0),
    "add_key": (248, b"user", b"x", b"y", 1, -3), "request_key": (249, b"user", b"x", None, 0),
    "keyctl": (250, 6, -4), "fanotify_init": (300, 4, 0), "adjtimex": (159, struct.pack("I", 1) + bytes(300)),
    "setuid 0": (105, 0), "setgid 0": (106, 0), "setresuid": (117, 0, 0, 0), "setgroups": (116, 0, 0),
    "setfsuid": (122, 0),
}  # fmt: skip


def changes_settings() -> None:
    for name in SETTINGS:
        attempt(f"/proc/sys/{name}", lambda: write(f"/proc/sys/{name}", "1"))
    for name in OWN:
        attempt(f"/proc/self/{name}", lambda: write(f"/proc/self/{name}", "0"))
    attempt("/proc/sysrq-trigger", lambda: write("/proc/sysrq-trigger", "h"))
    attempt("/proc/irq", lambda: write("/proc/irq/default_smp_affinity", "1"))
    attempt("binfmt_misc", lambda: write("/proc/sys/fs/binfmt_misc/register", ":x:M::x::/x:"))
    attempt("mount sysfs", lambda: check(libc.mount(b"s", b"/build", b"sysfs", 0, None)))
    attempt("cgroups", lambda: os.listdir("/sys/fs/cgroup"))


def learns_secrets() -> None:
    """Reads what is about the host's processes, keys and memory; empty is as good as refused."""
    for name in SECRETS:
        attempt(f"/proc/{name}", lambda: _some(f"/proc/{name}"))


def _some(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    data = os.read(descriptor, 4096)
    if not data:
        raise FileNotFoundError(2, "empty", path)
    return data


def calls() -> None:
    for name, (number, *arguments) in CALLS.items():
        if name == "setfsuid":  # says what it was before, whether or not it did anything
            call(number, *arguments)
            attempt(name, lambda: _if(call(number, -1) == 0))
        else:
            attempt(name, lambda: call(number, *arguments))


def _if(true: bool) -> bool:
    if not true:
        raise PermissionError(1, "nothing changed")
    return true


def privileges() -> None:
    header, wanted = struct.pack("Ii", 0x20080522, 0), struct.pack("IIIIII", *[0xFFFFFFFF] * 6)
    attempt("capset", lambda: check(libc.capset(header, wanted)))
    attempt("ambient capability", lambda: check(libc.prctl(47, 2, 21, 0, 0)))
    attempt("no_new_privs off", lambda: check(libc.prctl(38, 0, 0, 0, 0)))
    attempt("securebits", lambda: check(libc.prctl(28, 1, 0, 0, 0)))
    attempt("seccomp off", lambda: check(libc.prctl(22, 0, 0, 0, 0)))
    for name in ("NOFILE", "CORE"):
        limit = getattr(resource, f"RLIMIT_{name}")
        attempt(f"a higher limit {name}", lambda: call(160, limit, struct.pack("QQ", 1 << 20, 1 << 20)))
    attempt("real-time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))
    attempt("higher priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -20))
    attempt("lock memory", lambda: check(libc.mlock(ctypes.create_string_buffer(64 << 20), 64 << 20)))


def crashes() -> None:
    """A crash with memory that must not get into a file, or to a program that the host has for that."""
    child = os.fork()
    if child == 0:
        os.chdir("/build")
        resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(10)
    _, status = os.waitpid(child, 0)
    print(
        os.WTERMSIG(status),
        os.WCOREDUMP(status),
        os.listdir("/build"),
        resource.getrlimit(resource.RLIMIT_CORE)[1],
    )


def terminal() -> None:
    attempt("/dev/tty", lambda: os.open("/dev/tty", os.O_RDWR))
    attempt("/dev/console", lambda: os.open("/dev/console", os.O_RDWR))
    attempt("/dev/tty1", lambda: os.open("/dev/tty1", os.O_RDWR))
    attempt("write to stdin", lambda: os.write(0, b"x"))


if __name__ == "__main__":
    main(globals())
