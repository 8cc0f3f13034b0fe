"""Frames of the hyperstart protocol, API version 4244 (hyperhq/hyperstart, `src/api.h`).

A host and the agent in its guest talk over two byte streams:

Control channel, both ways: big-endian u32 code, u32 length (these 8 bytes included), body. Bodies are JSON, but for
GETVERSION's reply and NEXT (a u32) and the contents of files.
Terminal channel, both ways: big-endian u64 stream number, u32 length (these 12 bytes included), bytes. A frame
without bytes is the end of a stream.

A decoder is given whatever came and gives back the frames that are whole. It never holds more than one frame that is
not, and a frame may not be longer than a bound: what is not this protocol is refused (`agent-protocol`), not stored.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from ccstore.errors import CcError

API_VERSION = 4244
CONTROL_HEADER = struct.Struct(">II")
TERMINAL_HEADER = struct.Struct(">QI")
# a reply holds a file at most, and the agent reads one into memory whole
CONTROL_LIMIT = 64 << 20
# the agent sends at most 10 KiB at once over virtio-serial, 64 KiB over vsock
TERMINAL_LIMIT = 64 << 10
# the agent keeps no more than this of what a process has not read yet
INPUT_UNREAD = 512
_U32 = struct.Struct(">I")


class Code(IntEnum):
    """What a control frame is. Numbers that are missing were given up by the protocol."""

    GETVERSION = 0
    STARTPOD = 1
    DESTROYPOD = 4
    EXECCMD = 6
    READY = 8
    ACK = 9
    ERROR = 10
    WINSIZE = 11
    PING = 12
    NEXT = 14
    WRITEFILE = 15
    READFILE = 16
    NEWCONTAINER = 17
    KILLCONTAINER = 18
    ONLINECPUMEM = 19
    SETUPINTERFACE = 20
    SETUPROUTE = 21
    REMOVECONTAINER = 22
    PROCESSASYNCEVENT = 23
    SIGNALPROCESS = 24
    DELETEINTERFACE = 25


@dataclass(frozen=True)
class Message:
    """A frame of the control channel."""

    code: Code
    body: bytes = b""

    def encode(self) -> bytes:
        size = CONTROL_HEADER.size + len(self.body)
        if size > CONTROL_LIMIT:
            raise _invalid(f"a {self.code.name} of {size} bytes cannot be sent, at most {CONTROL_LIMIT} can")
        return CONTROL_HEADER.pack(self.code, size) + self.body

    @property
    def number(self) -> int:
        """The body of a NEXT or of GETVERSION's reply. Raises CcError `agent-protocol`."""
        if len(self.body) != _U32.size:
            raise _invalid(f"a number of {len(self.body)} bytes in {self.code.name}")
        value: int = _U32.unpack(self.body)[0]
        return value


@dataclass(frozen=True)
class Chunk:
    """A frame of the terminal channel: bytes of a stream, or its end if there are none."""

    stream: int
    data: bytes = b""

    def encode(self) -> bytes:
        return TERMINAL_HEADER.pack(self.stream, TERMINAL_HEADER.size + len(self.data)) + self.data


def input_chunks(stream: int, data: bytes) -> Iterator[Chunk]:
    """Cuts the input of a process into frames that the agent keeps whole, if each is read before the next comes."""
    for start in range(0, len(data), INPUT_UNREAD):
        yield Chunk(stream, data[start : start + INPUT_UNREAD])


class _Frames:
    """Cuts a byte stream into frames whose header ends with their length."""

    def __init__(self, header: struct.Struct, limit: int) -> None:
        self._header = header
        self._limit = limit
        self._buffer = bytearray()
        self._wrong: CcError | None = None

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        if self._wrong is not None:
            raise self._wrong
        self._buffer += data
        at = 0
        try:
            while (size := self._size(at)) and len(self._buffer) - at >= size:
                [first, _] = self._header.unpack_from(self._buffer, at)
                yield first, bytes(self._buffer[at + self._header.size : at + size])
                at += size
        finally:
            del self._buffer[:at]

    def _size(self, at: int) -> int:
        """The size of the frame that begins at `at`, 0 while its header is not there."""
        if len(self._buffer) - at < self._header.size:
            return 0
        size: int = self._header.unpack_from(self._buffer, at)[1]
        if not self._header.size <= size <= self._limit:
            raise self.refuse(f"a frame of {size} bytes, {self._header.size} to {self._limit} can be")
        return size

    def refuse(self, message: str) -> CcError:
        """Nothing can be made of what comes after a wrong frame."""
        self._wrong = _invalid(message)
        self._buffer.clear()
        return self._wrong

    def finish(self) -> None:
        if self._wrong is not None:
            raise self._wrong
        if self._buffer:
            raise self.refuse(f"the stream ended within a frame, after {len(self._buffer)} bytes of it")


class MessageDecoder:
    """Gives the frames of a control channel as they become whole."""

    def __init__(self, limit: int = CONTROL_LIMIT) -> None:
        self._frames = _Frames(CONTROL_HEADER, limit)

    def feed(self, data: bytes) -> list[Message]:
        """Takes what came next. Raises CcError `agent-protocol`, then and from then on."""
        return [Message(self._code(number), body) for number, body in self._frames.feed(data)]

    def finish(self) -> None:
        """Says that nothing comes any more. Raises CcError `agent-protocol` if a frame was begun."""
        self._frames.finish()

    def _code(self, number: int) -> Code:
        try:
            return Code(number)
        except ValueError:
            raise self._frames.refuse(f"a frame of the unknown kind {number}") from None


class ChunkDecoder:
    """Gives the frames of a terminal channel as they become whole."""

    def __init__(self, limit: int = TERMINAL_LIMIT) -> None:
        self._frames = _Frames(TERMINAL_HEADER, limit)

    def feed(self, data: bytes) -> list[Chunk]:
        """Takes what came next. Raises CcError `agent-protocol`, then and from then on."""
        return [Chunk(stream, body) for stream, body in self._frames.feed(data)]

    def finish(self) -> None:
        """Says that nothing comes any more. Raises CcError `agent-protocol` if a frame was begun."""
        self._frames.finish()


def _invalid(message: str) -> CcError:
    return CcError(
        "agent-protocol",
        f"not the hyperstart protocol: {message}",
        hint=f"the guest must run hyperstart with API version {API_VERSION}",
    )
