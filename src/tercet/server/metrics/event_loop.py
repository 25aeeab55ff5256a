"""How long was the event loop busy at a stretch? A member that is busy for an election timeout loses its lead.

A timer that fires every few milliseconds sees how late it is. That misses at most its own period of a long turn, and costs
nothing that can be measured.
"""

from __future__ import annotations

import asyncio

_PERIOD_SECONDS = 0.01
_WINDOW_SECONDS = 60.0


class EventLoopMonitor:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._window_ends = self._loop.time() + _WINDOW_SECONDS
        self._longest = 0.0
        self._longest_before = 0.0

    @property
    def longest_seconds(self) -> float:
        """Of this minute and the one before, so that a scrape a minute sees every long turn."""
        return max(self._longest, self._longest_before)

    def start(self) -> None:
        self._due = self._loop.time() + _PERIOD_SECONDS
        self._timer = self._loop.call_at(self._due, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        self._longest = max(self._longest, now - self._due)
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW_SECONDS
            self._longest_before, self._longest = self._longest, 0.0
        self.start()
