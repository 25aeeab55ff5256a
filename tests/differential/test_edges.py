"""Requests at and beyond the limits: too large, too many, malformed, unknown. Both servers give the same code and text."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tests.differential.twins import SECONDS, SORT_ORDER_REFUSED, Twins, ask, refusal, streamed
from tests.support.client import Client

_Range = rpc_pb2.RangeRequest
_Put = rpc_pb2.PutRequest
_Delete = rpc_pb2.DeleteRangeRequest
_Txn = rpc_pb2.TxnRequest
_Compact = rpc_pb2.CompactionRequest
_Compare = rpc_pb2.Compare

REQUEST_BYTES_MAX = 1_572_864  # of a log entry
MESSAGE_BYTES_MAX = REQUEST_BYTES_MAX + 512 * 1024  # of a gRPC message


def op(request: Message) -> rpc_pb2.RequestOp:
    made = rpc_pb2.RequestOp()
    field = {_Range: "request_range", _Put: "request_put", _Delete: "request_delete_range", _Txn: "request_txn"}[type(request)]
    getattr(made, field).CopyFrom(request)
    return made


def txn(*success: Message, failure: tuple[Message, ...] = (), compare: tuple[rpc_pb2.Compare, ...] = ()) -> rpc_pb2.TxnRequest:
    return _Txn(compare=compare, success=map(op, success), failure=map(op, failure))


REFUSED = {
    "range without key": _Range(),
    "range without key but with an end": _Range(range_end=b"z"),
    "range at a future revision": _Range(key=b"a", revision=1 << 40),
    "count at a future revision": _Range(key=b"a", revision=1 << 40, count_only=True),
    "serializable range at a future revision": _Range(key=b"a", revision=1 << 62, serializable=True),
    "put without key": _Put(value=b"v"),
    "put without key, value given and ignored": _Put(value=b"v", ignore_value=True),
    "value given and ignored": _Put(key=b"a", value=b"v", ignore_value=True, ignore_lease=True, lease=3),
    "lease given and ignored": _Put(key=b"a", ignore_lease=True, lease=3),
    "ignore_value of an absent key": _Put(key=b"edge/absent", ignore_value=True),
    "ignore_lease of an absent key": _Put(key=b"edge/absent", value=b"v", ignore_lease=True),
    "unknown lease": _Put(key=b"a", lease=12345),
    "unknown negative lease": _Put(key=b"a", lease=-12345),
    "unknown lease before absent key": _Put(key=b"edge/absent", lease=12345, ignore_value=True),
    "delete without key": _Delete(range_end=b"z"),
    "compact at -1": _Compact(revision=-1),
    "compact at a future revision": _Compact(revision=1 << 40),
    "compact far below": _Compact(revision=-(1 << 63)),
    "empty op": _Txn(success=[rpc_pb2.RequestOp()]),
    "compare without key": txn(compare=(_Compare(),)),
    "too many ops": txn(*[_Delete(key=b"a")] * 129),
    "too many ops in the branch not taken": txn(failure=(_Delete(key=b"a"),) * 129),
    "too many compares": txn(compare=(_Compare(key=b"a"),) * 129),
    "too many ops before an empty key": txn(*[_Delete()] * 129),
    "too many nested ops": txn(txn(*[_Delete(key=b"a")] * 128)),
    "two puts": txn(_Put(key=b"a"), _Put(key=b"a")),
    "two puts in the branch not taken": txn(failure=(_Put(key=b"a"), _Put(key=b"a"))),
    "put and delete": txn(_Delete(key=b"a", range_end=b"c"), _Put(key=b"b")),
    "put in a nested txn and in its parent": txn(_Put(key=b"a"), txn(failure=(_Put(key=b"a"),))),
    "duplicate before unknown lease": txn(_Put(key=b"a", lease=12345), _Put(key=b"a")),
    "empty key in a nested txn": txn(txn(txn(failure=(_Range(),)))),
    "txn reads at a future revision": txn(_Put(key=b"a"), _Range(key=b"a", revision=1 << 40)),
    "read-only txn reads at a future revision": txn(_Range(key=b"a", revision=1 << 40)),
    "txn puts with an unknown lease": txn(_Put(key=b"a", lease=12345)),
    "entry too large": _Put(key=b"a", value=bytes(REQUEST_BYTES_MAX)),
    "entry too large, in a txn": txn(_Put(key=b"a", value=bytes(REQUEST_BYTES_MAX))),
    "empty key before too large": _Put(value=bytes(REQUEST_BYTES_MAX)),
    "key too large": _Put(key=bytes(REQUEST_BYTES_MAX)),
    "delete too large": _Delete(key=bytes(REQUEST_BYTES_MAX)),
    "message too large": _Put(key=b"a", value=bytes(MESSAGE_BYTES_MAX)),
    "range message too large": _Range(key=bytes(MESSAGE_BYTES_MAX)),
}

ANSWERED = {
    "range_end before key": _Range(key=b"c", range_end=b"a"),
    "range_end equal to key": _Range(key=b"c", range_end=b"c"),
    "everything": _Range(key=b"\0", range_end=b"\0"),
    "negative limit": _Range(key=b"\0", range_end=b"\0", limit=-1),
    "largest limit": _Range(key=b"\0", range_end=b"\0", limit=(1 << 63) - 1),
    "negative revision": _Range(key=b"\0", range_end=b"\0", revision=-1),
    "smallest revision": _Range(key=b"\0", range_end=b"\0", revision=-(1 << 63)),
    "negative filter": _Range(key=b"\0", range_end=b"\0", max_mod_revision=-1),
    "minimum filter above the maximum": _Range(key=b"\0", range_end=b"\0", min_mod_revision=9, max_mod_revision=2),
    "count with limit": _Range(key=b"\0", range_end=b"\0", limit=1, count_only=True),
    "count of keys only": _Range(key=b"\0", range_end=b"\0", keys_only=True, count_only=True),
    "keys only by value": _Range(
        key=b"\0", range_end=b"\0", keys_only=True, sort_target=_Range.VALUE, sort_order=_Range.DESCEND
    ),
    "limit before sorting": _Range(key=b"\0", range_end=b"\0", limit=2, sort_target=_Range.MOD),
    "largest limit, in a txn that writes": txn(_Put(key=b"edge/x"), _Range(key=b"\0", range_end=b"\0", limit=(1 << 63) - 1)),
    "largest limit, sorted": _Range(key=b"\0", range_end=b"\0", limit=(1 << 63) - 1, sort_target=_Range.VALUE),
    "largest limit, keys only": _Range(key=b"\0", range_end=b"\0", limit=(1 << 63) - 1, keys_only=True),
    "empty txn": _Txn(),
    "largest txn": txn(*[_Delete(key=b"none")] * 128),
    "largest nested txn": txn(txn(*[_Delete(key=b"none")] * 127)),
    "unknown compare target": txn(_Put(key=b"edge/x"), compare=(_Compare(key=b"a", target=17),)),  # type: ignore[arg-type]
    "unknown compare result": txn(_Put(key=b"edge/x"), compare=(_Compare(key=b"a", result=17),)),  # type: ignore[arg-type]
    "NOT_EQUAL compare of an absent key": txn(
        compare=(_Compare(key=b"none", target=_Compare.VALUE, result=_Compare.NOT_EQUAL),)
    ),
    "delete to the end, then put": txn(_Delete(key=b"edge/", range_end=b"\0"), _Put(key=b"edge/x", prev_kv=True)),
    "put, then delete to the end": txn(_Put(key=b"edge/x"), _Delete(key=b"edge/", range_end=b"\0", prev_kv=True)),
    "largest put": _Put(key=b"edge/large", value=bytes(REQUEST_BYTES_MAX - 64)),
    "delete of the largest put": _Delete(key=b"edge/large"),
    "a binary key": _Put(key=bytes(range(256)), value=bytes(range(256)), prev_kv=True),
    "a key that is only a zero byte": _Put(key=b"\0", prev_kv=True),
    "a long key": _Put(key=b"k" * 5000, value=b"v"),
    "the long key again": _Put(key=b"k" * 5000, ignore_value=True, prev_kv=True),
    "the range of the long key": _Range(key=b"k" * 4999, range_end=b"l"),
    "delete of the long key": _Delete(key=b"k" * 5000, prev_kv=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_requests_get_the_same_error(twins: Twins, name: str) -> None:
    assert isinstance(twins.call(REFUSED[name]), tuple)


@pytest.mark.parametrize("name", ANSWERED)
def test_valid_requests_get_the_same_response(twins: Twins, name: str) -> None:
    assert not isinstance(twins.call(ANSWERED[name]), tuple)


def test_both_members_hold_the_same_data_afterwards(twins: Twins) -> None:
    twins.compare_hash()
    twins.call(_Range(key=b"\0", range_end=b"\0"))


def test_the_request_size_limit_is_the_same(twins: Twins) -> None:
    """The limit is that of the log entry, which includes the request id; the id's length depends on the member id."""
    theirs, ours = _largest_value(twins.etcd), _largest_value(twins.tercet)
    assert theirs + _request_id_bytes(twins.etcd) == ours + _request_id_bytes(twins.tercet)
    assert theirs > REQUEST_BYTES_MAX - 100


