"""Deadlines of leases, kept by the leader alone. No clock, no I/O: every call is given the time in seconds.

    promote    every lease lives on for what is left of its TTL, and `extend` more
    renew      the lease lives on for its TTL; O(1), since its place in the heap is corrected when it comes up
    take_due   the leases that have expired: the caller revokes them through the log
    demote     nothing expires here; the next leader starts again

`extend` is the election timeout: a deposed leader may renew leases until it notices, and the new one must not expire them
earlier than that leader has answered. Many leases may come due at once after a promotion, so they are spread to
SPREAD_PER_SECOND; the clients of the later ones get as much longer to renew. A promotion goes on in slices (`step`); a lease
that it has not reached yet has the deadline of the promotion, without the spread.

Invariant: between `promote` and `demote`, a live lease that `step` has reached is in the heap or `is_ending`, never both.
Source: etcd server/lease/lessor.go, by its behaviour. Departs in: the spread is even, and etcd's comes in steps of a second.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tercet.lease.deadline_heap import DeadlineHeap
from tercet.lease.lease import NEVER_PROMOTED, Lease

SPREAD_LEASES_MIN: Final = 1000  # fewer leases than the leader may revoke in a second cannot pile up
SPREAD_PER_SECOND: Final = 750.0
SORT_LEASES: Final = 20_000  # of one `step`
PLACE_LEASES: Final = 5_000
LOOK_LEASES: Final = 5_000  # of one `take_due`


class Expiry:
    """The deadlines of one leadership at a time."""

    __slots__ = ("_by_left", "_extend", "_heap", "_lefts", "_previous", "_promoted_at", "_promotion", "_spread", "_unsorted")

    def __init__(self) -> None:
        self._promotion = NEVER_PROMOTED + 1
        self._promoted_at = 0.0
        self._extend = 0.0
        self._heap = DeadlineHeap()
        self._unsorted: list[Lease] = []  # a promotion's leases, before they are sorted
        self._by_left: dict[int, list[Lease]] = {}  # and then, by the seconds left
        self._lefts: list[int] = []  # the keys of `_by_left`, descending, once all are sorted
        self._previous = 0.0  # deadline of the lease placed last
        self._spread = False

    # --- leadership

    def promote(self, leases: Iterable[Lease], now: float, extend: float) -> None:
        """Begin to expire these leases, and those granted from here on. `step` does the work."""
        self.demote()
        self._promotion += 1
        self._promoted_at = now
        self._extend = extend
        self._unsorted = list(leases)
        self._spread = len(self._unsorted) >= SPREAD_LEASES_MIN

    def demote(self) -> None:
        """Forget all deadlines."""
        self._promotion += 1
        self._heap = DeadlineHeap()
        self._unsorted = []
        self._by_left = {}
        self._lefts = []
        self._previous = 0.0

    def step(self) -> list[Lease]:
        """Go on with the promotion. Returns the leases that got their deadline."""
        if self._unsorted:
            self._sort()
        elif self._lefts:
            return self._place()
        return []

    def _sort(self) -> None:
        unsorted, by_left = self._unsorted, self._by_left
        for lease in unsorted[-SORT_LEASES:]:
            left = lease.left_seconds
            group = by_left.get(left)
            if group is None:
                by_left[left] = [lease]
            else:
                group.append(lease)
        del unsorted[-SORT_LEASES:]
        if not unsorted:
            self._lefts = sorted(by_left, reverse=True)

    def _place(self) -> list[Lease]:
        placed: list[Lease] = []
        while self._lefts and len(placed) < PLACE_LEASES:
            left = self._lefts[-1]
            group = self._by_left[left]
            while group and len(placed) < PLACE_LEASES:
                lease = group.pop()
                if lease.is_gone or lease.promotion == self._promotion:  # revoked or renewed meanwhile
                    continue
                deadline = self._promoted_at + self._extend + left
                if self._spread:
                    deadline = max(deadline, self._previous + 1 / SPREAD_PER_SECOND)
                    self._previous = deadline
                self._set(lease, deadline)
                placed.append(lease)
            if not group:
                del self._by_left[left]
                self._lefts.pop()
        return placed

    # --- one lease

    def deadline(self, lease: Lease) -> float:
        """When the lease expires unless it is renewed."""
        if lease.promotion == self._promotion:
            return lease.expires_at
        return self._promoted_at + self._extend + lease.left_seconds

    def is_expired(self, lease: Lease, now: float) -> bool:
        """Whether the lease is past its deadline or being revoked: it must not be renewed any more."""
        if lease.promotion == self._promotion:
            return lease.is_ending or lease.expires_at <= now
        return self.deadline(lease) <= now

    def renew(self, lease: Lease, now: float) -> None:
        """Let a lease that is not expired live for its whole TTL from now on. Also begins the life of one just granted."""
        deadline = now + lease.ttl_seconds
        if lease.promotion == self._promotion and lease.due <= deadline:
            lease.expires_at = deadline
        else:
            self._set(lease, deadline)

    def end_now(self, lease: Lease, now: float) -> None:
        """The lease's time is over, unless it is being revoked already."""
        if not (lease.promotion == self._promotion and lease.is_ending):
            self._set(lease, now)

    def retry(self, lease: Lease, due: float) -> None:
        """The revoke of an expired lease has failed: `take_due` returns the lease once more, at `due`."""
        if lease.promotion == self._promotion and lease.is_ending and not lease.is_gone:
            lease.is_ending = False
            self._heap.push(lease, due)

    def revoked(self, lease: Lease) -> None:
        """The lease is gone."""
        if lease.promotion == self._promotion and lease.position >= 0:
            self._heap.remove(lease)

    def take_due(self, now: float, limit: int) -> list[Lease]:
        """At most `limit` leases that have expired, in the order of their deadlines. They count as ending until `retry`."""
        expired: list[Lease] = []
        heap = self._heap
        for _ in range(LOOK_LEASES):
            lease = heap.first
            if lease is None or lease.due > now or len(expired) >= limit:
                break
            if lease.expires_at > now:  # renewed since it got its place
                heap.move(lease, lease.expires_at)
                continue
            heap.remove(lease)
            lease.is_ending = True
            expired.append(lease)
        return expired

    def _set(self, lease: Lease, deadline: float) -> None:
        lease.expires_at = deadline
        if lease.promotion == self._promotion:
            self._heap.move(lease, deadline)
            return
        lease.promotion = self._promotion
        lease.is_ending = lease.is_checkpointing = False
        self._heap.push(lease, deadline)
