"""Deadlines of calls: one timer for all of them, armed for the earliest.

Most calls end long before their deadline, so a timer for each would almost always be cancelled. Here a call costs one dict
entry. When the timer fires it scans all pending calls, ends those that are due and arms itself for the next; with 5 s
deadlines and calls of milliseconds that is one scan in 5 s. Scans are at least `_REST_SECONDS` apart, and further if many calls
wait, so that scanning takes a twentieth of the time; a call ends at most that late. Calls that are due together end over
several turns of the loop, as each may have a task to cancel.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import Protocol

_REST_SECONDS = 0.005
_REST_SECONDS_PER_CALL = 1e-6  # to look at one takes some 50 ns
_EXPIRED_PER_TURN = 50


class Expiring(Protocol):
    def expire(self) -> None: ...


class Deadlines:
    __slots__ = ("_armed_for", "_due", "_loop", "_pending", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: dict[Expiring, float] = {}
        self._armed_for = inf
        self._due: deque[Expiring] = deque()  # found by the last scan, and still to be ended unless discarded
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
        self._due.clear()
        self._arm(inf)

    def _arm(self, moment: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = moment
        self._timer = None if moment == inf else self._loop.call_at(moment, self._expire_due)

    def _expire_due(self) -> None:
        self._timer = None
        now, due, pending = self._loop.time(), self._due, self._pending
        if not due:
            # A timer may fire early by the clock's resolution; without the margin a call that is due would wait for
            # another scan.
            due.extend([call for call, deadline in pending.items() if deadline <= now + 0.001])
        ended: list[Expiring] = []
        while due and len(ended) < _EXPIRED_PER_TURN:
            call = due.popleft()
            if pending.pop(call, None) is not None:
                ended.append(call)
        if due:
            self._arm(now)
        else:
            earliest = min(pending.values(), default=inf)
            rest = max(_REST_SECONDS, _REST_SECONDS_PER_CALL * len(pending))
            self._arm(inf if earliest == inf else max(earliest, now + rest))
        for call in ended:
            call.expire()
