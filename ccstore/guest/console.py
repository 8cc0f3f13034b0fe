"""What a guest prints: handed on as it comes, its last lines kept in bounded memory, a kernel's panic noticed."""

from __future__ import annotations

import re

KEPT = 16 << 10  # bytes
SHOWN = 8  # lines
BEFORE_PANIC = 3
# how Linux begins and ends the report of a panic; the second line comes only if it will then hang for ever
_STAMP = rb"^(?:\[ *\d+\.\d+\](?:\[[^\]]*\])? )?"
_PANIC = re.compile(_STAMP + rb"Kernel panic - not syncing: ?(.*?)\r*$", re.MULTILINE)
_PANIC_END = re.compile(_STAMP + rb"---\[ end Kernel panic", re.MULTILINE)
# a machine without a way to power off, such as a microvm without ACPI
_HALTED = re.compile(_STAMP + rb"reboot: System halted\r*$", re.MULTILINE)
# how our own init says that it gives up
_FAILED = re.compile(_STAMP + rb"init: panic: (.*?)(?:; powering off)?\r*$", re.MULTILINE)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78cDEHM])")


class Tail:
    """The end of a console's output."""

    def __init__(self) -> None:
        self._kept = b""
        self.total = 0
        self.panic: str | None = None
        self.failure: str | None = None
        self.hangs = False
        self.halted = False

    def feed(self, data: bytes) -> None:
        self.total += len(data)
        self._look(data)
        self._kept = (self._kept + data)[-KEPT:]

    def _look(self, data: bytes) -> None:
        # a line may come in pieces: look at it again from its start
        recent = self._kept[self._kept.rfind(b"\n") + 1 :] + data
        whole = recent[: recent.rfind(b"\n") + 1]
        found = _PANIC.search(whole)
        if found and self.panic is None:
            self.panic = found[1].decode(errors="replace")
        failed = _FAILED.search(whole)
        if failed and self.failure is None:
            self.failure = failed[1].decode(errors="replace")
        self.hangs = self.hangs or _PANIC_END.search(whole) is not None
        self.halted = self.halted or _HALTED.search(whole) is not None

    def lines(self) -> tuple[str, ...]:
        """The last lines as text, without terminal sequences and blank lines; of a panic, how it began."""
        text = _ESCAPES.sub("", self._kept.decode(errors="replace"))
        every = [line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n")]
        lines = tuple(line for line in every if line.strip())
        start = next((i for i, line in enumerate(lines) if "Kernel panic - not syncing" in line), None)
        if start is None:
            return lines[-SHOWN:]
        return lines[max(0, start - BEFORE_PANIC) :][:SHOWN]
