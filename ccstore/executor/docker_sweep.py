"""Removes from a Docker daemon what builds of this store left there and no longer need: nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.executor.docker_image import STORE, TOOLCHAIN
from ccstore.executor.lease import ended, forget, is_held, owner

if TYPE_CHECKING:
    import docker

RUN = "ccstore.run"  # label: the lease of the build that a container or volume belongs to


@dataclass(frozen=True, slots=True)
class Swept:
    """What was removed, or would be."""

    containers: int = 0
    volumes: int = 0
    images: int = 0


def sweep(api: docker.APIClient, folder: Path, *, dry_run: bool = False) -> Swept:
    """Removes containers and volumes of builds that ended without doing so themselves (killed, or the daemon was)."""
    mine = {"label": f"{STORE}={owner(folder)}"}
    over = ended(folder)  # before looking: whoever begins now is held
    containers = [
        each["Id"]
        for each in api.containers(all=True, filters=mine)
        if not is_held(folder, each["Labels"].get(RUN, ""))
    ]
    volumes = [
        each["Name"]
        for each in api.volumes(filters=mine)["Volumes"] or []
        if not is_held(folder, (each["Labels"] or {}).get(RUN, ""))
    ]
    if not dry_run:
        for identity in containers:
            remove(api.remove_container, identity, v=True, force=True)
        for name in volumes:
            remove(api.remove_volume, name, force=True)
        for run in over:
            forget(folder, run)
    return Swept(len(containers), len(volumes))


def sweep_images(
    api: docker.APIClient, folder: Path, is_kept: Callable[[str], bool], *, dry_run: bool = False
) -> int:
    """Removes the images that this store made of toolchains; `is_kept` is told a NAR hash (hexadecimal).

    One that a container uses stays. How many were removed, or would be.
    """
    found = [
        each["Id"]
        for each in api.images(all=True, filters={"label": f"{STORE}={owner(folder)}"})
        if not each["RepoTags"] or not is_kept(each["Labels"][TOOLCHAIN])
    ]
    if not dry_run:
        for identity in found:
            remove(api.remove_image, identity)
    return len(found)


def remove(action: Callable[..., object], name: str, **options: bool) -> None:
    """Does `action`; that the thing is gone, is being removed by somebody else or is in use is no failure."""
    from docker.errors import APIError

    try:
        action(name, **options)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise
