"""The clock of a member's leases, tokens and automatic compaction, which a test can advance.

Elections, heartbeats, timeouts of requests and connections follow the event loop's time in either kind.
"""

from __future__ import annotations

import asyncio
from typing import Literal

ClockKind = Literal["real", "manual"]
"""real: it runs with the event loop's clock. manual: it stands still, except for `advance`."""


class MemberClock:
    """Outlives the starts of its member. Used in the member's event loop only."""

    def __init__(self, kind: ClockKind) -> None:
        self.is_manual = kind == "manual"
        self._seconds = 0.0  # advanced so far

    def time(self) -> float:
        """Monotonic seconds."""
        return self._seconds if self.is_manual else asyncio.get_running_loop().time() + self._seconds

    def advance(self, seconds: float) -> None:
        """Raises ValueError for a negative number of seconds: time does not go back."""
        if seconds < 0:
            raise ValueError(f"time does not go back, by {-seconds:g} s")
        self._seconds += seconds
