"""Every method of KV: a success, the errors, and when a response is sent."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message

from tercet.errors import Code
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError
from tests.services.harness import CLUSTER_ID, TXN_OPS_MAX, ServedMember, run, served


async def put(member: ServedMember, key: bytes, value: bytes = b"") -> rpc_pb2.PutResponse:
    return await member.call("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse)


def test_a_put_returns_its_revision_and_can_be_read() -> None:
    async def test() -> None:
        async with served() as member:
            header = (await put(member, b"a", b"1")).header
            assert (header.cluster_id, header.member_id, header.revision) == (CLUSTER_ID, 1, 2)
            assert header.raft_term == member.raft.term
            for serializable in (False, True):
                request = rpc_pb2.RangeRequest(key=b"a", serializable=serializable)
                found = await member.call("KV/Range", request, rpc_pb2.RangeResponse)
                assert [(kv.key, kv.value, kv.mod_revision) for kv in found.kvs] == [(b"a", b"1", 2)]

    run(test())


def test_delete_range_returns_what_it_deleted() -> None:
    async def test() -> None:
        async with served() as member:
            await put(member, b"a", b"1")
            await put(member, b"b", b"2")
            request = rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"c", prev_kv=True)
            deleted = await member.call("KV/DeleteRange", request, rpc_pb2.DeleteRangeResponse)
            assert (deleted.deleted, [kv.value for kv in deleted.prev_kvs]) == (2, [b"1", b"2"])
            assert deleted.header.revision == 4

    run(test())


def test_a_txn_takes_the_branch_that_its_compares_choose() -> None:
    async def test() -> None:
        async with served() as member:
            compare = rpc_pb2.Compare(key=b"a", target=rpc_pb2.Compare.VERSION, result=rpc_pb2.Compare.EQUAL, version=0)
            request = rpc_pb2.TxnRequest(
                compare=[compare],
                success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a"))],
                failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a"))],
            )
            first = await member.call("KV/Txn", request, rpc_pb2.TxnResponse)
            second = await member.call("KV/Txn", request, rpc_pb2.TxnResponse)
            assert (first.succeeded, second.succeeded) == (True, False)
            assert second.responses[0].response_range.kvs[0].key == b"a"
            assert second.header.revision == 2, "a branch that only reads creates no revision"

    run(test())


def test_compact_makes_old_revisions_unreadable() -> None:
    async def test() -> None:
        async with served() as member:
            await put(member, b"a", b"1")
            await put(member, b"a", b"2")
            request = rpc_pb2.CompactionRequest(revision=3)
            compacted = await member.call("KV/Compact", request, rpc_pb2.CompactionResponse)
            assert compacted.header.revision == 3
            with pytest.raises(RpcError, match="required revision has been compacted") as caught:
                await member.call("KV/Range", rpc_pb2.RangeRequest(key=b"a", revision=2), rpc_pb2.RangeResponse)
            assert caught.value.code is Code.OUT_OF_RANGE

    run(test())


def test_range_stream_sends_a_range_in_chunks_of_one_revision() -> None:
    async def test() -> None:
        async with served() as member:
            keys = [b"%03d" % number for number in range(100)]
            for key in keys:
                await put(member, key)
            stream = await member.open("KV/RangeStream", rpc_pb2.RangeRequest(key=b"0", range_end=b"1"))
            chunks = [rpc_pb2.RangeStreamResponse.FromString(message).range_response async for message in stream]
            assert len(chunks) > 1
            assert [kv.key for chunk in chunks for kv in chunk.kvs] == keys
            assert chunks[-1].header.revision == 101

    run(test())


PUT = rpc_pb2.PutRequest
REFUSED: list[tuple[str, Message | bytes, Code, str]] = [
    ("Put", PUT(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    ("Put", PUT(key=b"a", value=b"b", ignore_value=True), Code.INVALID_ARGUMENT, "etcdserver: value is provided"),
    ("Range", rpc_pb2.RangeRequest(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    (
        "Range",
        rpc_pb2.RangeRequest(key=b"a", revision=99),
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    ("DeleteRange", rpc_pb2.DeleteRangeRequest(), Code.INVALID_ARGUMENT, "etcdserver: key is not provided"),
    (
        "Txn",
        rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=PUT(key=b"a"))] * (TXN_OPS_MAX + 1)),
        Code.INVALID_ARGUMENT,
        "etcdserver: too many operations in txn request",
    ),
    (
        "Compact",
        rpc_pb2.CompactionRequest(revision=99),
        Code.OUT_OF_RANGE,
        "etcdserver: mvcc: required revision is a future revision",
    ),
]


@pytest.mark.parametrize(("method", "request_", "code", "text"), REFUSED, ids=[f"{one[0]}-{one[3][-20:]}" for one in REFUSED])
def test_a_bad_request_gets_etcds_code_and_text(method: str, request_: Message, code: Code, text: str) -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError) as caught:
                await member.call(f"KV/{method}", request_, rpc_pb2.PutResponse)
            assert (caught.value.code, caught.value.message) == (code, text)

    run(test())


@pytest.mark.parametrize("method", ["Range", "Put", "DeleteRange", "Txn", "Compact"])
def test_malformed_requests_are_rejected(method: str) -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError, match="grpc: error unmarshalling request") as caught:
                await member.call(f"KV/{method}", b"\xff\xff", rpc_pb2.PutResponse)
            assert caught.value.code is Code.INTERNAL

    run(test())


def test_a_linearizable_read_waits_for_the_read_index_and_a_serializable_one_does_not() -> None:
    async def test() -> None:
        async with served() as member:
            await put(member, b"a")
            member.paused = True
            waiting = asyncio.ensure_future(member.call("KV/Range", rpc_pb2.RangeRequest(key=b"a"), rpc_pb2.RangeResponse))
            request = rpc_pb2.RangeRequest(key=b"a", serializable=True)
            await member.call("KV/Range", request, rpc_pb2.RangeResponse)
            assert not waiting.done()
            member.resume()
            assert (await waiting).count == 1

    run(test())


def test_a_write_gets_its_response_only_after_it_is_applied() -> None:
    async def test() -> None:
        async with served() as member:
            member.paused = True
            waiting = asyncio.ensure_future(put(member, b"a"))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not waiting.done()
            member.turn()
            await asyncio.sleep(0)
            assert not waiting.done(), "proposed, but not on disk"
            member.resume()
            assert (await waiting).header.revision == 2

    run(test())


def test_a_stopped_member_rejects_every_request() -> None:
    async def test() -> None:
        async with served() as member:
            member.replica.stop()
            for request in (member.call("KV/Range", rpc_pb2.RangeRequest(key=b"a"), rpc_pb2.RangeResponse), put(member, b"a")):
                with pytest.raises(RpcError, match="etcdserver: server stopped"):
                    await request
            stream = await member.open("KV/RangeStream", rpc_pb2.RangeRequest(key=b"a"))
            with pytest.raises(RpcError, match="etcdserver: server stopped"):
                await stream.receive()

    run(test())
