"""A large Txn is parsed and encoded in slices, to what protobuf makes of it in one go."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import TOO_MANY_OPS, RequestError
from tercet.mvcc import Budget
from tercet.proto import rpc_pb2
from tercet.proto.wire import encode_varint, paste_field
from tercet.replica.nested_requests import discard_unknown
from tercet.replica.txn_parser import TxnParser
from tests.support.properties import examples

Txn, Op, Put, Range, Delete, Compare = (
    rpc_pb2.TxnRequest,
    rpc_pb2.RequestOp,
    rpc_pb2.PutRequest,
    rpc_pb2.RangeRequest,
    rpc_pb2.DeleteRangeRequest,
    rpc_pb2.Compare,
)
WORK = 600


def parsed(body: bytes, *, depth_max: int = 128, work: int = WORK) -> tuple[rpc_pb2.TxnRequest, bytes, int]:
    """The message, its encoding, and the number of slices; none of them exceeds its work by much."""
    parser = TxnParser(body, depth_max=depth_max)
    slices = 1
    budget = Budget(work)
    while parser.step(budget):
        assert -1100 < budget.left <= 0
        budget = Budget(work)
        slices += 1
    return parser.request, b"".join(parser.parts), slices


def whole(body: bytes) -> rpc_pb2.TxnRequest:
    request = Txn.FromString(body)
    discard_unknown(request)
    return request


def put(number: int, size: int = 0) -> rpc_pb2.RequestOp:
    return Op(request_put=Put(key=b"k%d" % number, value=bytes(size)))


def nested(txn: rpc_pb2.TxnRequest) -> rpc_pb2.RequestOp:
    return Op(request_txn=txn)


def tree(width: int, depth: int) -> rpc_pb2.TxnRequest:
    if depth == 0:
        return Txn(compare=[Compare(key=b"c")], success=[put(number) for number in range(width)], failure=[put(-1)])
    return Txn(compare=[Compare(key=b"c")], success=[nested(tree(width, depth - 1)) for _ in range(width)])


GROUP = encode_varint(9 << 3 | 3) + b"\x08\x01" + encode_varint(9 << 3 | 4)
UNKNOWN = encode_varint(15 << 3 | 2) + b"\x03abc"


@pytest.mark.parametrize(
    "body",
    [
        tree(40, 2).SerializeToString(),
        Txn(success=[Op(request_range=Range(key=b"a"))] * 50_000).SerializeToString(),
        tree(20, 2).SerializeToString() + UNKNOWN * 50_000,
        tree(20, 2).SerializeToString() + GROUP * 50_000,
        encode_varint(9 << 3 | 3) * 90 + GROUP * 50_000 + encode_varint(9 << 3 | 4) * 90 + tree(3, 1).SerializeToString(),
        paste_field(2, UNKNOWN * 50_000 + nested(tree(20, 2)).SerializeToString()),
    ],
    ids=["nested", "flat", "unknown fields", "groups", "nested groups", "unknown fields in an operation"],
)
def test_a_large_txn_takes_many_slices(body: bytes) -> None:
    request, encoded, count = parsed(body)
    assert request == whole(body)
    assert Txn.FromString(encoded) == request
    assert count > len(body) // 10_000


def big_op(*parts: bytes) -> bytes:
    return paste_field(2, b"".join(parts))


BIG_PUT = put(1, 9000).SerializeToString()
BIG_TXN = nested(Txn(success=[put(2, 9000)])).SerializeToString()


@pytest.mark.parametrize(
    "body",
    [
        big_op(BIG_PUT, BIG_TXN),
        big_op(BIG_TXN, BIG_PUT),
        big_op(BIG_TXN, BIG_TXN),
        big_op(BIG_TXN, BIG_PUT, BIG_TXN),
        big_op(BIG_PUT, BIG_PUT),
        big_op(BIG_PUT, UNKNOWN, BIG_PUT),
        big_op(BIG_TXN, UNKNOWN, BIG_TXN),
        big_op(UNKNOWN * 2000),
        big_op(BIG_TXN, b"\x20\x05"),  # field 4 as a varint is unknown
        big_op(b"\x22\x00", UNKNOWN * 2000),
        paste_field(3, BIG_TXN) + paste_field(1, Compare(key=bytes(9000)).SerializeToString()) + paste_field(2, BIG_PUT),
        b"",
    ],
)
@pytest.mark.parametrize("work", [1, WORK])
def test_repeated_occurrences_and_unknown_fields_are_read_as_by_protobuf(body: bytes, work: int) -> None:
    request, encoded, _ = parsed(body, work=work)
    assert request == whole(body)
    assert Txn.FromString(encoded) == request


leaves = st.builds(put, st.integers(0, 9), st.sampled_from([0, 3000, 5000]))
txns = st.recursive(
    st.builds(Txn, success=st.lists(leaves, max_size=3), failure=st.lists(leaves, max_size=3)),
    lambda inner: st.builds(
        Txn, success=st.lists(st.one_of(leaves, st.builds(nested, inner)), max_size=3), failure=st.lists(leaves, max_size=2)
    ),
    max_leaves=8,
)


@examples(60)
@given(txns)
def test_the_slices_give_what_protobuf_gives(txn: rpc_pb2.TxnRequest) -> None:
    request, encoded, _ = parsed(txn.SerializeToString())
    assert request == txn
    assert Txn.FromString(encoded) == txn


def deep(depth: int, size: int) -> bytes:
    body = Txn(success=[put(1, size)]).SerializeToString()
    for _ in range(depth - 1):
        body = paste_field(2, paste_field(4, body))
    return body


@pytest.mark.parametrize("size", [0, 20_000])
def test_depth_is_limited_as_asked(size: int) -> None:
    for depth in (1, 60, 128):
        body = deep(depth, size)
        assert parsed(body)[1] == body
    for depth in (129, 1000):
        with pytest.raises(RequestError) as caught:
            parsed(deep(depth, size))
        assert caught.value is TOO_MANY_OPS
    parser = TxnParser(deep(300, size))  # an entry of the log
    while parser.step(Budget(WORK)):
        pass
    txn, found = parser.request, 1
    while txn.success[0].HasField("request_txn"):
        txn, found = txn.success[0].request_txn, found + 1
    assert (found, len(txn.success[0].request_put.value)) == (300, size)


@pytest.mark.parametrize(
    "body",
    [
        tree(20, 2).SerializeToString()[:-1],
        tree(20, 2).SerializeToString() + b"\x12",
        tree(20, 2).SerializeToString() + b"\x0c",
        tree(20, 2).SerializeToString() + b"\x4b",
        big_op(BIG_TXN, b"\x12\x7f"),
        big_op(BIG_PUT, b"\x12\x7f"),
    ],
)
def test_malformed_txns_are_rejected(body: bytes) -> None:
    with pytest.raises(DecodeError):
        Txn.FromString(body)
    with pytest.raises(DecodeError):
        parsed(body)
