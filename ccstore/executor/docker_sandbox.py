"""What a build sees in a container: as near to `layout` and `enter` as Docker's API goes.

    /              the toolchain's image, read-only
    /in            a volume with the inputs and the builder's texts, read-only
    /build /tmp    volumes of its own
    /out           a volume; an overlay output is there as a copy of its input
    /dev /proc     Docker's own; /sys is empty

No network but a loopback, no capability, no new privileges, Docker's seccomp filter, a limit on processes and on
memory. Docker adds what no option takes away: `/.dockerenv`, `/sys`, and in `/etc` an empty `hosts` and
`resolv.conf`, `hostname` and `mtab`.
"""

# ruff: noqa: S108 (paths in the container)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccstore.executor import launch
from ccstore.executor.launch import OWNER, USUAL
from ccstore.ports import BuildRequest

if TYPE_CHECKING:
    import docker

PROCESSES = 4096
SHARED_MEMORY = 256 << 20  # bytes of /dev/shm, as in the sandbox
CERTIFICATES = "/etc/ssl/certs"
_RESERVE = 8  # the daemon's host keeps one part in so many of its memory


@dataclass(frozen=True, slots=True)
class Names:
    """What one build is called in the daemon, and the labels of all that belongs to it."""

    prefix: str
    labels: dict[str, str]

    @property
    def inputs(self) -> str:
        return f"{self.prefix}-in"

    @property
    def certificates(self) -> str:
        return f"{self.prefix}-certs"

    @property
    def build(self) -> str:
        return f"{self.prefix}-build"


def carrier(api: docker.APIClient, image: str, names: Names, network: bool) -> dict[str, Any]:
    """The configuration of a container that never runs: what is copied to it lands in the volumes."""
    host = api.create_host_config(mounts=_volumes(names, network, writable=True), network_mode="none")
    config: dict[str, Any] = api.create_container_config(
        image,
        command=["true"],
        labels=names.labels,
        host_config=host,
        network_disabled=True,
    )
    return config


def build(
    api: docker.APIClient, image: str, names: Names, request: BuildRequest, memory: int
) -> dict[str, Any]:
    """The configuration of the container that the build runs in; `memory` is the most that it may use, in bytes."""
    config: dict[str, Any] = api.create_container_config(
        image,
        command=launch.command(request),
        user=f"{OWNER}:{OWNER}",
        hostname=USUAL.hostname,
        working_dir="/",
        labels=names.labels,
        host_config=_host_config(api, names, request, memory),
        network_disabled=not request.network,
    )
    return config


def _host_config(api: docker.APIClient, names: Names, request: BuildRequest, memory: int) -> dict[str, Any]:
    from docker.types import Mount

    own = [Mount(place, None, "volume", labels=names.labels) for place in ("/build", "/tmp", "/out")]
    config: dict[str, Any] = api.create_host_config(
        mounts=[*_volumes(names, request.network, writable=False), *own],
        tmpfs={"/sys": "ro,size=4k,mode=555"},
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        network_mode="host" if request.network else "none",
        ipc_mode="private",
        shm_size=SHARED_MEMORY,
        pids_limit=PROCESSES,
        mem_limit=memory,
        log_config={"Type": "none"},
    )
    return config


def most_memory(api: docker.APIClient) -> int:
    """Bytes that a build may use, so that the daemon's host has some left."""
    has = int(api.info()["MemTotal"])
    return has - has // _RESERVE


def _volumes(names: Names, network: bool, *, writable: bool) -> list[Any]:
    from docker.types import Mount

    places = {"/in": names.inputs}
    if network:
        places[CERTIFICATES] = names.certificates
    return [
        Mount(place, volume, "volume", read_only=not writable, labels=names.labels)
        for place, volume in places.items()
    ]


def host_certificates() -> bytes:
    """The certificates that this host trusts; nothing where it has none."""
    file = Path(CERTIFICATES, "ca-certificates.crt")
    return file.read_bytes() if file.exists() else b""
