"""The calls of a client of which recipes are made: keys and values, leases, watches."""

from __future__ import annotations

from tercet.client.lease import Lease
from tercet.client.lease_calls import LeaseCalls
from tercet.client.watch_calls import WatchCalls


class CoreCalls(WatchCalls, LeaseCalls):
    """A client without recipes."""

    def lease(self, ttl_seconds: int, *, id: int = 0) -> Lease:
        """A lease, granted and kept alive by `async with` or `await lease.start()`, and revoked after the block.

        ttl_seconds: for how long the keys outlive this process if it dies; the server may raise it to its minimum.
        id: 0 for one that the client chooses. Raises LeaseExists, when it starts, for an ID that exists.
        """
        return Lease(self, self._streams.leases, ttl_seconds=ttl_seconds, id=id)
