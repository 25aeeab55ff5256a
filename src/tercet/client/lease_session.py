"""A lease that is kept alive while the block runs. Locks and leaderships are keys attached to it.

After the block the lease is left to expire: the owner has deleted its keys by then, or wants them to outlive it for a TTL.

    async with LeaseSession(client, ttl_seconds=10) as session:
        ...session.lease_id, session.lost

Source: etcd's client/v3/concurrency/session.go.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

from tercet.client import methods
from tercet.client.lease_keeper import LeaseKeeper
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel


class LeaseSession:
    """`lost` is set when the lease cannot be kept alive any more."""

    def __init__(self, client: ClusterChannel, *, ttl_seconds: int) -> None:
        self.client = client
        self.lease_id = 0
        self.lost = asyncio.Event()
        self._ttl_seconds = ttl_seconds
        self._keeper = LeaseKeeper(client)

    async def __aenter__(self) -> LeaseSession:
        """Raises StatusError."""
        sent_at = self._keeper.clock()
        granted = await self.client.call(methods.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=self._ttl_seconds))
        self.lease_id = granted.ID
        self._keeper.keep(granted.ID, ttl_seconds=granted.TTL, sent_at=sent_at, on_lost=self.lost.set)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.forget(self.lease_id)
        await self._keeper.close()