def _request_id_bytes(client: Client) -> int:
    """Length of a request id as a varint: its upper 16 bits are the lower 16 bits of the member id (etcd pkg/idutil)."""
    upper = client.status().header.member_id & 0xFFFF
    return (48 + max(upper, 1).bit_length() + 6) // 7


def test_unknown_sort_options_are_rejected(twins: Twins) -> None:
    for request in (_Range(key=b"a", sort_order=7), _Range(key=b"a", sort_target=9), _Range(key=b"a", sort_order=-1)):  # type: ignore[arg-type]
        assert ask(twins.tercet, request) == SORT_ORDER_REFUSED
        assert ask(twins.tercet, txn(request)) == SORT_ORDER_REFUSED
        assert streamed(twins.tercet, request) == SORT_ORDER_REFUSED
    assert not isinstance(ask(twins.etcd, _Range(key=b"a", sort_order=7)), tuple)  # type: ignore[arg-type]


def test_hash_kv_at_a_future_revision(twins: Twins) -> None:
    request = rpc_pb2.HashKVRequest(revision=1 << 40)
    assert ask(twins.tercet, request) == ask(twins.etcd, request)


MALFORMED = {
    "cut short": b"\x0a\x05ab",
    "a tag with field number 0": b"\x00",
    "a varint of more than 10 bytes": b"\x10" + b"\xff" * 11,
    "a wrong wire type": b"\x0f",
    "a group without an end": b"\x0b",
}


