"""Renewals of leases that have expired: each waits for the revoke of its lease, and has come in vain.

A lease with a million keys takes seconds to revoke, and 100,000 renewals may wait for it: they end over several turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from tercet.errors import StatusError
from tercet.lease import Lease
from tercet.replica.applied_waits import CALLED_PER_TURN

Renewed = Callable[[int | StatusError], None]
"""Called with the TTL in seconds, or: NOT_PRIMARY, the leader must be asked; LEASE_NOT_FOUND; NOT_CONFIRMED, this member may
have been deposed; TIMEOUT_WAIT_APPLIED, TIMEOUT and the like."""


class LateRenewals:
    """schedule: arranges for a `call_back`."""

    __slots__ = ("_due", "_schedule", "_waiting")

    def __init__(self, schedule: Callable[[], None]) -> None:
        self._schedule = schedule
        self._waiting: dict[Lease, list[Renewed]] = {}
        self._due: deque[tuple[StatusError, list[Renewed]]] = deque()

    def add(self, lease: Lease, then: Renewed) -> None:
        self._waiting.setdefault(lease, []).append(then)

    def end(self, lease: Lease, error: StatusError) -> None:
        """Call those of one lease back with this error: the first of them at once."""
        waiting = self._waiting.pop(lease, None)
        if waiting is not None:
            self._due.append((error, waiting))
            if self.call_back():
                self._schedule()

    def end_all(self, error: StatusError) -> None:
        for lease in list(self._waiting):
            self.end(lease, error)

    def stop(self, error: StatusError) -> None:
        """Call all back at once."""
        self.end_all(error)
        while self.call_back():
            pass

    def call_back(self) -> bool:
        """Call back as many as one turn may take. Returns whether there are more."""
        left = CALLED_PER_TURN
        while self._due and left > 0:
            error, waiting = self._due[0]
            some = waiting[-left:]
            del waiting[-left:]
            left -= len(some) + 1
            if not waiting:
                self._due.popleft()
            for then in some:
                then(error)
        return bool(self._due)
