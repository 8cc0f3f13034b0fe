"""A build's output on its way: kept whole, reported line by line, searched for the first error."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ccstore.events import Logged, Progressed, Sink

# gcc, clang and ld all write `file:line[:column]: [fatal ]error: message`; make and cpp vary only in the prefix
# it is tried at the beginnings of words only: a long line without one must not cost its length squared
_COMPILER_ERROR = re.compile(r"(?<![^\s:])(?P<file>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?error: .+")
_TAIL_LINES = 15
_LONGEST_LINE = 4000


class Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...


class BuildLog:
    """Takes bytes from one build (one thread at a time) and remembers what a message about it needs."""

    def __init__(
        self,
        target: str,
        writer: Writer,
        sink: Sink,
        expected_lines: int | None,
        disk_is_full: Callable[[], bool],
    ) -> None:
        self._target = target
        self._writer = writer
        self._sink = sink
        self._expected_lines = expected_lines
        self._disk_is_full = disk_is_full
        self._rest = b""
        self.lines = 0
        self.first_error: str | None = None
        self.disk_full = False
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)

    def write(self, data: bytes) -> None:
        self._writer.write(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._line(line)
        if len(self._rest) > _LONGEST_LINE:
            self._line(self._rest)
            self._rest = b""
        if whole:
            self._sink(Progressed(self._target, self.lines, self._expected_lines, "lines"))

    def close(self) -> None:
        if self._rest:
            self._line(self._rest)
            self._rest = b""

    def _line(self, raw: bytes) -> None:
        line = raw[:_LONGEST_LINE].decode(errors="replace").rstrip("\r")
        self.lines += 1
        self.tail.append(line)
        if self.first_error is None and _COMPILER_ERROR.search(line):
            self.first_error = line.strip()
        if "No space left on device" in line and not self.disk_full:
            self.disk_full = self._disk_is_full()  # now: what the build wrote is removed when it has ended
        self._sink(Logged(self._target, line))
