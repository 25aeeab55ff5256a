"""The revocation of a lease: its keys are deleted as one request, then the lease itself. A lease may have many keys."""

from __future__ import annotations

from tercet.lease import Lessor
from tercet.mvcc import Apply, Budget, Store


class LeaseRevoke(Apply):
    """A LeaseRevoke request. Raises LEASE_NOT_FOUND when it is made."""

    __slots__ = ("_deleting", "_lease_id", "_lessor")

    def __init__(self, lessor: Lessor, store: Store, lease_id: int) -> None:
        self._lessor = lessor
        self._lease_id = lease_id
        self._deleting = store.delete_keys(lessor.keys_of(lease_id))
        self.is_awaited = False

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if self._deleting.step(budget):
            return True
        self._lessor.revoke(self._lease_id)
        return False

    def outcome(self) -> bytes:
        return b""
