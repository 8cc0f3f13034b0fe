"""The terminal channel: the streams of all processes, in and out.

Output goes to a sink, a function that is called with bytes by this channel's thread. A sink that takes its time holds
up the channel and so, in the end, the processes; nothing is stored. A sink that fails gets no more bytes, and whoever
waits for the process is told.

Input: the agent keeps 512 bytes of what a process's pipe did not take yet, and two frames that come at once are too
much for it. But it answers a frame for a stream that it does not know by an empty frame, after everything before it
went on its way. So every 512 bytes of input are followed by such a probe and the next wait for its answer. (When its
own output is jammed the agent forgets to answer; the probe is sent again.) With a full pipe and 512 bytes, our
hyperstart reads nothing more until the process does, so the answer waits too; hyperstart as published drops what
comes then, and the protocol has no way to tell.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ccstore.codec.hyper import API_VERSION, Chunk, ChunkDecoder, input_chunks
from ccstore.errors import CcError
from ccstore.guest.agent_channel import Channel

Sink = Callable[[bytes], object]

_PROBE = 1 << 63
_FIRST_PATIENCE = 0.05
_PATIENCE = 5.0


@dataclass
class _Stream:
    sink: Sink
    ended: bool = False
    failure: Exception | None = None


class Terminal(Channel):
    """Numbers streams, hands out what comes on them, and writes input."""

    def __init__(self, connection: socket.socket, changed: threading.Condition) -> None:
        super().__init__(connection, changed, "terminal")
        self._decoder = ChunkDecoder()
        self._streams: dict[int, _Stream] = {}
        self._last = 0
        self._writing = threading.Lock()
        self._probes = 0
        self._answered = 0

    def open(self, sink: Sink) -> int:
        """A number for a new stream."""
        with self._changed:
            self._last += 1
            self._streams[self._last] = _Stream(sink)
            return self._last

    def close_stream(self, number: int) -> None:
        """Says that nothing more is wanted of a stream."""
        with self._changed:
            self._streams[number].ended = True
            self._changed.notify_all()

    def wait_end(self, number: int, until: float | None) -> bool:
        """Waits until all of a stream was handed out, False after `until`.

        A channel that ended has no more to give; only a channel that made no sense is a failure.
        """
        try:
            return self._wait(lambda: self._streams[number].ended, until)
        except CcError as error:
            if error.code == "agent-protocol":
                raise
            return True

    def failure(self, *numbers: int) -> Exception | None:
        """What the sink of one of these streams raised."""
        failures = (self._streams[number].failure for number in numbers if number)
        return next((failure for failure in failures if failure is not None), None)

    def write(self, number: int, data: bytes) -> None:
        """Writes input, as fast as the agent passes it on. Raises BrokenPipeError when the process has ended."""
        for chunk in input_chunks(number, data):
            self._write(chunk)

    def end_input(self, number: int) -> None:
        """Says that there is no more input."""
        self._write(Chunk(number))

    def _write(self, chunk: Chunk) -> None:
        with self._writing:
            stream = self._streams[chunk.stream]
            if not stream.ended:
                self._send(chunk.encode(), None)
                self._settle(stream)
            if stream.ended:
                raise BrokenPipeError("the process has ended")

    def _settle(self, stream: _Stream) -> None:
        """Waits until the agent has passed on what was written."""
        wanted, patience = self._probes + 1, _FIRST_PATIENCE
        while True:
            self._probes += 1
            self._send(Chunk(_PROBE | self._probes).encode(), None)
            until = time.monotonic() + patience
            if self._wait(lambda: self._answered >= wanted or stream.ended, until):
                return
            patience = min(patience * 2, _PATIENCE)

    def _take(self, data: bytes) -> None:
        for chunk in self._decoder.feed(data):
            if chunk.stream & _PROBE:
                self._answer(chunk)
            elif stream := self._streams.get(chunk.stream):
                self._hand_out(stream, chunk.data)
            else:
                raise _unknown(chunk)

    def _finish(self) -> None:
        self._decoder.finish()

    def _answer(self, chunk: Chunk) -> None:
        number = chunk.stream ^ _PROBE
        if chunk.data or number > self._probes:
            raise _unknown(chunk)
        with self._changed:
            self._answered = max(self._answered, number)
            self._changed.notify_all()

    def _hand_out(self, stream: _Stream, data: bytes) -> None:
        if not data:
            with self._changed:
                stream.ended = True
                self._changed.notify_all()
        elif not stream.ended and stream.failure is None:
            try:
                stream.sink(data)
            except Exception as error:  # a sink's failure is its process's, not the channel's
                with self._changed:
                    stream.failure = error
                    self._changed.notify_all()


def _unknown(chunk: Chunk) -> CcError:
    message = f"the agent does not keep to its protocol: {len(chunk.data)} bytes for stream {chunk.stream}"
    return CcError(
        "agent-protocol", message, hint=f"the guest must run hyperstart with API version {API_VERSION}"
    )
