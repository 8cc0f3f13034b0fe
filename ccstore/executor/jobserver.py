"""One budget of jobs for all builds of this process: a GNU jobserver that gives each build pipes of its own.

A build holds one token from its beginning to its end, for its first job. For every other job `make` reads a token
from one pipe, and writes it to another one when the job is done (GNU make's manual, "POSIX Jobserver Interaction";
a FIFO would need make 4.4):

    free tokens ── broker ──lent──▶ build A          a token that comes back goes to the poorest of the builds
                     ▲ └─────lent──▶ build B          that have no token lying unused in their pipe
                     └──────returned──────┘

What counts is the broker's own record of what each build was lent. A build that is killed takes nothing with it, and
one that eats its tokens, or invents some, does so with its own: it is charged for what it was lent until it ends.
"""

from __future__ import annotations

import fcntl
import os
import select
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ccstore.errors import CcError
from ccstore.ports import Cancel

TOKEN = b"+"
LOOK = 0.03  # seconds between two looks at tokens that lie unused while another build may want them
LONGEST_PAUSE = 1.0  # seconds for which a build that left a token unused is passed over, at most
PATIENCE = 60.0  # seconds that a build waits for its first token: one that hoards tokens must not stop it
CHUNK = 1 << 16


class Share:
    """What one build was lent. `descriptors` are for the build: tokens are read from one and written to the other."""

    def __init__(self) -> None:
        reader, self._give = os.pipe()
        self.back, writer = os.pipe()
        self.descriptors = (reader, writer)
        # another opening: the build may make `reader` wait or not
        self._look = os.open(f"/proc/self/fd/{reader}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self._give, False)
        os.set_blocking(self.back, False)
        self.lent = 0
        self.trusted = True
        self.pause = 0.0
        self.refuses_until = 0.0
        self._unused_since: float | None = None
        self._content_with = 0

    def unused(self) -> int:
        """Tokens that the build was lent and has not taken."""
        count = int.from_bytes(fcntl.ioctl(self._look, termios.FIONREAD, bytes(4)), "little")
        return min(count, self.lent)

    def lend(self) -> bool:
        try:
            os.write(self._give, TOKEN)
        except BlockingIOError:  # the build itself has filled the pipe
            self.trusted = False
            return False
        self.lent += 1
        return True

    def recall(self) -> bool:
        """Takes an unused token back, if the build is not quicker."""
        if not self.lent:
            return False
        with suppress(BlockingIOError):
            if os.read(self._look, 1):
                self.lent -= 1
                return True
        return False

    def receive(self) -> int:
        """How many tokens the build gave back."""
        with suppress(BlockingIOError):
            count = len(os.read(self.back, CHUNK))
            if count <= self.lent:
                self.lent -= count
                return count
            self.trusted = False  # it gives back what it never got
        return 0

    def leaves_unused(self, now: float) -> bool:
        """Whether a token has lain unused since the last look; the build is then passed over, longer each time."""
        unused = self.unused()
        if self.lent - unused > self._content_with:
            self.pause, self._content_with = 0.0, 0
        if not unused:
            self._unused_since = None
            return False
        since = self._unused_since = self._unused_since or now
        if now - since < LOOK:
            return False
        self._unused_since = None
        self._content_with = self.lent - unused
        self.pause = min(max(2 * self.pause, LOOK), LONGEST_PAUSE)
        self.refuses_until = now + self.pause
        return True

    def close(self) -> None:
        for descriptor in (*self.descriptors, self._give, self.back, self._look):
            os.close(descriptor)


class Jobserver:
    """`size` tokens. A context manager; no build may have a share of it when it ends. Threads may share it."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._queue: list[object] = []
        self._shares: list[Share] = []
        self._over: list[Share] = []
        self._changed = threading.Condition()
        self._closed = False
        self._bell, self._ring = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._ring, False)
        self._broker = threading.Thread(target=self._serve, name="jobserver", daemon=True)

    def __enter__(self) -> Jobserver:
        self._broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            self._wake()
        self._broker.join()
        for share in (*self._over, *self._shares):
            share.close()
        os.close(self._bell)
        os.close(self._ring)

    @contextmanager
    def job(self, cancel: Cancel) -> Iterator[None]:
        """Holds one token; waits for it first. Raises `interrupted` when it is cancelled meanwhile."""
        self._take(cancel)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._settle()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Pipes for the further jobs of a build, whose first one has its token by `job`."""
        share = Share()
        with self._changed:
            self._shares.append(share)
            self._settle()
            self._wake()
        try:
            yield share
        finally:
            with self._changed:
                self._shares.remove(share)
                self._over.append(share)  # the broker may be polling its pipe
                self._free += share.lent
                self._settle()
                self._wake()

    def _take(self, cancel: Cancel) -> None:
        ticket = object()
        forget = cancel.on_cancel(self._notify)
        try:
            with self._changed:
                self._queue.append(ticket)
                try:
                    self._settle()
                    self._await_turn(ticket, cancel)
                    self._free -= 1
                finally:
                    self._queue.remove(ticket)
                    self._settle()
        finally:
            forget()

    def _await_turn(self, ticket: object, cancel: Cancel) -> None:
        """Returns when a token is free for the holder of `ticket`, or when it may begin on credit."""
        deadline = time.monotonic() + PATIENCE
        while not (self._queue[0] is ticket and self._free > 0):
            if cancel.cancelled:
                raise CcError("interrupted", "ended before it began")
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wake(self) -> None:
        """Makes the broker look at the shares anew."""
        with suppress(BlockingIOError):
            os.write(self._ring, TOKEN)

    def _settle(self) -> None:
        """Gives free tokens to builds that wait to begin, then to those that run. The lock is held."""
        for share in self._shares:
            while self._free < len(self._queue) and share.unused() and share.recall():
                self._free += 1
        now = time.monotonic()
        while self._free > len(self._queue):
            poorest = self._poorest(now)
            if poorest is None:
                break
            if poorest.lend():
                self._free -= 1
        self._changed.notify_all()

    def _poorest(self, now: float) -> Share | None:
        able = [each for each in self._shares if each.trusted]
        hungry = [each for each in able if not each.unused()]
        willing = [each for each in hungry if each.refuses_until <= now]
        return min(willing or hungry or able, key=lambda each: each.lent, default=None)

    def _serve(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                over, self._over = self._over, []
                polled = {each.back: each for each in self._shares if each.trusted}
                timeout = LOOK * 1000 if len(polled) > 1 else None
            for share in over:
                share.close()
            self._collect(polled, _ready([self._bell, *polled], timeout))

    def _collect(self, polled: dict[int, Share], ready: list[int]) -> None:
        with suppress(BlockingIOError):
            os.read(self._bell, CHUNK)
        with self._changed:
            came = sum(polled[each].receive() for each in ready if polled.get(each) in self._shares)
            came += self._unused()
            if came:
                self._free += came
                self._settle()

    def _unused(self) -> int:
        """Tokens taken back from builds that leave them unused, where another build may want them."""
        now = time.monotonic()
        if not any(each.refuses_until <= now and not each.unused() for each in self._shares):
            return 0
        return sum(each.leaves_unused(now) and each.recall() for each in self._shares)


def _ready(descriptors: list[int], timeout: float | None) -> list[int]:
    poll = select.poll()
    for each in descriptors:
        poll.register(each, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(timeout)]
