"""A container in a guest, from the start of the pod to its end, over the agent.

The root of a container is a folder of the 9p share or a block device; the agent makes what it mounts on (/proc, /sys,
/dev), so it must be writable or have those. The network is that of QEMU in user mode.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ccstore.codec.hyper import API_VERSION
from ccstore.errors import CcError
from ccstore.guest.agent import Agent, Running
from ccstore.guest.agent_bodies import (
    SHARE_TAG,
    Address,
    Container,
    Interface,
    Pod,
    Process,
    Route,
    SharedFolder,
    Volume,
)
from ccstore.guest.agent_terminal import Sink

# QEMU's user-mode network gives the first guest this address
USER_NETWORK = Interface("eth0", (Address("10.0.2.15", 24),))
USER_ROUTE = Route("default", "10.0.2.2", "eth0")
USER_DNS = "10.0.2.3"
_READ = 1 << 14
_JOIN = 1.0


@dataclass(frozen=True)
class Root:
    """What a container sees as `/`: the folder `rootfs` in the folder `image` of the share, or (with `file_system`)
    in the block device `image`."""

    image: str
    rootfs: str = "rootfs"
    file_system: str | None = None
    read_only: bool = False


@dataclass(frozen=True)
class Streams:
    """Where a process's output goes, and the descriptor that its input comes from (None: it has none).

    Sinks are called from another thread. `size` is rows and columns of a terminal.
    """

    stdout: Sink
    stderr: Sink
    stdin: int | None = None
    size: tuple[int, int] | None = None


@dataclass
class StartedPod:
    """The pod of a guest."""

    agent: Agent
    containers: int = field(default=0)

    def run(
        self,
        root: Root,
        process: Process,
        streams: Streams,
        *,
        volumes: tuple[Volume, ...] = (),
        shared: tuple[SharedFolder, ...] = (),
        started: Callable[[Running], None] = lambda running: None,
        timeout: float | None = None,
    ) -> int:
        """Runs a process in a new container and gives its status (see Agent.wait).

        `started` is told of the process once it runs: for signals and sizes of windows. Raises CcError `agent-*`.
        """
        self.containers += 1
        container = Container(
            f"c{self.containers}",
            process,
            root.image,
            root.rootfs,
            file_system=root.file_system,
            read_only=root.read_only,
            volumes=volumes,
            shared=shared,
        )
        running = self.agent.new_container(container, streams.stdout, streams.stderr)
        if streams.size and process.terminal:
            self._resize(running, *streams.size)
        started(running)
        with _pumping(self.agent, running, streams.stdin):
            return self.agent.wait(running, timeout)

    def _resize(self, running: Running, rows: int, columns: int) -> None:
        try:
            self.agent.window_size(running, rows, columns)
        except CcError as error:
            if error.code != "agent-error":  # the process has ended already, and its terminal with it
                raise


@contextmanager
def started_pod(
    agent: Agent, *, hostname: str, network: bool = True, share: bool = True, end_timeout: float = 10
) -> Iterator[StartedPod]:
    """A pod, from its start to its end. The machine powers off with it where the agent is PID 1.

    An end that takes longer than `end_timeout` seconds is given up: whoever started the machine stops it.
    Raises CcError `agent-protocol` when the agent is of another version, `agent-*`.
    """
    version = agent.version()
    if version != API_VERSION:
        message = f"the agent speaks version {version} of its protocol, not {API_VERSION}"
        raise CcError("agent-protocol", message, hint="build the guest with the recipe `hyperstart`")
    pod = Pod(
        hostname,
        SHARE_TAG if share else None,
        (USER_NETWORK,) if network else (),
        (USER_ROUTE,) if network else (),
        (USER_DNS,) if network else (),
    )
    agent.start_pod(pod)
    try:
        yield StartedPod(agent)
    finally:
        try:
            agent.destroy_pod(end_timeout)
        except CcError as error:
            if error.code != "agent-timeout":
                raise


@contextmanager
def _pumping(agent: Agent, running: Running, source: int | None) -> Iterator[None]:
    """Carries input to a process, in a thread that takes no byte of `source` after the process's end."""
    stop, stopped = os.pipe()
    pump = threading.Thread(
        target=_pump, args=(agent, running, source, stop), name="agent-input", daemon=True
    )
    pump.start()
    try:
        yield
    finally:
        os.close(stopped)
        agent.abandon(running)
        pump.join(_JOIN)
        if not pump.is_alive():  # else it waits for a guest that hangs, and ends with the channel
            os.close(stop)


def _pump(agent: Agent, running: Running, source: int | None, stop: int) -> None:
    """Ends with the input, with the process, or with the agent, which then tells whoever waits for the process."""
    try:
        while source is not None:
            ready = select.poll()
            ready.register(source, select.POLLIN)
            ready.register(stop, select.POLLIN)
            if any(descriptor == stop for descriptor, _ in ready.poll()):
                return
            try:
                data = os.read(source, _READ)
            except OSError:  # a terminal that is not ours any more
                data = b""
            if not data:
                break
            agent.write(running, data)
        agent.end_input(running)
    except (BrokenPipeError, CcError):
        return
