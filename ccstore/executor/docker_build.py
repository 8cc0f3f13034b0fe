"""One build in a Docker daemon, from the upload of its inputs to the removal of its containers."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ccstore.codec import tar
from ccstore.errors import CcError
from ccstore.executor import docker_again, docker_sandbox, launch, layout, packing
from ccstore.executor.docker_sandbox import Names
from ccstore.executor.docker_sweep import remove
from ccstore.executor.scratch import MAX_REPORT, read_report
from ccstore.executor.unpacking import first_member, unpack
from ccstore.ports import BuildRequest, BuildResult, Cancel

if TYPE_CHECKING:
    import docker

Log = Callable[[bytes], None]
Reason = Literal["timeout", "cancelled"]
_WAITING = 64  # pieces of output that may wait for the log
_ASIDE = 4096  # bytes of what the launcher says
_KILLED = 137  # 128 + SIGKILL
_LATE = 3  # seconds, of the daemon's news
_NOT_BEGUN = 125  # of the launcher: it could not enter the build's folder


class CancelledError(Exception):
    """The build was cancelled before it began."""


class Build:
    """`memory`: bytes that it may use."""

    def __init__(
        self,
        api: docker.APIClient,
        names: Names,
        request: BuildRequest,
        log: Log,
        cancel: Cancel,
        memory: int,
    ) -> None:
        self._api = api
        self._names = names
        self._request = request
        self._log = log
        self._cancel = cancel
        self._memory = memory
        self._reason: Reason | None = None
        self._cpu_seconds = 0.0
        self._over = False
        self._lock = threading.Lock()

    def run(self, image: str) -> BuildResult:
        """Raises CancelledError, `sandbox-failed`, `output-invalid`, and what the daemon's client raises."""
        with ExitStack() as stack:
            self._upload_inputs(stack, image)
            config = docker_sandbox.build(self._api, image, self._names, self._request, self._memory)
            container = self._create(stack, self._names.build, config)
            if self._request.overlays:
                self._put(container, "/out", packing.overlays(self._request))
            said = self._follow(container)
            status = int(self._api.wait(container, timeout=None)["StatusCode"])
            with self._lock:
                self._over = True
            return self._result(container, image, status, said)

    def _upload_inputs(self, stack: ExitStack, image: str) -> None:
        """Fills the volume that the build sees as /in; the container through which that happens never runs."""
        network = self._request.network
        for volume in (self._names.inputs, self._names.certificates)[: 1 + network]:
            stack.callback(remove, self._api.remove_volume, volume)
        carrier = self._create(
            stack,
            f"{self._names.prefix}-carrier",
            docker_sandbox.carrier(self._api, image, self._names, network),
        )
        self._put(carrier, "/in", packing.inputs(self._request))
        if network:
            certificates = tar.text("ca-certificates.crt", docker_sandbox.host_certificates())
            self._put(carrier, docker_sandbox.CERTIFICATES, iter((certificates, tar.END)))

    def _create(self, stack: ExitStack, name: str, config: dict[str, Any]) -> str:
        stack.callback(remove, self._api.remove_container, name, v=True, force=True)
        return str(self._api.create_container_from_config(config, name)["Id"])

    def _put(self, container: str, place: str, archive: Iterator[bytes]) -> None:
        self._api.put_archive(container, place, self._until_cancelled(archive))

    def _until_cancelled(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._cancel.cancelled:
                raise CancelledError
            yield chunk

    def _follow(self, container: str) -> bytes:
        """Runs the container to its end and hands its output on; what the launcher said beside it."""
        output = _Output(self._api.attach(container, stream=True, demux=True))

        forget = self._cancel.on_cancel(lambda: self._end_soon(container, "cancelled"))
        try:
            self._start(container)
            if self._cancel.cancelled:  # before it could be ended
                self._end_soon(container, "cancelled")
            self._pump(container, output)
        finally:
            forget()
            output.close()
        return output.aside

    def _start(self, container: str) -> None:
        from docker.errors import APIError

        try:
            self._api.start(container)
        except APIError as error:
            if f'"{launch.SHELL}"' not in str(error.explanation):
                raise
            message = f"the toolchain has no {launch.SHELL}, which starts a build in Docker"
            hint = "add a shell to the toolchain, or use --executor sandbox"
            raise CcError("sandbox-failed", message, where=self._request.label, hint=hint) from error

    def _pump(self, container: str, output: _Output) -> None:
        timeout = self._request.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                data = output.next(left)
            except queue.Empty:
                deadline = None
                self._end_soon(container, "timeout")
                continue
            if data is None:
                return
            self._log(data)

    def _end_soon(self, container: str, reason: Reason) -> None:
        """Kills everything in the container; may be called from any thread, at any time.

        In a thread of its own: the daemon does not answer before somebody took all of the output.
        """
        threading.Thread(target=self._end, args=(container, reason), daemon=True).start()

    def _end(self, container: str, reason: Reason) -> None:
        import requests
        from docker.errors import DockerException

        with self._lock:
            if self._over:
                return
            self._reason = self._reason or reason
            if reason == "timeout":
                with suppress(DockerException, requests.RequestException, KeyError):
                    stats = self._api.stats(container, stream=False)
                    self._cpu_seconds = stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
            with suppress(DockerException, requests.RequestException):  # whoever waits for its end learns why
                self._api.kill(container)

    def _result(self, container: str, image: str, status: int, said: bytes) -> BuildResult:
        request = self._request
        outcome = "built" if status == 0 else self._reason or "failed"
        if outcome == "failed":
            self._explain(container, status, said)
        report = self._report(container)
        kept = request.keep_failed and outcome in ("failed", "timeout")
        if outcome == "built" or kept:
            bases = {output: request.inputs[name] for output, name in request.overlays.items()}
            self._fetch(container, "/out", request.staging, bases)
        if kept:
            self._fetch(container, "/build", request.scratch / "build", {})
            self._fetch(container, "/tmp", request.scratch / "tmp", {})  # noqa: S108
        return BuildResult(
            outcome=outcome,
            exit_status=status,
            cpu_seconds=launch.cpu_seconds(said) or self._cpu_seconds,
            report=report,
            overlays={output: request.staging / output for output in request.overlays},
            command=docker_again.command(request, image, self._memory),
            seen={"jobs": str(request.cores)},
        )

    def _explain(self, container: str, status: int, said: bytes) -> None:
        if status == _NOT_BEGUN:
            self._log(said)
        state = self._api.inspect_container(container)["State"]
        if state["OOMKilled"] or (status == _KILLED and self._ran_out(container, state["FinishedAt"])):
            self._log(b"ccstore: the build, or a part of it, was killed for want of memory\n")

    def _ran_out(self, container: str, ended: str) -> bool:
        """Whether the kernel killed for want of memory.

        A busy daemon may hear of it after the container's end; then the container's state never says so. `ended` is
        by the daemon's clock, as what it is asked for has to be.
        """
        wanted = {"container": container, "event": "oom"}
        until = int(datetime.fromisoformat(ended).timestamp()) + _LATE
        with closing(self._api.events(since=1, until=until, filters=wanted)) as events:
            return any(True for _ in events)

    def _fetch(self, container: str, place: str, to: Path, bases: Mapping[str, Any]) -> None:
        to.mkdir(exist_ok=True)
        chunks, _ = self._api.get_archive(container, place)
        unpack(chunks, to, bases)

    def _report(self, container: str) -> Mapping[str, Any] | None:
        from docker.errors import NotFound

        try:
            chunks, _ = self._api.get_archive(container, f"/build/{layout.REPORT}")
        except NotFound:
            return None
        with tempfile.TemporaryDirectory(dir=self._request.scratch) as folder:
            copy = Path(folder, "report")
            first_member(chunks, copy, MAX_REPORT + 1)
            try:
                return read_report(copy)
            except ValueError as error:
                self._log(f"ccstore: the build's report is ignored: {error}\n".encode())
                return None


class _Output:
    """What the container prints, read in a thread: the build's output, and aside the launcher's own."""

    def __init__(self, stream: Any) -> None:
        self.aside = b""
        self._stream = stream
        self._ended = False
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for out, aside in self._stream:
                if out:
                    self._pieces.put(out)
                if aside:
                    self.aside = (self.aside + aside)[-_ASIDE:]
        finally:
            self._pieces.put(None)

    def next(self, timeout: float | None) -> bytes | None:
        """The next piece, None at the end. Raises queue.Empty when the time is up."""
        piece = self._pieces.get(timeout=timeout)
        self._ended = piece is None
        return piece

    def close(self) -> None:
        """Lets go of the connection; what was not taken is dropped."""
        from docker.errors import DockerException

        if not self._ended:
            with suppress(OSError, DockerException):  # it has ended meanwhile, or goes over SSH
                self._stream.close()
        while not self._ended:
            self.next(None)
