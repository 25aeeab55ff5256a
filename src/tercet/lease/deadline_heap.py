"""A binary heap of leases by `due` that knows the position of each, so that any lease leaves it in O(log n).

A heap without positions would keep a revoked lease until its time comes, years later perhaps, and clients that grant and revoke
would fill the memory.

Invariant: `lease.position` is its index in the heap, -1 for a lease outside.
"""

from __future__ import annotations

from tercet.lease.lease import Lease


class DeadlineHeap:
    """The lease with the earliest `due` is `first`."""

    __slots__ = ("_leases",)

    def __init__(self) -> None:
        self._leases: list[Lease] = []

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def first(self) -> Lease | None:
        return self._leases[0] if self._leases else None

    def push(self, lease: Lease, due: float) -> None:
        """Add a lease that is not in the heap."""
        lease.due = due
        lease.position = len(self._leases)
        self._leases.append(lease)
        self._rise(lease)

    def move(self, lease: Lease, due: float) -> None:
        """Give a lease in the heap another time."""
        lease.due = due
        self._rise(lease)
        self._sink(lease)

    def remove(self, lease: Lease) -> None:
        """Take out a lease that is in the heap."""
        leases, position = self._leases, lease.position
        last = leases.pop()
        lease.position = -1
        if last is not lease:
            leases[position] = last
            last.position = position
            self._rise(last)
            self._sink(last)

    def _rise(self, lease: Lease) -> None:
        leases, position, due = self._leases, lease.position, lease.due
        while position > 0:
            parent = leases[(position - 1) >> 1]
            if parent.due <= due:
                break
            leases[position] = parent
            parent.position, position = position, parent.position
        leases[position] = lease
        lease.position = position

    def _sink(self, lease: Lease) -> None:
        leases, position, due = self._leases, lease.position, lease.due
        count = len(leases)
        while (child := 2 * position + 1) < count:
            least = leases[child]
            if child + 1 < count and leases[child + 1].due < least.due:
                least = leases[child + 1]
            if due <= least.due:
                break
            leases[position] = least
            least.position, position = position, least.position
        leases[position] = lease
        lease.position = position
