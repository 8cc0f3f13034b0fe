"""What a build sees: the translation of a build request into the operations of `enter`.

    /              the toolchain, read-only
    /in/<name>     inputs, read-only; /in/.builder/<file> the builder's own texts
    /build /tmp    <scratch>/build and <scratch>/tmp
    /out           <staging>; an overlay output is an overlayfs mounted on its own upper folder, <staging>/<output>
    /dev /proc     a few harmless devices; the processes of the sandbox only; read-only

With `Assistance` /build is a folder of the caller's, with what an earlier build left in it, some inputs have newer
files in front of them, and a compile cache is at /ccache. A script in front of the compilers asks it, or else asks
recc in /in/.recc, and a socket in /in/.cluster leads to where that compiles.

A check (`Conditions`) has other values: /build is then a link to another folder, which may lie in memory, as may
inputs; the root is an overlay if that link, or another user, has to be in it.

and for the remaining work of overlayfs <scratch>/overlay/<output>, which is why an overlay output needs scratch
and staging on one mount. Whatever a build could notice is fixed here or in `enter`, under the number
SANDBOX_POLICY. What cannot be hidden without root is the host's kernel version and /proc/cpuinfo, the number of
CPUs, the clock, supplementary groups (shown as 65534) when an ordinary user runs ccstore, and where its folders lie
on the host's disks (/proc/self/mountinfo).

Limits: none of ccstore's own but the recipe's time-out and 256 MiB of /dev/shm. A build may use the processes, memory
and disk that its user may; the caller's resource limits and control group hold for it too.
"""

# ruff: noqa: S108 (paths in the sandbox)

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ccstore.executor import enter
from ccstore.executor.includes import includable
from ccstore.ports import BuildRequest, Conditions

Input = Literal["nothing", "caller", "terminal"]  # what a command reads (enter.Spec)
REPORT = ".ccstore-report.json"  # in /build
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# in /proc, and not of the sandbox: keys of the host's user, and what a build of root's could read of the host's
# processes and memory
MASKED = (
    *(
        "keys",
        "key-users",
        "kcore",
        "kmsg",
        "timer_list",
        "sched_debug",
        "latency_stats",
        "slabinfo",
        "vmallocinfo",
    ),
    *(
        "kpagecount",
        "kpageflags",
        "kpagecgroup",
        "pagetypeinfo",
        "allocinfo",
        "page_owner",
        "tty/driver/serial",
    ),
)
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
BUILD = "/build"
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "SHELL": "/bin/sh",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
}
CLOCK = "/in/.clock.so"
COMPILE_CACHE = "/ccache"
# before everything else in PATH: scripts that start the real ones
COMPILERS = "/in/.compilers"
RECC, CLUSTER = "/in/.recc", "/in/.cluster"
SOCKET, COMPILED_HERE = "socket", "here"  # what is in the latter
# what a compiler reads of its environment, which a worker is told
COMPILER_ENVIRONMENT = ("LANG", "LC_ALL", "PATH", "SOURCE_DATE_EPOCH", "TZ")
COMPILER_NAMES = ("cc", "gcc", "c++", "g++", "clang", "clang++")
ASSEMBLER = "as"
CCACHE = "usr/bin/ccache"
CCACHE_SIZE = "5G"  # at most, for each toolchain
GRACE = 10  # seconds for make to remove what is half made in a folder that is kept
TIME = ["date", "+%s"]  # what a probe asks for the time
NETWORK_FILES = (
    "etc/resolv.conf",
    "etc/hosts",
    "etc/nsswitch.conf",
    "etc/ssl/certs/ca-certificates.crt",
)


def environment(request: BuildRequest) -> dict[str, str]:
    """The whole environment of the builder: fixed, then the outputs, then what the derivation asks for."""
    conditions = request.conditions
    mine = {
        "HOME": conditions.build,
        "LOGNAME": conditions.user,
        "USER": conditions.user,
        "CCSTORE_REPORT": f"{'/tmp' if conditions.in_memory is not None else conditions.build}/{REPORT}",
        "CCSTORE_CORES": str(request.cores),
        "CCSTORE_MAKEFLAGS": f"-j{request.cores}{_jobserver(request)}",
    }
    outputs = {output: f"/out/{output}" for output in request.outputs}
    usual = {**ENVIRONMENT, **mine, **_clock_settings(conditions), **outputs, **request.env}
    return {**usual, **_ccache_settings(request, usual["PATH"]), **_recc_settings(request, usual)}


