"""Txns nested deeper than protobuf parses: every member can apply what any member has proposed."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tercet.mvcc import whole_answer
from tercet.proto import internal_pb2, rpc_pb2
from tercet.proto.wire import encode_varint
from tercet.replica.nested_requests import parse_deep
from tercet.replica.requests import RequestIds, decode_request, encode_request
from tercet.replica.state_machine import StateMachine
from tercet.replica.unsupported import UnsupportedRequest
from tercet.storage.memory_backend import MemoryBackend

DEPTH_MAX = 128  # etcd's --max-txn-ops; each level takes one


def nested_txn(depth: int) -> bytes:
    """Encoded by hand: protobuf does not encode deeper than it parses."""
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"deep", value=b"%d" % depth))
    body = rpc_pb2.TxnRequest(success=[put]).SerializeToString()
    for _ in range(depth - 1):
        op = b"\x22" + encode_varint(len(body)) + body
        body = b"\x12" + encode_varint(len(op)) + op
    return body


def entry(field: str, body: bytes) -> bytes:
    return encode_request(field, body, RequestIds(1, 1000))


def test_every_request_that_a_service_can_parse_can_be_applied() -> None:
    """An entry is nested one level deeper than its request; at that depth, the proposer accepted what no member could apply."""
    readable = []
    for depth in range(1, DEPTH_MAX):
        try:
            rpc_pb2.TxnRequest.FromString(nested_txn(depth))
        except DecodeError:
            break
        readable.append(depth)
    assert len(readable) > 40
    for depth in readable:
        assert decode_request(entry("txn", nested_txn(depth))).field == "txn"


@pytest.mark.parametrize("depth", [49, 50, 51, 100, DEPTH_MAX])
def test_a_deep_txn_of_an_etcd_member_is_applied(depth: int) -> None:
    state_machine = StateMachine(MemoryBackend())
    state_machine.apply(decode_request(entry("txn", nested_txn(depth))))
    answer = whole_answer(state_machine.store.range(rpc_pb2.RangeRequest(key=b"deep")))
    assert rpc_pb2.RangeResponse.FromString(answer).kvs[0].value == b"%d" % depth


def test_deep_unknown_fields_are_ignored() -> None:
    group = b"\x7b" * 200 + b"\x7c" * 200  # field 15, nested 200 times
    request = decode_request(entry("put", rpc_pb2.PutRequest(key=b"k").SerializeToString() + group))
    assert (request.field, request.message) == ("put", rpc_pb2.PutRequest(key=b"k"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x32",  # no size
        b"\x32\x05\x0a",  # shorter than its size
        b"\x32\x02\x0a\xff",  # the same, one level down
        b"\x36",  # an invalid wire type
        b"\x34",  # an end group without a start
        b"\x7b\x08",  # a group without an end
        b"\xff" * 12,
        b"\x09\x00",
    ],
)
def test_malformed_data_is_rejected(data: bytes) -> None:
    with pytest.raises(UnsupportedRequest, match="neither form"):
        decode_request(data)


puts = st.builds(rpc_pb2.PutRequest, key=st.binary(max_size=3), value=st.binary(max_size=3), lease=st.integers(-2, 2))
ranges = st.builds(rpc_pb2.RangeRequest, key=st.binary(max_size=3), limit=st.integers(0, 300))
compares = st.builds(rpc_pb2.Compare, key=st.binary(max_size=3), version=st.integers(0, 300))
flat_ops = st.one_of(
    st.builds(rpc_pb2.RequestOp, request_put=puts),
    st.builds(rpc_pb2.RequestOp, request_range=ranges),
    st.just(rpc_pb2.RequestOp()),
)
txns = st.recursive(
    st.builds(rpc_pb2.TxnRequest, compare=st.lists(compares, max_size=2), success=st.lists(flat_ops, max_size=2)),
    lambda inner: st.builds(
        rpc_pb2.TxnRequest,
        success=st.lists(st.one_of(flat_ops, st.builds(rpc_pb2.RequestOp, request_txn=inner)), max_size=3),
        failure=st.lists(st.builds(rpc_pb2.RequestOp, request_txn=inner), max_size=2),
    ),
    max_leaves=6,
)


@given(parts=st.lists(txns, min_size=1, max_size=3), noise=st.binary(max_size=4))
def test_it_parses_as_protobuf_does(parts: list[rpc_pb2.TxnRequest], noise: bytes) -> None:
    """Including fields that occur several times, which merge, and arbitrary bytes at the end."""
    data = b"".join(entry("txn", part.SerializeToString()) for part in parts) + noise
    try:
        expected = internal_pb2.InternalRaftRequest.FromString(data)
    except DecodeError:
        return
    found = internal_pb2.InternalRaftRequest()
    parse_deep(found, data)
    expected.DiscardUnknownFields()
    found.DiscardUnknownFields()
    assert found == expected


@given(data=st.lists(flat_ops, max_size=4))
def test_the_last_member_of_a_oneof_counts(data: list[rpc_pb2.RequestOp]) -> None:
    encoded = b"".join(op.SerializeToString() for op in data)
    found = rpc_pb2.RequestOp()
    parse_deep(found, encoded)
    assert found == rpc_pb2.RequestOp.FromString(encoded)
