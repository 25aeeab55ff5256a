"""A client that goes away while its key for a lock or an election is written: a key that would wait is deleted."""

from __future__ import annotations

import asyncio

import pytest

from tercet.errors import Code
from tercet.proto import election_pb2, kv_pb2, lock_pb2, rpc_pb2
from tercet.rpc import Handler, UnaryCall, method_table, unary_async
from tercet.rpc.channel import Channel
from tercet.services.election import queue_handlers
from tercet.services.lock import Cleanups
from tests.rpc.harness import run, serving
from tests.support.waiting import settled, until

KEY = b"name/7"
LOCK = ("/v3lockpb.Lock/Lock", lock_pb2.LockRequest(name=b"name", lease=7).SerializeToString())
CAMPAIGN = ("/v3electionpb.Election/Campaign", election_pb2.CampaignRequest(name=b"name", lease=7).SerializeToString())


class Store:
    """Answers the first transaction when `gate` is set. `deleted`: the keys that were deleted, by requests of either kind."""

    def __init__(self, *, is_new: bool, first_created: int) -> None:
        self.gate = asyncio.Event()
        self.is_asked = False
        self.deleted: list[bytes] = []
        self._is_new = is_new
        self._first_created = first_created

    def handlers(self) -> dict[str, Handler]:
        return {"/etcdserverpb.KV/Txn": unary_async(self._txn), "/etcdserverpb.KV/DeleteRange": unary_async(self._delete)}

    async def _txn(self, call: UnaryCall, body: bytes) -> bytes:
        request = rpc_pb2.TxnRequest.FromString(body)
        if self.is_asked:
            self.deleted += [operation.request_delete_range.key for operation in request.success]
            return rpc_pb2.TxnResponse(succeeded=True).SerializeToString()
        self.is_asked = True
        await self.gate.wait()
        own = rpc_pb2.ResponseOp(response_range=rpc_pb2.RangeResponse(kvs=[kv_pb2.KeyValue(key=KEY, create_revision=3)]))
        first = kv_pb2.KeyValue(key=b"name/1", create_revision=self._first_created)
        owner = rpc_pb2.ResponseOp(response_range=rpc_pb2.RangeResponse(kvs=[first]))
        header = rpc_pb2.ResponseHeader(revision=5)
        return rpc_pb2.TxnResponse(header=header, succeeded=self._is_new, responses=[own, owner]).SerializeToString()

    async def _delete(self, call: UnaryCall, body: bytes) -> bytes:
        self.deleted.append(rpc_pb2.DeleteRangeRequest.FromString(body).key)
        return rpc_pb2.DeleteRangeResponse().SerializeToString()


@pytest.mark.parametrize(
    ("called", "is_new", "first_created", "deleted"),
    [
        pytest.param(LOCK, True, 1, [KEY], id="waits for the lock"),
        pytest.param(LOCK, True, 5, [], id="owns the lock"),  # as in etcd
        pytest.param(LOCK, False, 1, [], id="another call of the session waits for the lock"),
        pytest.param(CAMPAIGN, True, 1, [KEY], id="is a candidate"),
        pytest.param(CAMPAIGN, False, 1, [], id="another call of the session is a candidate"),
    ],
)
def test_a_client_that_gives_up_while_its_key_is_written(
    called: tuple[str, bytes], is_new: bool, first_created: int, deleted: list[bytes]
) -> None:
    async def main() -> None:
        store, cleanups = Store(is_new=is_new, first_created=first_created), Cleanups()
        own = method_table(store.handlers())
        async with serving(queue_handlers(own, cleanups)) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            call = channel.start_unary(*called, lambda *_: None)
            await until(lambda: store.is_asked)
            call.cancel()
            await until(lambda: server.methods[called[0].encode()].handled[Code.CANCELLED] == 1)
            store.gate.set()
            if deleted:
                await until(lambda: store.deleted)
            assert await settled(lambda: list(store.deleted)) == deleted
            await channel.close()

    run(main())
