"""Generated from client/lease_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.async_client import AsyncClient
from tercet.client.facade import Facade
from tercet.client.invoker import Seconds
from tercet.client.lease_calls import LeaseInfo
from tercet.client.operations import LeaseRef
from tercet.client.retry import Retry


class SyncLeaseCalls(Facade[AsyncClient]):
    """Leases by their IDs."""

    def grant_lease(self, ttl_seconds: int, *, id: int = 0, timeout: Seconds = ..., retry: Retry | None = None) -> LeaseInfo:
        """A lease that nobody keeps alive. id: 0 for one that the client chooses, so that a lost answer leaks no lease.

        Raises LeaseExists if `id` was given and exists.
        """
        return self._run(self._inner.grant_lease(ttl_seconds, id=id, timeout=timeout, retry=retry))

    def revoke_lease(self, lease: LeaseRef, *, timeout: Seconds = ..., retry: Retry | None = None) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        self._run(self._inner.revoke_lease(lease, timeout=timeout, retry=retry))

    def lease_info(
        self, lease: LeaseRef, *, keys: bool = False, timeout: Seconds = ..., retry: Retry | None = None
    ) -> LeaseInfo:
        """Raises LeaseNotFound. The keys are only those of the client's namespace."""
        return self._run(self._inner.lease_info(lease, keys=keys, timeout=timeout, retry=retry))

    def list_leases(self, *, timeout: Seconds = ..., retry: Retry | None = None) -> tuple[int, ...]:
        """The IDs of all leases of the cluster."""
        return self._run(self._inner.list_leases(timeout=timeout, retry=retry))