@pytest.mark.parametrize("method", ["Range", "Put", "DeleteRange", "Txn", "Compact"])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_get_the_same_code(twins: Twins, method: str, name: str) -> None:
    """The rest of the text comes from the protobuf library, so only the prefix is compared."""
    theirs, ours = (raw(member, f"/etcdserverpb.KV/{method}", MALFORMED[name]) for member in (twins.etcd, twins.tercet))
    assert isinstance(theirs, tuple)
    assert isinstance(ours, tuple)
    assert ours[0] == theirs[0] == grpc.StatusCode.INTERNAL.value[0]
    assert ours[1].startswith("grpc: error unmarshalling request: ")


@pytest.mark.parametrize("path", ["/etcdserverpb.KV/Rename", "/etcdserverpb.Nothing/Put", "/KV/Put", "/etcdserverpb.KV/put"])
def test_unknown_methods_get_the_same_error(twins: Twins, path: str) -> None:
    theirs, ours = (raw(member, path, b"") for member in (twins.etcd, twins.tercet))
    assert ours == theirs
    assert ours[0] == grpc.StatusCode.UNIMPLEMENTED.value[0]


def test_unknown_fields_are_ignored(twins: Twins) -> None:
    unknown = b"\xa0\x1f\x01" + b"\xaa\x1f\x03abc"
    body = _Put(key=b"edge/unknown", value=b"v").SerializeToString() + unknown
    for member in (twins.etcd, twins.tercet):
        assert isinstance(raw(member, "/etcdserverpb.KV/Put", body), bytes)
    twins.call(_Range(key=b"edge/unknown"))


def raw(member: Client, path: str, body: bytes) -> Any:
    """The response to a request of the bytes `body`: bytes, or (code, text) of the error."""
    method = member.channel.unary_unary(
        path, request_serializer=lambda message: message, response_deserializer=lambda data: data
    )
    try:
        return method(body, timeout=SECONDS)
    except grpc.RpcError as error:
        return refusal(error)


def _largest_value(member: Client) -> int:
    """Length of the longest value accepted in a txn that is proposed and changes nothing."""
    never = _Compare(key=b"none", target=_Compare.VERSION, version=5)
    low, high = REQUEST_BYTES_MAX - 200, REQUEST_BYTES_MAX
    while low + 1 < high:
        middle = (low + high) // 2
        if isinstance(ask(member, txn(_Put(key=b"a", value=bytes(middle)), compare=(never,))), tuple):
            high = middle
        else:
            low = middle
    return low
