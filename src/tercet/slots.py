"""Limits how many tasks do something at a time; those that wait go on in order.

Like asyncio.Semaphore, except that a waiting task is cancelled in constant time: a client that cancels 100,000 waiting calls,
the last one first, would make asyncio search its queue for each of them, a millisecond each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Slots:
    """`async with slots:`. Belongs to an event loop."""

    __slots__ = ("_free", "_waiting")

    def __init__(self, count: int = 1) -> None:
        self._free = count
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()

    async def acquire(self) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.pop(turn, None)
            if not turn.cancelled():  # its turn had come already
                self.release()
            raise

    def release(self) -> None:
        """Hand the slot to the task that waits longest."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # else it is cancelled, and has not run yet
                turn.set_result(None)
                return
        self._free += 1

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *raised: object) -> None:
        self.release()
