"""The user's terminal, lent to a guest: raw while it has it, and given back as it was."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the guest, Ctrl-C too. A descriptor that is no terminal is left alone."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGHUP, signal.SIGQUIT)}
    try:
        tty.setraw(descriptor, termios.TCSANOW)
        yield
    finally:
        # what was typed and not read was meant for the guest, not for the shell that comes back
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
