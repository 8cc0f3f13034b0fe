"""How long a download goes on trying, and how it stops when it is told to."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ccstore.errors import CcError
from ccstore.ports import Cancel


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds, sizes in bytes.

    A URL is given up after `attempts` transient failures in a row; an attempt that brought at least `gain`
    begins a new row. `jitter` gives numbers from 0 to 1. `max_size` holds for files without a declared size.
    """

    attempts: int = 4
    first_pause: float = 0.5
    longest_pause: float = 30.0
    connect_timeout: float = 10.0
    gain: int = 1 << 20
    max_size: int = 64 << 30
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic

    def pause(self, failures: int) -> float:
        """The pause after this many failures in a row: doubled each time, by half at random."""
        longest = min(self.longest_pause, self.first_pause * 2.0 ** (failures - 1))
        return float(longest * (0.5 + self.jitter() / 2))


PATIENT = Patience()


def check(cancel: Cancel, label: str) -> None:
    """Raises `interrupted` once `cancel` is set."""
    if cancel.cancelled:
        raise CcError("interrupted", f"the fetch of {label} was interrupted")


def wait(cancel: Cancel, seconds: float) -> None:
    """Sleeps for `seconds`, or until `cancel` is set."""
    over = threading.Event()
    forget = cancel.on_cancel(over.set)
    try:
        over.wait(seconds)
    finally:
        forget()
