"""Generated from client/core_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.sync.lease import SyncLease
from tercet.client.sync.lease_calls import SyncLeaseCalls
from tercet.client.sync.watch_calls import SyncWatchCalls


class SyncCoreCalls(SyncWatchCalls, SyncLeaseCalls):
    """A client without recipes."""

    def lease(self, ttl_seconds: int, *, id: int = 0) -> SyncLease:
        """A lease, granted and kept alive by `with` or `lease.start()`, and revoked after the block.

        ttl_seconds: for how long the keys outlive this process if it dies; the server may raise it to its minimum.
        id: 0 for one that the client chooses. Raises LeaseExists, when it starts, for an ID that exists.
        """
        made = self._call(self._inner.lease, ttl_seconds, id=id)
        return SyncLease._of(made, self._thread)
