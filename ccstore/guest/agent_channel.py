"""One socket to the agent: a thread that reads it, writes that end in time, and what made it fail.

Whoever waits for something of the agent waits on one condition, of both channels, and is told of the first failure:
the agent went away (`agent-gone`), it does not speak the protocol (`agent-protocol`), or a frame could not be written
whole in time (`agent-timeout`; the rest of it would come to be read as another frame, so the channel ends with it).
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ccstore.errors import CcError

_BLOCK = 1 << 16
_POLL = 0.01
_JOIN = 1.0


def connect(path: Path, deadline: float, alive: Callable[[], bool]) -> socket.socket:
    """Connects to a machine's end of a channel, which may not be there yet.

    `deadline` is in seconds of time.monotonic(). Raises CcError `agent-gone` when the machine is not `alive` any
    more, `agent-not-ready` after the deadline.
    """
    while True:
        running = alive()
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            channel.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError) as error:
            channel.close()
            if not running:
                raise gone("the machine ended before it could be reached") from error
            if time.monotonic() > deadline:
                raise not_ready("the machine has no channel to its agent") from error
            time.sleep(_POLL)
        else:
            return channel


def gone(message: str) -> CcError:
    hint = "the last lines of the guest's console say why"
    return CcError("agent-gone", f"the agent in the guest is gone: {message}", hint=hint)


def not_ready(message: str) -> CcError:
    hint = "see the guest's console; a guest without an agent can be run without a command"
    return CcError("agent-not-ready", f"the agent in the guest is not ready: {message}", hint=hint)


def late(what: str) -> CcError:
    hint = "the guest hangs or is slow; give it more time or see its console"
    return CcError("agent-timeout", f"the agent did not answer in time: {what}", hint=hint)


class Channel:
    """A connected socket that is read from `start` until `close`; subclasses say what is done with the bytes."""

    def __init__(self, connection: socket.socket, changed: threading.Condition, name: str) -> None:
        self._socket = connection
        self._changed = changed
        self._failure: CcError | None = None
        self._thread = threading.Thread(target=self._read, name=f"agent-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends reading; whoever still waits is told `agent-gone`.

        A thread that hands bytes to a reader who takes none is left to itself.
        """
        self._fail(gone("the connection was closed"))
        with contextlib.suppress(OSError):  # the other side may have been first
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)
        self._socket.close()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(_BLOCK):
                self._take(data)
            self._finish()
        except CcError as error:
            self._fail(error)
        except OSError as error:
            self._fail(gone(str(error)))
        else:
            self._fail(gone("it closed its channel"))

    def _take(self, data: bytes) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _fail(self, failure: CcError) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], until: float | None) -> bool:
        """Waits until `ready`, False after `until`. What is ready counts even if the channel failed afterwards."""
        with self._changed:
            while not ready():
                if self._failure is not None:
                    raise self._failure
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)
            return True

    def _send(self, data: bytes, until: float | None) -> None:
        """Writes all of `data`, or ends the channel."""
        view = memoryview(data)
        writable = select.poll()
        writable.register(self._socket, select.POLLOUT)
        while view:
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            if not writable.poll(left):
                self._fail(late("it does not read its channel"))
            if self._failure is not None:
                raise self._failure
            try:
                view = view[self._socket.send(view, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue
            except OSError as error:
                self._fail(gone(str(error)))
