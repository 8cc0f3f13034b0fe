"""Stays with a guest until it ended: console, keyboard, time-out, panic, and the monitor's own end, in one loop.

Whoever reads slowly slows the guest down and is not waited for: what is read from one side is held until the other
can take it, and no more is read meanwhile.
"""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ccstore.errors import CcError
from ccstore.guest.child import Program
from ccstore.guest.console import Tail
from ccstore.guest.launch import Guest, exit_text

Why = Literal["ended", "timeout", "panicked", "left", "failed"]
LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it
CHUNK = 4096  # a pipe that poll calls writable takes as much without blocking
SETTLE_SECONDS = 2.0
_TAKEN = re.compile(r"host forwarding rule '(\w+):([\d.]+):(\d+)-")
PANIC_SECONDS = 10.0  # for the rest of a panic's report, and the reboot that may follow it


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the console leads: descriptors, or None for nowhere. `escape`: Ctrl-] on the keyboard leaves;
    `dispensable`: the guest goes on when its screen fails."""

    keyboard: int | None = None
    screen: int | None = None
    escape: bool = False
    dispensable: bool = False


class Watch:
    """One guest's life. `fallback` is tried if KVM ends the first before its guest said anything."""

    def __init__(
        self,
        guest: Guest,
        streams: Streams,
        timeout: float | None = None,
        fallback: Program | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.tail = Tail()
        self.why: Why | None = None
        self.status = 0
        self.monitor_said: tuple[str, ...] = ()
        self._guest, self._streams, self._fallback, self._note = guest, streams, fallback, note
        self._screen = streams.screen
        self._failure: Exception | None = None
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._to_screen = self._to_guest = b""
        self._keyboard_open = streams.keyboard is not None
        self._console_open = True
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._over = threading.Event()
        guest.console.setblocking(False)

    def run(self) -> Why:
        """Returns when the guest ended, or must be ended by the caller. What failed here, `check` raises."""
        try:
            while self.why is None:
                self._turn(self._wait())
            return self.why
        except Exception as error:
            self._failure, self.why = error, "failed"
            return self.why
        finally:
            self.why = self.why or "left"
            self._guest.hang_up()
            self.monitor_said = self._guest.said()
            self._over.set()

    def _turn(self, ready: set[int]) -> None:
        if self._guest.errors in ready and self._guest.read_errors(b"KVM internal error"):
            self._guest.kill()  # QEMU would hold the guest there for a debugger
        self._move(ready)
        if self._guest.pidfd in ready:
            self._ended()
        elif self.tail.halted:
            self.why = "ended"
            self._flush()
        elif self._wake in ready:
            self.why = "left"
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self.why = "panicked" if self.tail.panic is not None else "timeout"

    def leave(self) -> None:
        """Makes `run` return, from whatever thread."""
        self._fallback = None
        os.eventfd_write(self._wake, 1)

    def settle(self, ending: bool) -> None:
        """From another thread: waits a moment for `run` to notice the end of a guest that is `ending`."""
        self._over.wait(SETTLE_SECONDS if ending else 0)

    def _wait(self) -> set[int]:
        poll = select.poll()
        wanted = {self._guest.pidfd: select.POLLIN, self._wake: select.POLLIN}
        wanted[self._guest.errors] = select.POLLIN
        console = self._guest.console.fileno()
        events = 0 if self._to_screen or not self._console_open else select.POLLIN
        wanted[console] = events | (select.POLLOUT if self._to_guest else 0)
        if self._to_screen and self._screen is not None:
            wanted[self._screen] = select.POLLOUT
        if self._keyboard_open and not self._to_guest and self._streams.keyboard is not None:
            wanted[self._streams.keyboard] = select.POLLIN
        for descriptor, events in wanted.items():
            if events:
                poll.register(descriptor, events)
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        return {descriptor for descriptor, _ in poll.poll(None if left is None else left * 1000 + 1)}

    def _move(self, ready: set[int]) -> None:
        if self._screen in ready and self._to_screen:
            self._show()
        if self._guest.console.fileno() in ready:
            self._send()
            if not self._to_screen:
                self._receive()
        if self._streams.keyboard in ready and not self._to_guest:
            self._type()

    def _show(self) -> None:
        assert self._screen is not None
        try:
            done = os.write(self._screen, self._to_screen[:CHUNK])
        except OSError:
            self._screen, done = None, len(self._to_screen)
            if not self._streams.dispensable:
                raise
        self._to_screen = self._to_screen[done:]

    def _send(self) -> None:
        if self._to_guest:
            try:
                self._to_guest = self._to_guest[self._guest.console.send(self._to_guest) :]
            except BlockingIOError:
                return
            except OSError:
                self._to_guest = b""  # it ended, which its pidfd tells

    def _receive(self) -> bool:
        try:
            data = self._guest.console.recv(1 << 16)
        except (BlockingIOError, ConnectionResetError):
            return False
        if not data:
            self._console_open = False
            return False
        self.tail.feed(data)
        if self.tail.panic is not None:
            limit = 0.0 if self.tail.hangs else PANIC_SECONDS
            soon = time.monotonic() + limit
            self._deadline = soon if self._deadline is None else min(self._deadline, soon)
        if self._screen is not None:
            self._to_screen += data
        return True

    def _type(self) -> None:
        assert self._streams.keyboard is not None
        data = os.read(self._streams.keyboard, CHUNK)
        if not data:
            self._keyboard_open = False
        if self._streams.escape and LEAVE in data:
            data = data[: data.index(LEAVE)]
            self.why = "left"
        self._to_guest += data

    def _ended(self) -> None:
        """Takes what is left on the console, and tries the next program if this one did not even start."""
        while self._receive():
            pass
        self.status = self._guest.wait()
        said = self._guest.said()
        blames_kvm = self.status < 0 or any("kvm" in line.lower() for line in said)
        if self._fallback is not None and blames_kvm and not self.tail.total:
            reason = next((line for line in said if "qemu" in line.lower()), exit_text(self.status))
            program, self._fallback, self.status = self._fallback, None, 0
            self._guest.start(program)
            self._note(reason)
            return
        self.why = "panicked" if self.tail.panic is not None else "ended"
        self._flush()

    def _flush(self) -> None:
        """The rest of the output; a reader that does not take it in time is not waited for."""
        end = time.monotonic() + PANIC_SECONDS if self._timeout is None else self._deadline
        poll = select.poll()
        if self._screen is not None:
            poll.register(self._screen, select.POLLOUT)
        while self._to_screen and self._screen is not None:
            left = max(0.0, (end or 0.0) - time.monotonic())
            if not poll.poll(left * 1000):
                return
            self._show()

    def close(self) -> None:
        os.close(self._wake)

    def check(self, name: str) -> None:
        """After `run`: raises for every end but a power-off and leaving it."""
        if self._failure is not None:
            raise self._failure
        lines = self.tail.lines()
        if self.why == "panicked":
            message = f"the kernel of {name} panicked: {self.tail.panic}"
            hint = (
                "give it more memory, such as --memory 128M"
                if "memory" in (self.tail.panic or "")
                else "`ccstore run` without a command shows the whole console; other --append may help"
            )
            raise CcError("guest-panicked", message, details=lines, hint=hint)
        if self.why == "ended" and self.tail.failure is not None:
            hint = "`ccstore run` without a command shows the whole console"
            raise CcError("guest-failed", f"{name} gave up: {self.tail.failure}", details=lines, hint=hint)
        if self.why == "timeout":
            message = f"{name} did not end within {self._timeout:.0f} s"
            raise CcError("guest-timeout", message, hint="--timeout gives it more time")
        if self.why == "ended" and self.status:
            raise monitor_failure(name, self.status, self.monitor_said or lines)


def monitor_failure(name: str, status: int, said: tuple[str, ...]) -> CcError:
    """What the monitor said, in words of `ccstore run` if they are known."""
    for line in said:
        forward = _TAKEN.search(line)
        if forward is not None:
            message = f"port {forward[3]} of {forward[2]} ({forward[1]}) is in use, or not yours to have"
            hint = "--publish another port of this host"
            return CcError("vmm-failed", message, details=said, hint=hint)
    message = f"the virtual machine monitor of {name} failed ({exit_text(status)})"
    hint = "--dry-run prints its command line"
    if os.geteuid() != 0 and any("vhost" in line or "virtiofs" in line for line in said):
        hint = "the virtiofsd of QEMU 7.2 works for root alone: leave --virtiofs out to share by 9p"
    return CcError("vmm-failed", message, details=said, hint=hint)
