"""Virtual time: a queue of events in order of their time.

Events at the same time run in the order in which they were scheduled. Time is in whole microseconds, so that no rounding can
change that order between two machines.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

MICROSECONDS: Final = 1_000_000  # in a second
MILLISECOND: Final = 1_000
TICK: Final = 100 * MILLISECOND  # a heartbeat interval, etcd's default


class Clock:
    """All events of one simulation."""

    __slots__ = ("_queue", "_scheduled", "now")

    def __init__(self) -> None:
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._scheduled = 0

    def after(self, delay: int, action: Callable[[], None]) -> None:
        """Run `action` in `delay` microseconds. It cannot be cancelled: an action checks whether it still applies."""
        self._scheduled += 1
        heappush(self._queue, (self.now + delay, self._scheduled, action))

    def run_until(self, time: int) -> None:
        """Run all events up to and including `time`."""
        queue = self._queue
        while queue and queue[0][0] <= time:
            self.now, _, action = heappop(queue)
            action()
        self.now = max(self.now, time)

    def seconds(self) -> float:
        """Time as production code reads it."""
        return self.now / MICROSECONDS
