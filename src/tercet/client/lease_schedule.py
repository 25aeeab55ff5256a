"""When each lease is renewed, and when it counts as lost. Without I/O; the caller passes the time in seconds.

    schedule = LeaseSchedule()
    schedule.add(lease_id, ttl_seconds=9, sent_at=0.0)    # granted by a request sent at 0.0
    schedule.take_due(3.0)                                # [lease_id]: a third of the TTL has passed
    schedule.answered(lease_id, 9, now=3.2)               # renewed until 12.0, due again at 6.2
    schedule.take_lost(12.0)                              # [lease_id]: not renewed since

A lease is lost when its TTL has passed since the *sending* of the last renewal that was acknowledged. The server counts from
the receipt, which is later: the client gives a lease up before the server lets it expire.

A lease has at most one renewal in flight, so answers need no numbers. Renewals of a lost stream are sent again on the next one.
Source: etcd client/v3/lease.go, which counts from the answer and so may hold a lease that the server has already expired.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

_INTERVAL_SECONDS_MIN = 0.5
_ANSWER_SECONDS_MIN = 1.0


class _Agenda:
    """A time for each lease; the earliest come first. The heap keeps outdated entries until they reach its top."""

    def __init__(self) -> None:
        self._times: dict[int, float] = {}
        self._heap: list[tuple[float, int]] = []

    def put(self, lease_id: int, at: float) -> None:
        """Set the lease's time, or replace it."""
        if self._times.get(lease_id) != at:
            self._times[lease_id] = at
            heapq.heappush(self._heap, (at, lease_id))

    def drop(self, lease_id: int) -> None:
        self._times.pop(lease_id, None)

    def first_at(self) -> float | None:
        while self._heap and self._times.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> list[int]:
        """Remove and return the leases whose time has come."""
        taken: list[int] = []
        while (at := self.first_at()) is not None and at <= now:
            lease_id = heapq.heappop(self._heap)[1]
            del self._times[lease_id]
            taken.append(lease_id)
        return taken


@dataclass(slots=True)
class _Timing:
    """sent_at: of the renewal in flight, None if there is none. acknowledged_at: sending of the last one acknowledged."""

    ttl_seconds: int
    acknowledged_at: float
    sent_at: float | None = None


class LeaseSchedule:
    """The leases that are kept alive."""

    def __init__(self) -> None:
        self._leases: dict[int, _Timing] = {}
        self._renewals = _Agenda()
        self._answers = _Agenda()  # until when each renewal in flight should be answered
        self._losses = _Agenda()

    def __len__(self) -> int:
        return len(self._leases)

    def add(self, lease_id: int, *, ttl_seconds: int, sent_at: float) -> None:
        """Keep a lease alive that was granted, or renewed, by a request sent at this time."""
        self.remove(lease_id)
        self._leases[lease_id] = _Timing(ttl_seconds, sent_at)
        self._renewals.put(lease_id, sent_at + _interval(ttl_seconds))
        self._losses.put(lease_id, sent_at + ttl_seconds)

    def remove(self, lease_id: int) -> None:
        self._leases.pop(lease_id, None)
        for agenda in (self._renewals, self._answers, self._losses):
            agenda.drop(lease_id)

    def remaining_seconds(self, lease_id: int, now: float) -> float:
        """Until the lease is lost unless it is renewed; 0 if it is not kept alive."""
        timing = self._leases.get(lease_id)
        return 0.0 if timing is None else max(0.0, timing.acknowledged_at + timing.ttl_seconds - now)

    def take_due(self, now: float) -> list[int]:
        """The leases to renew now. They count as sent: call it only with an open stream."""
        due = self._renewals.take(now)
        for lease_id in due:
            timing = self._leases[lease_id]
            timing.sent_at = now
            self._answers.put(lease_id, now + max(timing.ttl_seconds / 3, _ANSWER_SECONDS_MIN))
        return due

    def answered(self, lease_id: int, ttl_seconds: int, now: float) -> bool:
        """A renewal was answered. Returns False if the lease is lost: the server answers TTL 0 if it does not have it."""
        timing = self._leases.get(lease_id)
        if timing is None or timing.sent_at is None:
            return True  # removed meanwhile
        if ttl_seconds <= 0:
            self.remove(lease_id)
            return False
        timing.ttl_seconds, timing.acknowledged_at, timing.sent_at = ttl_seconds, timing.sent_at, None
        self._answers.drop(lease_id)
        self._renewals.put(lease_id, now + _interval(ttl_seconds))
        self._losses.put(lease_id, timing.acknowledged_at + ttl_seconds)
        return True

    def take_lost(self, now: float) -> list[int]:
        """The leases that are lost, which are removed."""
        lost = self._losses.take(now)
        for lease_id in lost:
            self.remove(lease_id)
        return lost

    def stream_lost(self, now: float) -> None:
        """Renewals in flight will not be answered: they are due at once."""
        for lease_id, timing in self._leases.items():
            if timing.sent_at is not None:
                timing.sent_at = None
                self._answers.drop(lease_id)
                self._renewals.put(lease_id, now)

    def is_stalled(self, now: float) -> bool:
        """Whether an answer is late. Another member may answer in time for two more attempts."""
        at = self._answers.first_at()
        return at is not None and at <= now

    def next_at(self, *, connected: bool) -> float | None:
        """When something is to do; without a stream, only leases can be lost. None: never."""
        agendas = (self._losses, self._renewals, self._answers) if connected else (self._losses,)
        times = [at for agenda in agendas if (at := agenda.first_at()) is not None]
        return min(times) if times else None


def _interval(ttl_seconds: int) -> float:
    """Seconds between renewals."""
    return max(ttl_seconds / 3, _INTERVAL_SECONDS_MIN)
