"""Which leases the leader checkpoints, and when: those that last longer than the interval, once in each interval.

Without checkpoints every new leader gives each lease its whole TTL again, and with frequent changes of the leader a lease that
nobody renews lasts forever. All wait equally long, so the queue is in order of time and needs no heap.
Source: etcd server/lease/lessor.go, by its behaviour. Departs in: a lease stays scheduled while it lives; etcd drops one that
was renewed in the second before its checkpoint.
"""

from __future__ import annotations

from collections import OrderedDict

from tercet.lease.lease import Lease


class Checkpoints:
    """interval_seconds: 0 to make no checkpoints."""

    __slots__ = ("_due", "_interval_seconds")

    def __init__(self, interval_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._due: OrderedDict[Lease, float] = OrderedDict()

    def schedule(self, lease: Lease, now: float) -> None:
        """A lease was granted, checkpointed, or taken over from another leader."""
        self._due.pop(lease, None)
        if self._interval_seconds and lease.left_seconds > self._interval_seconds:
            self._due[lease] = now + self._interval_seconds

    def forget(self, lease: Lease) -> None:
        """A lease is gone."""
        self._due.pop(lease, None)

    def clear(self) -> None:
        """This member does not lead any more."""
        self._due = OrderedDict()

    def take_due(self, now: float, limit: int) -> list[Lease]:
        """At most `limit` leases to checkpoint now; each is scheduled again when its checkpoint is applied."""
        taken: list[Lease] = []
        while self._due and len(taken) < limit:
            lease, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[lease]
            taken.append(lease)
        return taken
