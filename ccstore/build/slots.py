"""Places for work of one kind: a free one goes to the most urgent of those that wait, not to the first that came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

CALM = 20  # rounds of the event loop in which nothing that is on its way got any further
ON_ITS_WAY = 0.001  # seconds between looks at what is
MOST = 0.1  # seconds that a free place is kept for what may become ready


class Slots:
    """`limit` places, for the coroutines of one event loop.

    What has just ended may be what a more urgent one waited for, so a free place is given away only after whatever
    that set going has come to rest (`Movement`).
    """

    def __init__(self, limit: int, movement: Movement) -> None:
        self._free = limit
        self._movement = movement
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []
        self._giver: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def place(self, urgency: float) -> AsyncIterator[None]:
        """Waits for a place, and holds it; of those that wait the one with the greatest urgency goes first."""
        turn = asyncio.get_running_loop().create_future()
        mine = (urgency, turn)
        self._waiting.append(mine)
        try:
            self._give()
            await turn
            yield
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif not turn.cancelled():
                self._free += 1
                self._give()

    def _give(self) -> None:
        if self._giver is None or self._giver.done():
            self._giver = asyncio.create_task(self._give_away())

    async def _give_away(self) -> None:
        while self._free and self._waiting:
            await self._movement.rest()
            while self._free and self._waiting:
                self._waiting.remove(chosen := max(self._waiting, key=lambda each: each[0]))
                if not chosen[1].cancelled():
                    self._free -= 1
                    chosen[1].set_result(None)


class Movement:
    """What is on its way from one piece of work to the next."""

    def __init__(self) -> None:
        self._moving = 0

    @contextmanager
    def moving(self) -> Iterator[None]:
        self._moving += 1
        try:
            yield
        finally:
            self._moving -= 1

    async def rest(self) -> None:
        """Returns when nothing moves, but soon in any case."""
        loop = asyncio.get_running_loop()
        end, calm = loop.time() + MOST, 0
        while calm < CALM and loop.time() < end:
            await asyncio.sleep(ON_ITS_WAY if self._moving else 0)
            calm = 0 if self._moving else calm + 1
