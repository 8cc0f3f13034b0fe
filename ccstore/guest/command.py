"""A command in a container of a guest, as if it ran here: streams, terminal, signals, exit status.

On a terminal every key goes to the command, Ctrl-C too; Ctrl-] ends the guest. Elsewhere SIGINT goes to the command,
and a second one ends the guest.
"""

from __future__ import annotations

import os
import queue
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Literal

from ccstore.errors import CcError
from ccstore.guest.qemu import SHARE_IMAGE, SHARE_ROOTFS
from ccstore.guest.watch import LEAVE
from ccstore.terminal import raw, size

if TYPE_CHECKING:  # the guest boots while `run` imports them
    from ccstore.guest.agent import Agent, Running
    from ccstore.guest.agent_bodies import Process
    from ccstore.guest.session import Machine

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
END_SECONDS = 5.0
Event = Literal["interrupt", "resize"]


@dataclass(frozen=True, slots=True)
class Command:
    """What to run, in what surroundings; `user` and `group` are names or numbers of the container."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    workdir: str = "/"
    user: str | None = None
    group: str | None = None
    terminal: bool = False

    @classmethod
    def of(
        cls,
        argv: tuple[str, ...],
        variables: tuple[str, ...],
        workdir: str,
        user: str | None,
        terminal: bool | None,
    ) -> Command:
        """From words: variables as `K=V`, the user as `NAME[:GROUP]`; a terminal as here unless it is said."""
        name, _, group = (user or "").partition(":")
        if terminal is None:
            terminal = os.isatty(0) and os.isatty(1)
        return cls(argv, environment(variables), workdir, name or None, group or None, terminal)

    def process(self) -> Process:
        from ccstore.guest.agent_bodies import Process

        given = dict(self.environment)
        defaults = {"PATH": PATH, "HOME": "/"}
        if self.terminal:
            defaults["TERM"] = os.environ.get("TERM", "linux")
        environment = tuple((defaults | given).items())
        return Process(
            self.argv, "p1", environment, self.workdir, self.terminal, user=self.user, group=self.group
        )


def environment(words: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`K=V`, or `K` for the value that it has here. Raises `usage`."""
    found = []
    for word in words:
        name, given, value = word.partition("=")
        if not name:
            raise CcError("usage", f"--env {word}: should be NAME=VALUE", hint="such as --env LANG=C")
        if given or name in os.environ:
            found.append((name, value if given else os.environ[name]))
    return tuple(found)


def run(machine: Machine, command: Command, *, hostname: str, network: bool, ready_timeout: float) -> int:
    """Runs it in a new container on the shared root and gives its exit status. Raises `agent-*`."""
    from ccstore.guest.agent import Agent
    from ccstore.guest.container import Root, Streams, started_pod

    with ExitStack() as stack:
        agent = stack.enter_context(Agent.attach(machine.control, machine.terminal, timeout=ready_timeout))
        pod = stack.enter_context(
            started_pod(agent, hostname=hostname, network=network, end_timeout=END_SECONDS)
        )
        signals = stack.enter_context(Signals(agent).taken())
        keyboard = stack.enter_context(_keyboard(command.terminal))
        dimensions = size(1) if command.terminal else None
        streams = Streams(
            _writer(1),
            _writer(2),
            keyboard,
            None if dimensions is None else (dimensions[1], dimensions[0]),
        )
        root = Root(SHARE_IMAGE, SHARE_ROOTFS)
        return pod.run(root, command.process(), streams, started=signals.lead_to)


def _writer(descriptor: int) -> Callable[[bytes], object]:
    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    return write


class Signals:
    """SIGINT and changes of the window's size, passed on by a thread: a handler must not wait for the agent."""

    def __init__(self, agent: Agent) -> None:
        self.interrupts = 0
        self._agent = agent
        self._running: Running | None = None
        self._led = threading.Event()  # whether it is known what runs, or that nothing will
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def lead_to(self, running: Running) -> None:
        self._running = running
        self._led.set()

    @contextmanager
    def taken(self) -> Iterator[Signals]:
        thread = threading.Thread(target=self._pass_on, name="signals", daemon=True)
        thread.start()
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt),
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._resize),
        }
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._events.put(None)
            self._led.set()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            raise KeyboardInterrupt
        self._events.put("interrupt")

    def _resize(self, number: int, frame: FrameType | None) -> None:
        self._events.put("resize")

    def _pass_on(self) -> None:
        self._led.wait()  # the command may speak, and be interrupted, before the agent's answer is read
        while (event := self._events.get()) is not None:
            if self._running is None:
                continue
            try:
                if event == "interrupt":
                    self._agent.signal(self._running, signal.SIGINT)
                elif self._running.terminal and (dimensions := size(1)):
                    self._agent.window_size(self._running, dimensions[1], dimensions[0])
            except CcError:
                return  # the process or the agent is gone, which whoever waits for them is told


@contextmanager
def _keyboard(terminal: bool) -> Iterator[int]:
    """Where the command's input comes from: stdin itself or, on a terminal, what of it is not Ctrl-]."""
    if not terminal or not os.isatty(0):
        yield 0
        return
    source, sink = os.pipe()
    stop, stopped = os.pipe()
    thread = threading.Thread(target=_filter, args=(sink, stop), name="keyboard", daemon=True)
    with raw(0):
        thread.start()
        try:
            yield source
        finally:
            os.close(stopped)
            os.close(source)
            thread.join()
            os.close(stop)


def _filter(sink: int, stop: int) -> None:
    """Ctrl-] interrupts the main thread, as SIGQUIT does while the terminal is raw."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(stop, select.POLLIN)
    try:
        while stop not in {descriptor for descriptor, _ in poll.poll()}:
            data = os.read(0, 4096)
            if LEAVE in data:
                os.kill(os.getpid(), signal.SIGQUIT)
                return
            if not data or not _all_written(sink, data):
                return
    finally:
        os.close(sink)


def _all_written(sink: int, data: bytes) -> bool:
    try:
        os.write(sink, data)  # a pipe takes 64 KiB, and a person types less
    except BrokenPipeError:
        return False
    return True
