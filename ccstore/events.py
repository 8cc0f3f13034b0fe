"""What ccstore reports while it works: plain values, sent to one sink.

The sink decides how they look (a live view on a terminal, plain lines in a pipe, JSON). A sink must be cheap
and thread-safe: builds report from the threads that run them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Work = Literal["fetch", "build", "substitute", "register", "collect", "verify", "push", "pull", "wait"]
# what the time of a step is spent on: `tools` and `download` are others' work, the rest is ccstore's own
Phase = Literal["prepare", "sandbox", "tools", "download", "unpack", "register", "record"]


@dataclass(frozen=True, slots=True)
class Started:
    """Work on `target` began; `expected` is how long it usually takes, in seconds."""

    target: str
    work: Work
    expected: float | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """`done` of `total` units (bytes, or log lines for a build); total is None while unknown."""

    target: str
    done: int
    total: int | None
    unit: Literal["bytes", "lines", "objects"]


@dataclass(frozen=True, slots=True)
class Logged:
    """One line of a build's log, without its newline."""

    target: str
    line: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Work on `target` ended after `seconds`; `failed` carries the error's code."""

    target: str
    work: Work
    seconds: float
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Phased:
    """A phase of the work on `target` has ended; `began` and `ended` are monotonic seconds."""

    target: str
    phase: Phase
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Placed:
    """Which `worker` of a cluster has the build of `target`; "" while it waits for one."""

    target: str
    worker: str


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`remaining` tells at any time how many seconds all of it will still take, and whether nothing is left out."""

    remaining: Callable[[], tuple[float, bool]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a failed build left is kept in `folder`, because that was asked for."""

    target: str
    folder: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a person should know: a mirror that failed, a lock that is waited for."""

    message: str
    target: str | None = None
    warning: bool = False


Event = Started | Progressed | Logged | Finished | Phased | Placed | Foreseen | Kept | Noted
Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A sink for callers that do not watch."""


def all_of(*sinks: Sink) -> Sink:
    """A sink for several that watch."""

    def send(event: Event) -> None:
        for each in sinks:
            each(event)

    return send


def to_sink(label: str, sink: Sink) -> Callable[[int, int | None], None]:
    """Reports bytes that are done, and of how many if that is known, as the progress of `label`."""
    return lambda done, total: sink(Progressed(label, done, total, "bytes"))


@contextmanager
def reported(sink: Sink, target: str, work: Work, expected: float | None = None) -> Iterator[None]:
    """Says when the work on `target` in the block begins and how it ends."""
    sink(Started(target, work, expected))
    started = time.monotonic()
    failed: str | None = "internal"
    try:
        yield
        failed = None
    except KeyboardInterrupt:
        failed = "interrupted"
        raise
    except Exception as error:
        failed = getattr(error, "code", failed)
        raise
    finally:
        sink(Finished(target, work, time.monotonic() - started, failed))
