"""The event loop of an embedded member's own thread, whose time can be advanced.

A member reads time from `loop.time()` alone: leases, tokens, ticks and timers follow it.
"""

from __future__ import annotations

import asyncio


class AdvancingLoop(asyncio.SelectorEventLoop):
    """`advance` moves its time forward; timers that are due by then run in the next turn."""

    def __init__(self) -> None:
        self._advanced_seconds = 0.0
        super().__init__()

    def time(self) -> float:
        return super().time() + self._advanced_seconds

    def advance(self, seconds: float) -> None:
        """Call it in the loop's thread."""
        self._advanced_seconds += seconds
