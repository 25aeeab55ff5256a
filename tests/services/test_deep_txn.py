"""Txns nested deeper than the protobuf library parses: accepted as by etcd, up to --max-txn-ops."""

from __future__ import annotations

import pytest

from tercet.errors import Code
from tercet.proto import internal_pb2, rpc_pb2
from tercet.proto.wire import paste_field
from tercet.rpc import RpcError
from tercet.services.deep_txn import encode_txn, parse_txn
from tests.services import harness
from tests.services.harness import run, served

OPS_MAX = 128


def nested(depth: int, inner: rpc_pb2.TxnRequest) -> bytes:
    body = inner.SerializeToString()
    for _ in range(depth - 1):
        body = paste_field(2, paste_field(4, body))
    return body


def put(value: bytes) -> rpc_pb2.TxnRequest:
    return rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"deep", value=value))])


@pytest.mark.parametrize("depth", [1, 49, 50, 51, 100, OPS_MAX])
def test_a_nested_txn_is_applied(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TXN_OPS_MAX", OPS_MAX)

    async def test() -> None:
        async with served() as member:
            await member.channel.unary("/etcdserverpb.KV/Txn", nested(depth, put(b"%d" % depth)))
            found = await member.call("KV/Range", rpc_pb2.RangeRequest(key=b"deep"), rpc_pb2.RangeResponse)
            assert [kv.value for kv in found.kvs] == [b"%d" % depth]

    run(test())


@pytest.mark.parametrize("depth", [OPS_MAX + 1, 1000, 20_000])
def test_a_txn_nested_deeper_than_the_limit_is_rejected(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TXN_OPS_MAX", OPS_MAX)

    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError) as caught:
                await member.channel.unary("/etcdserverpb.KV/Txn", nested(depth, put(b"x")))
            assert (caught.value.code, caught.value.message) == (
                Code.INVALID_ARGUMENT,
                "etcdserver: too many operations in txn request",
            )

    run(test())


def test_a_deep_txn_is_proposed_without_unknown_fields() -> None:
    """Unknown fields could crash etcd members of the cluster when they apply the entry."""
    inner = rpc_pb2.TxnRequest.FromString(put(b"x").SerializeToString() + b"\x78\x01")
    compare = rpc_pb2.Compare(key=b"a", target=rpc_pb2.Compare.VALUE, value=b"b")
    for depth in (0, 1, 15, 31, 33, 45, 49, 50, 51, 66, 100):
        body = paste_field(1, compare.SerializeToString()) + nested(depth, inner) + b"\x78\x01"
        clean = paste_field(1, compare.SerializeToString()) + nested(depth, put(b"x"))
        assert encode_txn(parse_txn(body, OPS_MAX)) == clean, depth


def test_malformed_txns_are_rejected() -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError, match="grpc: error unmarshalling request") as caught:
                await member.channel.unary("/etcdserverpb.KV/Txn", b"\x12\x05\x22")
            assert caught.value.code is Code.INTERNAL

    run(test())


def test_a_large_txn_is_parsed_in_slices_and_proposed_without_unknown_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "TXN_OPS_MAX", OPS_MAX)
    ranges = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))] * 90)
    request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=ranges)] * 30 + list(put(b"v").success))

    async def test() -> None:
        async with served() as member:
            body = request.SerializeToString() + b"\x78\x01" * 5000
            answer = await member.channel.unary("/etcdserverpb.KV/Txn", body)
            assert len(rpc_pb2.TxnResponse.FromString(answer).responses) == 31
            assert member.scheduler.slices > 3 * 2700 * 4 // 500
            (entry,) = [
                one.data for one in member.raft.log.entries(1, member.raft.log.last_index + 1) if len(one.data) > 10_000
            ]
            assert internal_pb2.InternalRaftRequest.FromString(entry).txn == request
            assert b"\x78\x01" not in entry
            for malformed in (body[:-1], body + b"\x12\x05\x22"):
                with pytest.raises(RpcError, match="grpc: error unmarshalling request"):
                    await member.channel.unary("/etcdserverpb.KV/Txn", malformed)

    run(test())
