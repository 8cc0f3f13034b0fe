"""The user's terminal, lent to a guest or to a sandbox: raw while that has it, and given back as it was."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

CHUNK = 4096


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the borrower, Ctrl-C too. A descriptor that is no terminal is left alone."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGHUP, signal.SIGQUIT)}
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        # what was typed and not read was meant for the borrower, not for the shell that comes back
        with suppress(termios.error):  # EIO: it was closed meanwhile
            termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def size(descriptor: int) -> tuple[int, int] | None:
    """Columns and rows, or None for what is no terminal."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return columns, rows


def relay(other: int, keyboard: int = 0, screen: int = 1) -> None:
    """Joins this terminal to `other`, the open end of another one, until nobody has that one open any more.

    The other's window is always as large as this one. When the keyboard ends, the other hangs up.
    """
    with raw(keyboard), _same_size(other, screen):
        os.set_blocking(other, False)
        _pump([_Way(keyboard, other), _Way(other, screen)])


@contextmanager
def _same_size(other: int, screen: int) -> Iterator[None]:
    def resize(number: int = 0, frame: FrameType | None = None) -> None:
        window = size(screen)
        if window:
            fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", window[1], window[0], 0, 0))

    before = signal.signal(signal.SIGWINCH, resize)
    try:
        resize()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


@dataclass(slots=True)
class _Way:
    """Bytes on the way from one descriptor to another; no more are read before those have gone."""

    source: int
    target: int
    held: bytes = b""

    def move(self, events: dict[int, int]) -> bool:
        """Reads or writes once, as `events` of poll allow; False when the source has ended."""
        if self.held:
            if events.get(self.target, 0) & ~select.POLLIN:
                self.held = self.held[os.write(self.target, self.held) :]
        elif events.get(self.source, 0) & ~select.POLLOUT:
            self.held = _read(self.source)
            return bool(self.held)
        return True


def _pump(ways: list[_Way]) -> None:
    ended = False
    while not (ended and not any(way.held for way in ways)):
        poll = select.poll()
        wanted: dict[int, int] = {}
        for way in ways:
            place, event = (way.target, select.POLLOUT) if way.held else (way.source, select.POLLIN)
            if not ended or way.held:
                wanted[place] = wanted.get(place, 0) | event
        for place, event in wanted.items():
            poll.register(place, event)
        events = dict(poll.poll())
        # not a list: each way has its turn, whatever the other one says
        moved = [way.move(events) for way in ways]
        ended = ended or not all(moved)


def _read(source: int) -> bytes:
    try:
        return os.read(source, CHUNK)
    except OSError as error:
        if error.errno == errno.EIO:  # the last process that had the other terminal open is gone
            return b""
        raise