def _ccache_settings(request: BuildRequest, path: str) -> dict[str, str]:
    """For ccache: its folder is for one toolchain, so it need not look at the compiler each time.

    What it takes for the compiler's identity also says which headers there are (includes.py), and that nothing is
    kept of code that reads a file: before there was a script for that, some was.
    """
    if request.assistance.compile_cache is None:
        return {}
    return {
        "PATH": f"{COMPILERS}:{path}",
        "CCACHE_DIR": COMPILE_CACHE,
        "CCACHE_COMPILERCHECK": f"string:depend-{request.root.nar_hash.hex}-{includable(request.inputs)}",
        "CCACHE_MAXSIZE": CCACHE_SIZE,
    }


def _recc_settings(request: BuildRequest, usual: Mapping[str, str]) -> dict[str, str]:
    """For recc: what it sends has the paths that it has here, and comes from everywhere but the toolchain."""
    launcher = request.assistance.launcher
    if launcher is None:
        return {}
    platform = {"ISA": "x86-64", "OSFamily": "linux", "chrootRootDigest": launcher.toolchain}
    return {
        "PATH": f"{COMPILERS}:{usual['PATH']}",
        "RECC_SERVER": f"unix:{CLUSTER}/{SOCKET}",
        "RECC_INSTANCE": launcher.instance,
        "RECC_PROJECT_ROOT": "/",
        "RECC_NO_PATH_REWRITE": "1",
        "RECC_DEPS_GLOBAL_PATHS": "1",
        "RECC_DEPS_EXCLUDE_PATHS": "/usr",
        "RECC_RETRY_LIMIT": "2",
        "RECC_RETRY_DELAY": "200",  # milliseconds
        **{f"RECC_REMOTE_PLATFORM_{name}": value for name, value in platform.items()},
        **{f"RECC_REMOTE_ENV_{name}": usual[name] for name in COMPILER_ENVIRONMENT if name in usual},
    }


def has_compile_cache(request: BuildRequest) -> bool:
    """Whether the toolchain has ccache."""
    return _has(request, CCACHE)


def _jobserver(request: BuildRequest) -> str:
    reader, writer = enter.JOBSERVER
    return f" --jobserver-auth={reader},{writer}" if request.jobserver else ""


def _clock_settings(conditions: Conditions) -> dict[str, str]:
    """For libfaketime: the time of day alone is another; files keep their real times, inputs theirs of the store."""
    if conditions.clock is None:
        return {}
    return {
        "LD_PRELOAD": CLOCK,
        "FAKETIME": f"+{conditions.clock.ahead}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DISABLE_SHM": "1",
        "NO_FAKE_STAT": "1",
    }


def check(request: BuildRequest) -> None:
    """Raises ValueError for names that would lead out of their place: lowering should have refused them."""
    for name in (*request.inputs, *request.outputs, *request.overlays):
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise ValueError(f"{request.label}: {name!r} cannot name an input or output")
    for name in request.files:
        if not all(part.strip(".") for part in name.split("/")) or "\0" in name:
            raise ValueError(f"{request.label}: {name!r} cannot name a builder's file")
    for output, source in request.overlays.items():
        if output not in request.outputs or source not in request.inputs:
            raise ValueError(
                f"{request.label}: overlay {output!r} of {source!r} is not an output of an input"
            )


def host_folders(request: BuildRequest) -> list[Path]:
    """The folders that must be there before `enter` runs."""
    folders = [build_folder(request), request.scratch / "tmp", request.staging]
    return folders + [request.staging / output for output in request.overlays]


def build_folder(request: BuildRequest) -> Path:
    """What is /build, where that is not in memory."""
    return request.assistance.build or request.scratch / "build"


def network_folder(request: BuildRequest) -> Path:
    return request.scratch / "network"


