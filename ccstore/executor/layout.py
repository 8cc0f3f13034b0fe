"""What a build sees: the translation of a build request into the operations of `enter`.

    /              the toolchain, read-only
    /in/<name>     inputs, read-only; /in/.builder/<file> the builder's own texts
    /build /tmp    <scratch>/build and <scratch>/tmp
    /out           <staging>; an overlay output is an overlayfs mounted on its own upper folder, <staging>/<output>
    /dev /proc     a few harmless devices; the processes of the sandbox only; read-only

and for the remaining work of overlayfs <scratch>/overlay/<output>, which is why an overlay output needs scratch
and staging on one mount. Whatever a build could notice is fixed here or in `enter`, under the number
SANDBOX_POLICY. What cannot be hidden without root is the host's kernel version and /proc/cpuinfo, the number of
CPUs, the clock, and supplementary groups (shown as 65534) when an ordinary user runs ccstore.
"""

# ruff: noqa: S108 (paths in the sandbox)

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ccstore.executor import enter
from ccstore.ports import BuildRequest

REPORT = ".ccstore-report.json"  # in /build
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
ENVIRONMENT = {
    "HOME": "/build",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "builder",
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "SHELL": "/bin/sh",
    "TMPDIR": "/tmp",
    "TZ": "UTC",
    "USER": "builder",
    "CCSTORE_REPORT": f"/build/{REPORT}",
}
NETWORK_FILES = (
    "etc/resolv.conf",
    "etc/hosts",
    "etc/nsswitch.conf",
    "etc/ssl/certs/ca-certificates.crt",
)


def environment(request: BuildRequest) -> dict[str, str]:
    """The whole environment of the builder: fixed, then the outputs, then what the derivation asks for."""
    outputs = {output: f"/out/{output}" for output in request.outputs}
    return {**ENVIRONMENT, "CCSTORE_CORES": str(request.cores), **outputs, **request.env}


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
    folders = [request.scratch / "build", request.scratch / "tmp", request.staging]
    return folders + [request.staging / output for output in request.overlays]


def network_folder(request: BuildRequest) -> Path:
    return request.scratch / "network"


def operations(request: BuildRequest) -> list[enter.Operation]:
    return [
        enter.Bind(str(request.root.path), "/"),
        *_inputs(request),
        *_devices(),
        enter.FileSystem("proc", "/proc"),
        # without this a build could notice whether the host lets namespaces nest
        enter.Setting("/proc/sys/user/max_user_namespaces", "0"),
        # /proc/sys goes by the host's user id, capabilities or not: a build of root's could set the host's kernel
        enter.Freeze("/proc"),
        enter.Bind(str(request.scratch / "build"), "/build", writable=True),
        enter.Bind(str(request.scratch / "tmp"), "/tmp", writable=True),
        enter.Bind(str(request.staging), "/out", writable=True),
        *_overlays(request),
        *_network(request),
    ]


def _inputs(request: BuildRequest) -> Iterator[enter.Operation]:
    yield enter.FileSystem("tmpfs", "/in", "mode=755")
    for name in sorted(request.inputs):  # a tmpfs lists its entries in the order of their making
        yield enter.Bind(str(request.inputs[name].path), f"/in/{name}")
    for name in sorted(request.files):
        yield enter.Text(f"/in/.builder/{name}", request.files[name])
    yield enter.Freeze("/in")


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


def spec(request: BuildRequest, *, interactive: bool = False) -> dict[str, Any]:
    """The text for `enter`, except for its parent and its status pipe."""
    return {
        "root": str(request.root.path),
        "operations": [operation.data() for operation in operations(request)],
        "argv": list(request.argv),
        "env": environment(request),
        "network": request.network,
        "interactive": interactive,
        "parent": None,
        "status": None,
    }


def command(interpreter: str, request: BuildRequest) -> str:
    """A shell command that runs the build again, in the same sandbox and in the same folders."""
    folders = shlex.join(map(str, host_folders(request)))
    program = shlex.join([interpreter, "-I", "-S", enter.__file__, "3"])
    return f"mkdir -p {folders} &&\n{program} 3<<'END-OF-SANDBOX'\n{pretty(spec(request))}\nEND-OF-SANDBOX\n"


def pretty(text: Mapping[str, Any]) -> str:
    """JSON with one operation a line."""
    steps = ",\n".join(f"  {json.dumps(step)}" for step in text["operations"])
    rest = json.dumps({key: value for key, value in text.items() if key != "operations"}, indent=1)
    return f'{{"operations": [\n{steps}],\n{rest[2:]}'
