"""Counts what happens in each turn of the event loop, for tests of what a turn may take."""

from __future__ import annotations

import asyncio


class Turns:
    """Counts events by the turn of the loop in which they happen."""

    def __init__(self) -> None:
        self.events: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._next()

    def _next(self) -> None:
        self.events.append(0)
        self._loop.call_soon(self._next)

    def note(self) -> None:
        self.events[-1] += 1