def operations(request: BuildRequest) -> list[enter.Operation]:
    return [
        *_root(request),
        *_inputs(request),
        *_devices(),
        enter.FileSystem("proc", "/proc"),
        # without this a build could notice whether the host lets namespaces nest
        enter.Setting("/proc/sys/user/max_user_namespaces", "0"),
        # /proc/sys goes by the host's user id, capabilities or not: a build of root's could set the host's kernel
        enter.Freeze("/proc"),
        *(enter.Mask(f"/proc/{name}") for name in MASKED),
        _build(request),
        *_compile_cache(request),
        enter.Bind(str(request.scratch / "tmp"), "/tmp", writable=True),
        enter.Bind(str(request.staging), "/out", writable=True),
        *_overlays(request),
        *_network(request),
    ]


def _root(request: BuildRequest) -> Iterator[enter.Operation]:
    """The toolchain; with what it has no place for (a compile cache; for a check a link at /build, or another user in
    /etc/passwd) put over it."""
    root, conditions = str(request.root.path), request.conditions
    yield enter.Bind(root, "/")
    links = conditions.build != BUILD
    texts = _user_files(request)
    cache = request.assistance.compile_cache is not None
    if links or texts or cache:
        yield enter.FileSystem("tmpfs", "/tmp", "mode=755")
        if cache:
            yield enter.Folder(f"/tmp{COMPILE_CACHE}")
        if links:
            yield enter.Folder(f"/tmp{conditions.build}")
            yield enter.Link(conditions.build, f"/tmp{BUILD}")
        for name, text in texts.items():
            yield enter.Text(f"/tmp/{name}", text)
        yield enter.Overlay("/", [f"{root}/tmp", root])


def _user_files(request: BuildRequest) -> dict[str, str]:
    """/etc/passwd and /etc/group with one more line, where the toolchain has them and the user is another one."""
    conditions, usual = request.conditions, Conditions()
    if (conditions.user, conditions.uid, conditions.gid) == (usual.user, usual.uid, usual.gid):
        return {}
    user, uid, gid = conditions.user, conditions.uid, conditions.gid
    lines = {
        "etc/passwd": f"{user}:x:{uid}:{gid}:{user}:{conditions.build}:/bin/sh\n",
        "etc/group": f"{user}:x:{gid}:\n",
    }
    return {name: _text_of(request, name) + line for name, line in lines.items() if _has(request, name)}


def _has(request: BuildRequest, name: str) -> bool:
    """Whether the toolchain has this file, and no link on the way leads out of it."""
    path = request.root.path / name
    return path.is_file() and path.resolve() == request.root.path.resolve() / name


def _text_of(request: BuildRequest, name: str) -> str:
    return (request.root.path / name).read_text(errors="surrogateescape")


def _build(request: BuildRequest) -> enter.Operation:
    if request.conditions.in_memory is not None:
        return enter.FileSystem("tmpfs", request.conditions.build, "mode=755")
    return enter.Bind(str(build_folder(request)), request.conditions.build, writable=True)


def _compile_cache(request: BuildRequest) -> Iterator[enter.Operation]:
    if cache := request.assistance.compile_cache:
        yield enter.Bind(str(cache.folder), COMPILE_CACHE, writable=True)


def _inputs(request: BuildRequest) -> Iterator[enter.Operation]:
    yield enter.FileSystem("tmpfs", "/in", "mode=755")
    in_memory = request.conditions.in_memory or ()
    # a tmpfs lists its entries in the order of their making
    for name in sorted(request.inputs, reverse=bool(in_memory)):
        source, target = str(request.inputs[name].path), f"/in/{name}"
        yield enter.Copy(source, target) if name in in_memory else enter.Bind(source, target)
        yield from _newer(request, name)
    for name in sorted(request.files):
        yield enter.Text(f"/in/.builder/{name}", request.files[name])
    if request.conditions.clock:
        yield enter.Bind(str(request.conditions.clock.library), CLOCK)
    yield from _compilers(request)
    yield enter.Freeze("/in")


