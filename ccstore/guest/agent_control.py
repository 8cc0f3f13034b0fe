"""The control channel: commands and their replies, flow control, and the ends of processes.

The agent answers commands in order, so a reply belongs to the oldest command that has none; one that came too late
for whoever asked is still taken off this list. It says NEXT for every byte that it took; no more than a window of
bytes is ever on its way. PROCESSASYNCEVENT comes unasked.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

from ccstore.codec.hyper import API_VERSION, Code, Message, MessageDecoder
from ccstore.errors import CcError
from ccstore.guest.agent_channel import Channel, late, not_ready

# half of what the agent's buffer for commands holds at first
WINDOW = 4096


class _Reply:
    def __init__(self) -> None:
        self.message: Message | None = None


class Control(Channel):
    """Sends commands, one after the other, from any thread."""

    def __init__(self, connection: socket.socket, changed: threading.Condition) -> None:
        super().__init__(connection, changed, "control")
        self._decoder = MessageDecoder()
        self._sending = threading.Lock()
        self._ready = False
        self._replies: deque[_Reply] = deque()
        self._on_the_way = 0
        self._statuses: dict[tuple[str, str], int | None] = {}

    def wait_ready(self, until: float) -> None:
        """Waits for READY. Raises CcError `agent-not-ready`, `agent-gone`, `agent-protocol`."""
        if not self._wait(lambda: self._ready, until):
            raise not_ready("it did not say READY in time")

    def request(self, code: Code, body: bytes, timeout: float) -> Message:
        """Sends a command and gives its reply. Raises CcError `agent-error` with the agent's words, and `agent-*`."""
        until = time.monotonic() + timeout
        reply = _Reply()
        if not self._sending.acquire(timeout=timeout):
            raise late(f"{code.name} waits for another command")
        try:
            with self._changed:
                self._replies.append(reply)
            self._send_in_windows(Message(code, body).encode(), until)
        finally:
            self._sending.release()
        if not self._wait(lambda: reply.message is not None, until):
            raise late(f"{code.name}, after {timeout:g} s")
        assert reply.message is not None
        if reply.message.code is Code.ERROR:
            raise _refused(code, reply.message.body)
        return reply.message

    def _send_in_windows(self, data: bytes, until: float) -> None:
        while data:
            if not self._wait(lambda: self._on_the_way < WINDOW, until):
                self._fail(late("it does not take a command"))
                continue
            with self._changed:
                piece = data[: WINDOW - self._on_the_way]
                self._on_the_way += len(piece)
            self._send(piece, until)
            data = data[len(piece) :]

    def expect(self, container: str, process: str) -> None:
        """Says that this process will end some day; what is said of others is not kept."""
        with self._changed:
            if self._statuses.get((container, process), 0) is None:
                message = f"a process {process} of {container} is running"
                raise CcError("agent-error", message, hint="give it another id")
            self._statuses[container, process] = None

    def forget(self, container: str, process: str) -> None:
        """Says that this process did not start."""
        with self._changed:
            self._statuses.pop((container, process), None)

    def unfinished(self) -> list[tuple[str, str]]:
        """Container and process of what was started and has not ended."""
        with self._changed:
            return [key for key, status in self._statuses.items() if status is None]

    def wait_finished(
        self, container: str, process: str, until: float | None, or_if: Callable[[], bool] = lambda: False
    ) -> int | None:
        """The status with which a process ended, None if it still runs at `until`, or when `or_if` came true.

        Raises CcError `agent-gone`, `agent-protocol`.
        """
        key = (container, process)
        self._wait(lambda: self._statuses[key] is not None or or_if(), until)
        return self._statuses[key]

    def _take(self, data: bytes) -> None:
        for message in self._decoder.feed(data):
            with self._changed:
                self._dispatch(message)
                self._changed.notify_all()

    def _finish(self) -> None:
        self._decoder.finish()

    def _dispatch(self, message: Message) -> None:
        if message.code is Code.READY and not self._ready:
            self._ready = True
        elif not self._ready:
            raise _out_of_place(f"{message.code.name} before READY")
        elif message.code is Code.NEXT:
            self._taken(message.number)
        elif message.code is Code.PROCESSASYNCEVENT:
            self._finished(message.body)
        elif message.code in (Code.ACK, Code.ERROR) and self._replies:
            self._replies.popleft().message = message
        else:
            raise _out_of_place(f"an unasked {message.code.name}")

    def _taken(self, count: int) -> None:
        if count > self._on_the_way:
            raise _out_of_place(f"it took {count} bytes of {self._on_the_way}")
        self._on_the_way -= count

    def _finished(self, body: bytes) -> None:
        try:
            event = json.loads(body)
            key, status = (event["container"], event["process"]), event["status"]
            known = key in self._statuses
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _out_of_place(f"the event {body[:200]!r}") from None
        if not isinstance(status, int) or not 0 <= status <= 255:
            raise _out_of_place(f"the status {status!r}")
        if known:
            self._statuses[key] = status


def _refused(code: Code, body: bytes) -> CcError:
    words = body.rstrip(b"\0").decode("utf-8", "backslashreplace")
    said = f": {words}" if words else ", without a reason"
    hint = "the guest's console says more" if not words else None
    return CcError("agent-error", f"the agent refused {code.name}{said}", hint=hint)


def _out_of_place(what: str) -> CcError:
    return CcError(
        "agent-protocol",
        f"the agent does not keep to its protocol: {what}",
        hint=f"the guest must run hyperstart with API version {API_VERSION}",
    )
