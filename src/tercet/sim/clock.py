"""What happens next, and when? Virtual time: nothing waits, and a run of an hour takes seconds.

Events run in order of their time; those of one instant in the order in which they were planned. Time is whole microseconds,
so that no rounding can ever change an order between two machines.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

MICROSECONDS: Final = 1_000_000  # a second
MILLISECOND: Final = 1_000
TICK: Final = 100 * MILLISECOND  # a heartbeat interval, etcd's default


class Clock:
    """The queue of all events of one simulation."""

    __slots__ = ("_planned", "_queue", "now")

    def __init__(self) -> None:
        self.now = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0

    def after(self, delay: int, action: Callable[[], None]) -> None:
        """Run `action` in `delay` microseconds. It cannot be taken back: whoever may lose interest looks before acting."""
        self._planned += 1
        heappush(self._queue, (self.now + delay, self._planned, action))

    def run_until(self, time: int) -> None:
        """Run all events up to and including `time`."""
        queue = self._queue
        while queue and queue[0][0] <= time:
            self.now, _, action = heappop(queue)
            action()
        self.now = max(self.now, time)

    def seconds(self) -> float:
        """Time as production code asks for it."""
        return self.now / MICROSECONDS