def _compilers(request: BuildRequest) -> Iterator[enter.Operation]:
    """What is found in the compilers' place."""
    launcher, cache = request.assistance.launcher, request.assistance.compile_cache
    names: tuple[str, ...] = COMPILER_NAMES
    if launcher:
        script = launcher.script
    elif cache:
        names, script = (*COMPILER_NAMES, ASSEMBLER), cache.script
    else:
        return
    if launcher is not None:
        yield enter.Bind(str(launcher.recc), RECC)
        yield enter.Bind(str(launcher.folder), CLUSTER)
        # this file alone, so that nothing else can be put in its place
        yield enter.Bind(str(launcher.folder / COMPILED_HERE), f"{CLUSTER}/{COMPILED_HERE}", writable=True)
    yield enter.Folder(COMPILERS)
    for name in names:
        if os.path.lexists(request.root.path / "usr/bin" / name):
            yield enter.Program(f"{COMPILERS}/{name}", script)


def _newer(request: BuildRequest, name: str) -> Iterator[enter.Operation]:
    """The files of an input that are not what an earlier build saw, with another time, over the input."""
    changed = request.assistance.changed.get(name)
    if changed is None:
        return
    source, target = request.inputs[name].path, f"/in/{name}"
    if changed.is_dir():
        yield enter.Overlay(target, [str(changed), str(source)])
    else:
        yield enter.Bind(str(changed), target)


def _devices() -> Iterator[enter.Operation]:
    yield enter.FileSystem("tmpfs", "/dev", "mode=755,size=64k")
    for name in DEVICES:
        yield enter.Device(name)
    yield enter.FileSystem("tmpfs", "/dev/shm", "mode=1777,size=256m")
    yield enter.FileSystem("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=620")
    for name, text in DEVICE_LINKS.items():
        yield enter.Link(text, f"/dev/{name}")
    yield enter.Freeze("/dev")


def _overlays(request: BuildRequest) -> Iterator[enter.Operation]:
    for output, name in sorted(request.overlays.items()):
        yield enter.Overlay(
            f"/out/{output}",
            [str(request.inputs[name].path)],
            upper=str(request.staging / output),
            work=str(request.scratch / "overlay" / output),
        )


def _network(request: BuildRequest) -> Iterator[enter.Operation]:
    if request.network:
        layers = [str(network_folder(request) / "etc"), str(request.root.path / "etc")]
        yield enter.Overlay("/etc", layers)


def made_by_enter(conditions: Conditions) -> dict[str, Any]:
    """The conditions that `enter` makes itself."""
    return {
        "hostname": conditions.hostname,
        "domain": conditions.domain,
        "uid": conditions.uid,
        "gid": conditions.gid,
        "umask": conditions.umask,
        "random_addresses": conditions.random_addresses,
        "probe": TIME if conditions.probe else [],
    }


def report_file(request: BuildRequest) -> Path:
    """Where a builder's report lies on the host."""
    in_memory = request.conditions.in_memory is not None
    return (request.scratch / "tmp" if in_memory else build_folder(request)) / REPORT


def spec(request: BuildRequest, input: Input = "nothing") -> dict[str, Any]:
    """The text for `enter`, except for its parent, its status pipe and its terminal."""
    return {
        "root": str(request.root.path),
        "operations": [operation.data() for operation in operations(request)],
        "argv": list(request.argv),
        "env": environment(request),
        "conditions": made_by_enter(request.conditions),
        "network": request.network,
        "input": input,
        "jobserver": request.jobserver,
        "grace": GRACE if request.assistance.build else 0,
        "parent": None,
        "status": None,
        "terminal": None,
    }


def command(interpreter: str, request: BuildRequest) -> str:
    """A shell command that runs the build again, in the same sandbox and in the same folders."""
    folders = shlex.join(map(str, host_folders(request)))
    program = shlex.join([interpreter, "-I", "-S", enter.__file__, "3"])
    # what is over then
    request = replace(request, jobserver=None, assistance=replace(request.assistance, launcher=None))
    return f"mkdir -p {folders} &&\n{program} 3<<'END-OF-SANDBOX'\n{pretty(spec(request))}\nEND-OF-SANDBOX\n"


def pretty(text: Mapping[str, Any]) -> str:
    """JSON with one operation a line."""
    steps = ",\n".join(f"  {json.dumps(step)}" for step in text["operations"])
    rest = json.dumps({key: value for key, value in text.items() if key != "operations"}, indent=1)
    return f'{{"operations": [\n{steps}],\n{rest[2:]}'
