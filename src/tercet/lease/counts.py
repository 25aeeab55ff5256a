"""What this member has done with leases since its start, as etcd's metrics count it (server/lease/metrics.go).

Never part of the replicated state, like mvcc/counts.py.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

TTL_BOUNDS: Final = tuple(2.0**power for power in range(24))
"""Seconds: upper bounds of the histogram of TTLs, 1 s to three months."""


class LeaseCounts:
    """granted, revoked: applied here. renewed: by this leader. expired: revoked through this leader's proposals."""

    __slots__ = ("expired", "granted", "renewed", "revoked", "ttl_counts", "ttl_sum")

    def __init__(self) -> None:
        self.granted = 0
        self.revoked = 0
        self.renewed = 0
        self.expired = 0
        self.ttl_counts = [0] * (len(TTL_BOUNDS) + 1)
        self.ttl_sum = 0.0

    def grant(self, ttl_seconds: int) -> None:
        """Count a lease that was granted."""
        self.granted += 1
        self.ttl_counts[bisect_left(TTL_BOUNDS, ttl_seconds)] += 1
        self.ttl_sum += ttl_seconds
