"""Locks and elections search queues of any length; a member makes a few of these searches at a time."""

from __future__ import annotations

import asyncio

from tercet.proto import election_pb2, lock_pb2, rpc_pb2
from tercet.rpc import Channel, Handler, UnaryCall, method_table, unary_async
from tercet.services.election import queue_handlers
from tercet.services.lock import Cleanups
from tercet.services.queue_of_keys import SEARCHES_MAX
from tests.rpc.harness import run, serving
from tests.support.waiting import settled, until

WAITERS = 20 * SEARCHES_MAX


class Store:
    """Answers no search before the gate opens. at_work: the searches it has been asked for and has not answered."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.at_work = 0
        self.searches = 0

    def handlers(self) -> dict[str, Handler]:
        return {"/etcdserverpb.KV/Txn": unary_async(self._txn), "/etcdserverpb.KV/Range": unary_async(self._range)}

    async def _txn(self, call: UnaryCall, body: bytes) -> bytes:
        request = rpc_pb2.TxnRequest.FromString(body)
        if len(request.success) > 1:  # a lock looks for its owner, too
            await self._search()
        responses = [rpc_pb2.ResponseOp(response_range=rpc_pb2.RangeResponse())] * 2
        return rpc_pb2.TxnResponse(
            header=rpc_pb2.ResponseHeader(revision=5), succeeded=True, responses=responses
        ).SerializeToString()

    async def _range(self, call: UnaryCall, body: bytes) -> bytes:
        await self._search()
        return rpc_pb2.RangeResponse(header=rpc_pb2.ResponseHeader(revision=5)).SerializeToString()

    async def _search(self) -> None:
        self.at_work += 1
        self.searches += 1
        assert self.at_work <= SEARCHES_MAX
        await self.gate.wait()
        self.at_work -= 1


def test_a_thousand_waiters_make_a_few_searches_at_a_time() -> None:
    """10,000 of them filled the queue of reads, and other clients were refused: too many requests."""

    async def main() -> None:
        store, codes = Store(), []
        async with serving(queue_handlers(method_table(store.handlers()), Cleanups())) as (_, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            for lease in range(1, WAITERS + 1):
                lock = lock_pb2.LockRequest(name=b"lock", lease=lease).SerializeToString()
                campaign = election_pb2.CampaignRequest(name=b"election", lease=lease).SerializeToString()
                channel.start_unary("/v3lockpb.Lock/Lock", lock, lambda code, text, body: codes.append(code))
                channel.start_unary("/v3electionpb.Election/Campaign", campaign, lambda code, text, body: codes.append(code))
            await until(lambda: store.at_work == SEARCHES_MAX)
            assert await settled(lambda: store.searches) == SEARCHES_MAX
            store.gate.set()
            await until(lambda: len(codes) == 2 * WAITERS)
            assert set(codes) == {0}
            assert store.searches == 2 * WAITERS
            await channel.close()

    run(main())
