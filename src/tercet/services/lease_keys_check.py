"""May a user read, or write, all keys of some leases? In slices: a lease may have many keys, and there may be many leases."""

from __future__ import annotations

from tercet.auth import AuthStore, Identity
from tercet.lease import Lease
from tercet.mvcc import Budget, Steps
from tercet.mvcc.work import VISIT


class LeaseKeysCheck(Steps):
    """Raises USER_EMPTY, AUTH_OLD_REVISION or PERMISSION_DENIED in the step that finds the first key it concerns."""

    __slots__ = ("_auth", "_identity", "_keys", "_leases", "_to_write")

    def __init__(self, auth: AuthStore, identity: Identity, leases: list[Lease], *, to_write: bool) -> None:
        self._auth = auth
        self._identity = identity
        self._leases = leases
        self._keys: list[bytes] = []
        self._to_write = to_write

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        check = self._auth.check_write if self._to_write else self._auth.check_read
        while self._keys or self._leases:
            if budget.left <= 0:
                return True
            budget.left -= VISIT
            if self._keys:
                check(self._identity, self._keys.pop(), b"")
            else:
                self._keys = self._leases.pop().keys().all()  # it may gain and lose keys between two slices
        return False
