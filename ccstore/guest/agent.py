"""A client of hyperstart, the agent in a guest: one method for each command of its protocol.

Two threads read the two channels (`agent_control`, `agent_terminal`); all methods can be called from any thread and
wait for the agent, each for a limited time. That is simpler than an event loop: whoever runs a container mostly waits
for its end, while output and input go their way.

The agent's traps are closed here: a second STARTPOD would power the machine off and is refused; ids of processes are
checked, as the agent does not; numbers of streams are unique; DESTROYPOD, which would wait for ever for a process
that ignores SIGTERM, comes after SIGKILL for all of them.
"""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ccstore.codec.hyper import Code
from ccstore.errors import CcError
from ccstore.guest import agent_channel
from ccstore.guest.agent_bodies import Container, Interface, Pod, Process, Route, encode, file_body
from ccstore.guest.agent_control import Control
from ccstore.guest.agent_terminal import Sink, Terminal

# seconds; a guest under software emulation on a busy host mounts and forks slowly
REPLY_TIMEOUT = 60.0
# once ends an unfinished line, twice the input
_END_OF_TRANSMISSION = b"\x04\x04"


@dataclass(frozen=True)
class Running:
    """A process that was started, with the numbers of its streams (no `stderr`: 0)."""

    container: str
    process: str
    terminal: bool
    stdio: int
    stderr: int

    @property
    def key(self) -> tuple[str, str]:
        return self.container, self.process


