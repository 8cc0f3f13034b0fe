"""Builds in containers of a Docker daemon, which may be on another machine.

Everything travels through the API: the toolchain becomes an image once (docker_image.py), inputs go into a volume
through a container that never runs, a second container runs the build (docker_sandbox.py), and outputs come back as
an archive (unpacking.py). Containers and volumes carry labels that say whose they are, and are removed when the build
ends; what a killed ccstore leaves, the next build or `ccstore gc` removes (docker_sweep.py).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ccstore.codec.engine import engine
from ccstore.errors import CcError
from ccstore.events import Noted, Sink, ignore
from ccstore.executor import docker_image, docker_sweep, launch, layout
from ccstore.executor.docker_build import Build, CancelledError
from ccstore.executor.docker_sandbox import Names, most_memory
from ccstore.executor.lease import ended, lease, owner
from ccstore.executor.scratch import empty_folder
from ccstore.ports import BuildRequest, BuildResult, Cancel

if TYPE_CHECKING:
    import docker

Log = Callable[[bytes], None]


class Docker:
    """Executor `docker`. Thread-safe; a build holds the thread that called it until everything is gone.

    `state` is a folder that this store's builds in Docker share; `environ` says where the daemon is (DOCKER_HOST, …);
    `memory` is how many bytes a build may use, most of what the daemon's host has if it is not given.
    A command that cannot be started is a failed build. Raises `no-docker` and `fetch-stalled` when the daemon cannot
    be used, `disk-full` when its disk is full, `sandbox-failed` for a toolchain without a shell.
    """

    name = "docker"

    def __init__(
        self, state: Path, environ: Mapping[str, str], sink: Sink = ignore, memory: int | None = None
    ) -> None:
        self._state = state
        self._environ = environ
        self._sink = sink
        self._memory = memory

    def build(self, request: BuildRequest, log: Log, cancel: Cancel) -> BuildResult:
        layout.check(request)
        launch.command(request)
        result = BuildResult("cancelled", 128 + signal.SIGTERM, 0.0)
        try:
            if not cancel.cancelled:
                result = self._build(request, log, cancel) or result
        finally:
            if not (request.keep_failed and result.outcome in ("failed", "timeout")):
                empty_folder(request.scratch)
                if result.outcome != "built":
                    empty_folder(request.staging)
        return result

    def _build(self, request: BuildRequest, log: Log, cancel: Cancel) -> BuildResult | None:
        """None: it was cancelled before it began."""
        with engine(self._environ) as client, _full_disk(request), lease(self._state) as run:
            if ended(self._state):
                docker_sweep.sweep(client.api, self._state)
            names = self._names(run, request)
            image = self._image(client.api, request)
            memory = self._memory or most_memory(client.api)
            try:
                return Build(client.api, names, request, log, cancel, memory).run(image)
            except CancelledError:
                return None

    def _names(self, run: str, request: BuildRequest) -> Names:
        labels = {
            docker_image.STORE: owner(self._state),
            docker_sweep.RUN: run,
            "ccstore.build": request.label,
        }
        return Names(f"ccstore-{run}", labels)

    def _image(self, api: docker.APIClient, request: BuildRequest) -> str:
        if docker_image.find(api, request.root) is None:
            self._sink(Noted("the toolchain becomes an image in the Docker daemon, once", request.label))
        return docker_image.ensure(api, request.root, owner(self._state))


@contextmanager
def _full_disk(request: BuildRequest) -> Iterator[None]:
    """The daemon's disk is not the store's: it has an error of its own."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        if "no space left on device" not in str(error.explanation):
            raise
        raise CcError(
            "disk-full",
            f"the Docker daemon's disk is full: {error.explanation}",
            where=request.label,
            hint="free space there: `docker system df` says what takes it",
        ) from error
