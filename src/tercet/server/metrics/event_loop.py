"""Monitors the longest turn of the event loop: a leader that is busy for an election timeout loses its leadership.

A timer of 10 ms measures how late it fires. It underestimates a long turn by at most its period; its cost is below what can be
measured.
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
        """The longest delay in this minute and the one before: a scrape per minute sees every long turn."""
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