class Agent:
    """A connection to the agent of one guest, from READY to the end of the pod.

    Every method raises CcError `agent-error` (the agent refused, in its own words if it has any), `agent-timeout`,
    `agent-gone`, `agent-protocol`.
    """

    def __init__(self, control: Control, terminal: Terminal, reply_timeout: float) -> None:
        self._control = control
        self._terminal = terminal
        self._timeout = reply_timeout
        self._pod_started = False

    @classmethod
    def connect(
        cls,
        control: Path,
        terminal: Path,
        *,
        timeout: float,
        reply_timeout: float = REPLY_TIMEOUT,
        alive: Callable[[], bool] = lambda: True,
    ) -> Agent:
        """Connects to a machine's channels, which may still be coming, and waits for READY; all within `timeout` s.

        `alive` says whether the machine still runs. Raises CcError `agent-not-ready`, `agent-gone`, `agent-protocol`.
        """
        until = time.monotonic() + timeout
        with (
            agent_channel.connect(control, until, alive) as first,
            agent_channel.connect(terminal, until, alive) as second,
        ):
            left = max(0.0, until - time.monotonic())
            return cls.attach(first, second, timeout=left, reply_timeout=reply_timeout)

    @classmethod
    def attach(
        cls,
        control: socket.socket,
        terminal: socket.socket,
        *,
        timeout: float,
        reply_timeout: float = REPLY_TIMEOUT,
    ) -> Agent:
        """As `connect`, over channels that are connected. They stay the caller's to close."""
        changed = threading.Condition()
        agent = cls(Control(control.dup(), changed), Terminal(terminal.dup(), changed), reply_timeout)
        try:
            agent._start_reading(time.monotonic() + timeout)
        except BaseException:
            agent.close()
            raise
        return agent

    def _start_reading(self, until: float) -> None:
        self._control.start()
        self._terminal.start()
        self._control.wait_ready(until)

    def close(self) -> None:
        """Lets go of the agent; the guest goes on as it is."""
        self._control.close()
        self._terminal.close()

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # the guest

    def version(self) -> int:
        """The version of the agent's API."""
        return self._control.request(Code.GETVERSION, b"", self._timeout).number

    def ping(self, timeout: float | None = None) -> None:
        """Comes back when the agent answers."""
        self._control.request(Code.PING, b"", self._timeout if timeout is None else timeout)

    def rescan(self) -> None:
        """Lets the guest look for new devices."""
        self._ask(Code.READY)

    def online(self) -> None:
        """Lets the guest use processors and memory that were plugged in; they come some time after."""
        self._ask(Code.ONLINECPUMEM)

    def interface(self, interface: Interface) -> None:
        """Sets up a network interface."""
        self._ask(Code.SETUPINTERFACE, encode(interface.body()))

    def delete_interface(self, device: str) -> None:
        """Takes a network interface out of the guest."""
        self._ask(Code.DELETEINTERFACE, encode({"device": device}))

    def route(self, *routes: Route) -> None:
        """Adds routes."""
        self._ask(Code.SETUPROUTE, encode({"routes": [route.body() for route in routes]}))

    # the pod and its containers

    def start_pod(self, pod: Pod) -> None:
        """Starts the one pod of this guest. After a failure the guest powers off."""
        if self._pod_started:
            hint = "one guest is one pod; start another guest"
            raise CcError("agent-error", "the pod of this guest was started already", hint=hint)
        self._pod_started = True
        self._ask(Code.STARTPOD, encode(pod.body()))

    def new_container(self, container: Container, stdout: Sink, stderr: Sink) -> Running:
        """Makes a container and starts its first process, whose end ends all others in it."""
        return self._start(Code.NEWCONTAINER, container.id, container.process, container.body, stdout, stderr)

    def exec(self, container: str, process: Process, stdout: Sink, stderr: Sink) -> Running:
        """Starts another process in a container."""

        def body(stdio: int, stderr_number: int) -> dict[str, object]:
            return {"container": container, "process": process.body(stdio, stderr_number)}

        return self._start(Code.EXECCMD, container, process, body, stdout, stderr)

    def _start(
        self,
        code: Code,
        container: str,
        process: Process,
        body: Callable[[int, int], dict[str, object]],
        stdout: Sink,
        stderr: Sink,
    ) -> Running:
        stdio = self._terminal.open(stdout)
        errors = 0 if process.terminal else self._terminal.open(stderr)
        running = Running(container, process.id, process.terminal, stdio, errors)
        self._control.expect(*running.key)
        try:
            self._ask(code, encode(body(stdio, errors)))
        except CcError as error:
            if error.code == "agent-error":
                self._control.forget(*running.key)
                self._terminal.close_stream(stdio)
            raise
        return running

    def kill(self, container: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the first process of a container."""
        self._ask(Code.KILLCONTAINER, encode({"container": container, "signal": int(number)}))

    def signal(self, running: Running, number: int) -> None:
        """Sends a signal to a process and its group."""
        body = {"container": running.container, "process": running.process, "signal": int(number)}
        self._ask(Code.SIGNALPROCESS, encode(body))

    def remove(self, container: str) -> None:
        """Removes a container that has ended and is still there; mostly the agent has done so by itself."""
        self._ask(Code.REMOVECONTAINER, encode({"container": container}))

    def destroy_pod(self, timeout: float) -> None:
        """Ends all processes, then the pod and (where the agent is PID 1) the machine, within `timeout` seconds.

        An agent that is gone is what was wanted. Raises CcError `agent-timeout`: then stop the machine.
        """
        until = time.monotonic() + timeout
        try:
            self._kill_all(until)
            self._control.request(Code.DESTROYPOD, b"", max(0.0, until - time.monotonic()))
        except CcError as error:
            if error.code != "agent-gone":
                raise

    def _kill_all(self, until: float) -> None:
        for container in {container for container, _ in self._control.unfinished()}:
            body = encode({"container": container, "signal": int(signal.SIGKILL)})
            try:
                self._control.request(Code.KILLCONTAINER, body, max(0.0, until - time.monotonic()))
            except CcError as error:
                if error.code != "agent-error":  # it ended by itself meanwhile
                    raise
        for container, process in self._control.unfinished():
            if self._control.wait_finished(container, process, until) is None:
                raise agent_channel.late(f"the process {process} of {container} does not end")

    # files in a container

    def write_file(self, container: str, file: str, data: bytes) -> None:
        """Makes or overwrites a file in a container."""
        self._ask(Code.WRITEFILE, file_body(container, file) + data)

    def read_file(self, container: str, file: str) -> bytes:
        """The contents of a regular file in a container (what is in /proc has no size, and so reads as nothing)."""
        return self._ask(Code.READFILE, file_body(container, file))

    # processes

    def window_size(self, running: Running, rows: int, columns: int) -> None:
        """Sets the size of a process's terminal."""
        body = {"container": running.container, "process": running.process, "row": rows, "column": columns}
        self._ask(Code.WINSIZE, encode(body))

    def write(self, running: Running, data: bytes) -> None:
        """Writes to a process's standard input, as fast as it goes. Raises BrokenPipeError after its end."""
        self._terminal.write(running.stdio, data)

    def end_input(self, running: Running) -> None:
        """Ends a process's standard input; on a terminal by the character that means so. Raises BrokenPipeError."""
        if running.terminal:
            self._terminal.write(running.stdio, _END_OF_TRANSMISSION)
        else:
            self._terminal.end_input(running.stdio)

    def abandon(self, running: Running) -> None:
        """Ends what waits to write to a process, and throws away what it still says."""
        self._terminal.close_stream(running.stdio)
        if running.stderr:
            self._terminal.close_stream(running.stderr)

    def wait(self, running: Running, timeout: float | None = None) -> int:
        """Waits until a process has ended and its output was handed out; gives its status, 0 to 255.

        127, 126, 125: its program was not found, may not be run, did not start; 128 + n: signal n ended it
        (hyperstart as published says 0 then; kernel/guest/hyperstart mends that).
        Raises CcError `agent-timeout` (it still runs), `agent-gone`, `agent-protocol`, and what a sink raised: at
        once, so it may still run then too.
        """
        until = None if timeout is None else time.monotonic() + timeout
        status = self._control.wait_finished(*running.key, until, lambda: self._unheard(running) is not None)
        ended = status is not None and self._terminal.wait_end(running.stdio, until)
        if failure := self._unheard(running):
            raise failure
        if status is None or not ended:
            raise agent_channel.late(f"the process {running.process} of {running.container} still runs")
        return status

    def _unheard(self, running: Running) -> Exception | None:
        return self._terminal.failure(running.stdio, running.stderr)

    def _ask(self, code: Code, body: bytes = b"") -> bytes:
        return self._control.request(code, body, self._timeout).body
