"""How long reads take, for etcd_server_range_duration_seconds and etcd_server_request_duration_seconds.

Timing costs 3 % of a small read. So the first 1,024 reads are timed, and after them one in 16, which counts as 16.

Source: etcd server/etcdserver/v3_server.go (Range, Txn), server/etcdserver/txn/range.go.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from tercet.replica.durations import APPLY_BOUNDS, REQUEST_BOUNDS, Durations

_TIMED_AT_FIRST: Final = 1024
_ONE_IN: Final = 16


class ReadDurations:
    """ranges: from the read index to the reply. requests: from the arrival of the call, by kind."""

    __slots__ = ("_begun", "ranges", "requests")

    def __init__(self) -> None:
        self.ranges = Durations(APPLY_BOUNDS)
        self.requests = Durations(REQUEST_BOUNDS)
        self._begun = 0

    def begin(self, kind: str) -> ReadTiming | None:
        """A read has arrived. kind: Range or ReadonlyTxn. None: it is not timed."""
        self._begun += 1
        if self._begun <= _TIMED_AT_FIRST:
            return ReadTiming(self, kind, 1)
        return ReadTiming(self, kind, _ONE_IN) if self._begun % _ONE_IN == 0 else None


class ReadTiming:
    """One read that is timed; it stands for `weight` reads."""

    __slots__ = ("_arrived", "_durations", "_kind", "_read_at", "_weight")

    def __init__(self, durations: ReadDurations, kind: str, weight: int) -> None:
        self._durations = durations
        self._kind = kind
        self._weight = weight
        self._arrived = monotonic()
        self._read_at = 0.0

    def reads(self) -> None:
        """The read index is there: the store is read from now on."""
        self._read_at = monotonic()

    def ended(self, *, is_success: bool) -> None:
        """The call is answered; also if it has failed before the store was read."""
        now, weight = monotonic(), self._weight
        if self._read_at and self._kind == "Range":
            self._durations.ranges.observe("", is_success, now - self._read_at, weight)
        self._durations.requests.observe(self._kind, is_success, now - self._arrived, weight)
