"""Deadlines of calls: one timer for all of them, armed for the earliest.

Most calls end long before their deadline, so a timer for each would almost always be cancelled. Here a call costs one dict
entry. When the timer fires it scans all pending calls, ends those that are due and arms itself for the next; with 5 s
deadlines and calls of milliseconds that is one scan in 5 s. Scans are at least `_REST_SECONDS` apart, so a call ends at most
that late.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Protocol

_REST_SECONDS = 0.005


class Expiring(Protocol):
    def expire(self) -> None: ...


class Deadlines:
    __slots__ = ("_armed_for", "_loop", "_pending", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: dict[Expiring, float] = {}
        self._armed_for = inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, call: Expiring, deadline: float) -> None:
        """Call `call.expire()` once the loop's clock has reached `deadline`, unless the call is discarded first."""
        self._pending[call] = deadline
        if deadline < self._armed_for:
            self._arm(deadline)

    def discard(self, call: Expiring) -> None:
        self._pending.pop(call, None)

    def close(self) -> None:
        self._pending.clear()
        self._arm(inf)

    def _arm(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = moment
        self._timer = None if moment == inf else self._loop.call_at(moment, self._expire_due)

    def _expire_due(self) -> None:
        now = self._loop.time()
        # A timer may fire early by the clock's resolution; without the margin a call that is due would wait for the next scan.
        due = [call for call, deadline in self._pending.items() if deadline <= now + 0.001]
        for call in due:
            del self._pending[call]
        self._timer = None
        earliest = min(self._pending.values(), default=inf)
        self._arm(inf if earliest == inf else max(earliest, now + _REST_SECONDS))
        for call in due:
            call.expire()
