"""May a user read, or write, all keys of some leases? In slices: a lease may have many keys, and there may be many leases."""

from __future__ import annotations

from typing import Final

from tercet.auth import AuthStore, Identity
from tercet.lease import Lease
from tercet.mvcc import Budget, Steps
from tercet.mvcc.work import VISIT

_CHUNK: Final = 64  # keys that are looked at between two looks at the budget


class LeaseKeysCheck(Steps):
    """Raises USER_EMPTY, AUTH_OLD_REVISION or PERMISSION_DENIED in the step that finds the first key it concerns."""

    __slots__ = ("_auth", "_identity", "_leases", "_start", "_to_write")

    def __init__(self, auth: AuthStore, identity: Identity, leases: list[Lease], *, to_write: bool) -> None:
        self._auth = auth
        self._identity = identity
        self._leases = leases
        self._start = b""  # the first key of the last lease that is to be checked
        self._to_write = to_write

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        check = self._auth.check_write if self._to_write else self._auth.check_read
        while self._leases:
            if budget.left <= 0:
                return True
            keys = self._leases[-1].keys().first(self._start, None, _CHUNK)
            for key in keys:
                check(self._identity, key, b"")
            budget.left -= (len(keys) + 1) * VISIT + self._auth.take_search_work()
            if len(keys) == _CHUNK:
                self._start = keys[-1] + b"\0"
            else:
                self._start = b""
                self._leases.pop()
        return False
