"""The queue behind locks and elections: keys under one prefix, in order of creation; the oldest is the owner's.

Each waiter puts PREFIX/LEASE (lease ID in hexadecimal) and waits until all older keys are deleted, by their owners or with
their leases. It watches only the key just before its own, so that a release wakes one waiter.
Source: etcd's client/v3/concurrency/{key,mutex,election}.go; the keys are the same, so that all clients share the queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.client.lease_session import LeaseSession
from tercet.client.prefix import prefix_end
from tercet.client.watch import WatchStream
from tercet.errors import Code, StatusError
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel

_CREATE = rpc_pb2.RangeRequest.SortTarget.CREATE


class Place:
    """A place in a queue: the key of one session, `value` attached."""

    def __init__(self, session: LeaseSession, name: bytes) -> None:
        self._session = session
        self._prefix = name + b"/"
        self.key = self._prefix + b"%x" % session.lease_id
        self.revision = 0  # the key's create_revision

    async def enter(self, value: bytes = b"") -> rpc_pb2.ResponseHeader:
        """Create the key. Returns the header of the transaction. Raises StatusError."""
        absent = rpc_pb2.Compare(key=self.key, target=rpc_pb2.Compare.CREATE, result=rpc_pb2.Compare.EQUAL, create_revision=0)
        put = rpc_pb2.PutRequest(key=self.key, value=value, lease=self._session.lease_id)
        request = rpc_pb2.TxnRequest(
            compare=[absent],
            success=[rpc_pb2.RequestOp(request_put=put)],
            failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=self.key))],
        )
        answer = await self._session.client.kv.txn(request)
        self.revision = answer.header.revision
        if not answer.succeeded:  # a retry of a transaction whose response was lost
            self.revision = answer.responses[0].response_range.kvs[0].create_revision
        return answer.header

    async def wait_turn(self) -> bool:
        """Wait until the key is the oldest. Returns whether another one had to be waited for. Raises StatusError."""
        client = self._session.client
        older = rpc_pb2.RangeRequest(
            key=self._prefix,
            range_end=prefix_end(self._prefix),
            sort_target=_CREATE,
            sort_order=rpc_pb2.RangeRequest.DESCEND,
            limit=1,
            max_create_revision=self.revision - 1,
        )
        waited = False
        while True:
            before = await client.kv.range(older)
            if not before.kvs:
                return waited
            waited = True
            await _wait_deleted(client, before.kvs[0].key, before.header.revision)

    async def leave(self) -> None:
        """Delete the key, unless it was never created or its lease is lost. Raises StatusError."""
        if self.revision and not self._session.lost.is_set():
            await self._session.client.kv.delete_range(rpc_pb2.DeleteRangeRequest(key=self.key))


async def oldest(client: ClusterChannel, name: bytes) -> tuple[kv_pb2.KeyValue | None, rpc_pb2.ResponseHeader]:
    """The owner's key of a queue, None if it is empty. Raises StatusError."""
    prefix = name + b"/"
    request = rpc_pb2.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        sort_target=_CREATE,
        sort_order=rpc_pb2.RangeRequest.ASCEND,
        limit=1,
    )
    answer = await client.kv.range(request)
    return (answer.kvs[0] if answer.kvs else None), answer.header


async def _wait_deleted(client: ClusterChannel, key: bytes, revision: int) -> None:
    """Wait for a deletion of `key` after `revision`. Raises StatusError."""
    async with WatchStream(client) as stream:
        watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=key, start_revision=revision))
        async for response in watch:
            if response.canceled:
                if response.compact_revision:
                    return  # the caller reads the queue again
                raise StatusError(Code.UNAVAILABLE, response.cancel_reason or "lost watcher waiting for delete")
            if any(event.type == kv_pb2.Event.DELETE for event in response.events):
                return
