"""Small requests against the general path: the same answers and the same state, and only bytes that protobuf would write."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.auth import NOBODY, Identity
from tercet.errors import RequestError
from tercet.mvcc import (
    check_put,
    check_range,
    check_txn,
    is_read_only,
    read_small_put,
    read_small_range,
    read_small_txn,
    whole_apply,
)
from tercet.mvcc.small_requests import BYTES_MAX, LIST_MAX
from tercet.proto import internal_pb2, rpc_pb2
from tercet.replica.quota import KEY_OVERHEAD_BYTES, put_cost, txn_cost
from tercet.replica.requests import RequestIds, canonical_encoding, decode_request, encode_request
from tercet.replica.unsupported import UnsupportedRequest
from tercet.storage.interfaces import Bucket
from tests.mvcc.member import Member
from tests.support.properties import examples

KEYS = st.sampled_from([b"a", b"b", b"c", b"a" * 200])
NUMBERS = st.sampled_from([0, 1, 2, 3, 127, 128, 1 << 40, -1])
VALUES = st.sampled_from([b"", b"1", b"2" * 300])
UNION = st.one_of(
    st.just({}),
    *[st.builds(lambda number, name=name: {name: number}, NUMBERS) for name in ("version", "create_revision", "mod_revision")],
    st.builds(lambda lease: {"lease": lease}, st.sampled_from([0, 7])),
    st.builds(lambda value: {"value": value}, VALUES),
)
COMPARES = st.builds(
    lambda result, target, key, union, end: rpc_pb2.Compare(result=result, target=target, key=key, range_end=end, **union),
    st.integers(0, 3),
    st.integers(0, 4),
    st.one_of(KEYS, st.just(b"")),
    UNION,
    st.sampled_from([b""] * 9 + [b"z"]),
)
PUTS = st.builds(
    lambda key, value, lease, prev_kv: rpc_pb2.PutRequest(key=key, value=value, lease=lease, prev_kv=prev_kv),
    KEYS,
    VALUES,
    st.sampled_from([0, 0, 0, 7, 8]),
    st.sampled_from([False] * 9 + [True]),
)
OPS = st.one_of(
    st.builds(lambda put: rpc_pb2.RequestOp(request_put=put), PUTS),
    st.builds(lambda put: rpc_pb2.RequestOp(request_put=put), PUTS),
    st.builds(lambda key: rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key)), KEYS),
    st.builds(lambda key: rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key)), KEYS),
    st.just(rpc_pb2.RequestOp()),
)
TXNS = st.builds(
    lambda compare, success, failure: rpc_pb2.TxnRequest(compare=compare, success=success, failure=failure),
    st.lists(COMPARES, max_size=3),
    st.lists(OPS, max_size=3),
    st.lists(OPS, max_size=3),
)
COUNTS = ("compacted", "deletes", "put_bytes", "puts", "ranges", "txns")
Change = tuple[int, int, str]
CHANGES = st.tuples(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["set", "insert", "remove"]))


def changed(body: bytes, changes: list[Change]) -> bytes:
    """`body` with single bytes set, inserted or removed."""
    out = bytearray(body)
    for at, byte, change in changes:
        at %= len(out) + 1
        out[at : at + (change != "insert")] = b"" if change == "remove" else bytes((byte,))
    return bytes(out)


def answer(member: Member, request: rpc_pb2.TxnRequest, *, small: bool) -> object:
    try:
        if small:
            txn = read_small_txn(request.SerializeToString())
            assert txn is not None
            response = member.store.small_txn(txn)
            if response is not None:
                return response, member.store.revision
        return whole_apply(member.store.txn(request)), member.store.revision
    except RequestError as error:
        return error.message, member.store.revision


@examples(400)
@given(st.lists(TXNS, max_size=12))
def test_both_ways_give_the_same_answers_and_the_same_state(requests: list[rpc_pb2.TxnRequest]) -> None:
    members = Member(), Member()
    for member in members:
        member.lessor.grant(7, 100)
    for request in requests:
        if read_small_txn(request.SerializeToString()) is None:
            continue
        assert answer(members[0], request, small=True) == answer(members[1], request, small=False)
    assert_equal(*members)


def assert_equal(first: Member, second: Member) -> None:
    for bucket in Bucket:
        assert list(first.backend.scan(bucket)) == list(second.backend.scan(bucket))
    for name in COUNTS:
        assert getattr(first.store.counts, name) == getattr(second.store.counts, name)


@examples(1000)
@given(TXNS)
def test_what_is_taken_has_no_fault_and_is_encoded_as_protobuf_would(request: rpc_pb2.TxnRequest) -> None:
    small = read_small_txn(request.SerializeToString())
    if small is None:
        return
    check_txn(request, small.longest)
    assert not is_read_only(request)
    assert small.request() == request
    assert small.body == canonical_encoding(request)
    assert small.cost(KEY_OVERHEAD_BYTES) == txn_cost(request)
    assert small.longest == max(len(request.compare), len(request.success), len(request.failure)) <= LIST_MAX


@examples(2000)
@given(
    TXNS,
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["set", "insert", "remove"])), max_size=3),
)
def test_damaged_bytes_are_taken_only_if_they_are_canonical(request: rpc_pb2.TxnRequest, changes: list[Change]) -> None:
    body = changed(request.SerializeToString(), changes)
    small = read_small_txn(body)
    if small is not None:
        assert canonical_encoding(rpc_pb2.TxnRequest.FromString(body)) == body


def test_what_locks_and_kubernetes_send_is_taken() -> None:
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=b"v" * 1000, lease=1 << 60))
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))
    delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k"))
    unchanged = rpc_pb2.Compare(target=rpc_pb2.Compare.MOD, key=b"k", mod_revision=1 << 62)
    absent = rpc_pb2.Compare(target=rpc_pb2.Compare.CREATE, key=b"k", create_revision=0)
    for request in (
        rpc_pb2.TxnRequest(compare=[absent], success=[put]),
        rpc_pb2.TxnRequest(compare=[unchanged], success=[put], failure=[get]),
        rpc_pb2.TxnRequest(compare=[unchanged], success=[delete], failure=[get]),
        rpc_pb2.TxnRequest(success=[put]),
    ):
        assert read_small_txn(request.SerializeToString()) is not None


def test_what_is_large_or_reads_only_is_left_to_the_general_path() -> None:
    puts = [rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"%d" % number)) for number in range(LIST_MAX + 1)]
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))
    large = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=bytes(BYTES_MAX)))
    twice = [puts[0], puts[0]]
    for request in (
        rpc_pb2.TxnRequest(success=puts),
        rpc_pb2.TxnRequest(success=[get]),
        rpc_pb2.TxnRequest(success=[large]),
        rpc_pb2.TxnRequest(success=twice, failure=twice),
        rpc_pb2.TxnRequest(),
    ):
        assert read_small_txn(request.SerializeToString()) is None


@given(TXNS, st.integers(0, 0xFFFF), st.sampled_from([NOBODY, Identity("alice", 7)]))
def test_an_entry_holds_the_same_txn_whichever_way_it_is_read(
    request: rpc_pb2.TxnRequest, member_id: int, identity: Identity
) -> None:
    body = request.SerializeToString()
    entry = encode_request("txn", body, RequestIds(member_id, 1_700_000_000_000), identity)
    decoded = decode_request(entry)
    assert (decoded.field, decoded.identity.encoded) == ("txn", identity.encoded)
    small = decoded.small
    assert (small is not None) == (read_small_txn(body) is not None)
    assert decoded.message == request
    assert decoded.small is None, "parsed once"


@given(st.booleans(), st.lists(CHANGES, min_size=1, max_size=3))
def test_a_damaged_entry_is_read_as_protobuf_reads_it(is_txn: bool, changes: list[Change]) -> None:
    put = rpc_pb2.PutRequest(key=b"k", value=b"v", lease=7)
    txn = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put)])
    body = (txn if is_txn else put).SerializeToString()
    entry = encode_request("txn" if is_txn else "put", body, RequestIds(7, 1_700_000_000_000), Identity("alice", 7))
    data = changed(entry, changes)
    try:
        decoded = decode_request(data)
    except UnsupportedRequest:
        return
    if decoded.small is not None:
        parsed = internal_pb2.InternalRaftRequest.FromString(data)
        assert getattr(parsed, decoded.field) == decoded.message
        assert (parsed.header.username, parsed.header.auth_revision) == (decoded.identity.username, decoded.identity.revision)
        assert len(parsed.ListFields()) == 2


@examples(1000)
@given(PUTS, st.booleans(), st.lists(CHANGES, max_size=2))
def test_a_put_is_taken_only_if_it_is_canonical(put: rpc_pb2.PutRequest, ignore_lease: bool, changes: list[Change]) -> None:
    put.ignore_lease = ignore_lease
    body = changed(put.SerializeToString(), changes)
    small = read_small_put(body)
    if small is None:
        assert changes or put.prev_kv or put.ignore_lease
        return
    parsed = rpc_pb2.PutRequest.FromString(body)
    check_put(parsed)
    assert canonical_encoding(parsed) == body
    assert small.request() == parsed
    assert (small.key, small.value, small.lease) == (parsed.key, parsed.value, parsed.lease)
    assert small.cost(KEY_OVERHEAD_BYTES) == put_cost(parsed)
    assert [parsed.prev_kv, parsed.ignore_lease, parsed.ignore_value] == [False] * 3


@examples(200)
@given(st.lists(PUTS, max_size=12))
def test_a_small_put_leaves_the_same_state(puts: list[rpc_pb2.PutRequest]) -> None:
    members = Member(), Member()
    for member in members:
        member.lessor.grant(7, 100)
    for put in puts:
        small = read_small_put(put.SerializeToString())
        if small is None:
            continue
        errors: list[str] = []
        for apply in (lambda small=small: members[0].store.small_put(small), lambda put=put: members[1].store.put(put)):
            try:
                apply()
                errors.append("")
            except RequestError as error:
                errors.append(error.message)
        assert errors[0] == errors[1]
    assert_equal(*members)


RANGES = st.builds(
    rpc_pb2.RangeRequest,
    key=st.one_of(KEYS, st.just(b"")),
    range_end=st.sampled_from([b""] * 5 + [b"z"]),
    serializable=st.booleans(),
    limit=st.sampled_from([0] * 5 + [1]),
    revision=st.sampled_from([0] * 5 + [1]),
    keys_only=st.sampled_from([False] * 5 + [True]),
)


@examples(500)
@given(RANGES, st.lists(CHANGES, max_size=2))
def test_a_range_is_taken_only_if_it_reads_one_key_as_it_is_now(request: rpc_pb2.RangeRequest, changes: list[Change]) -> None:
    body = changed(request.SerializeToString(), changes)
    small = read_small_range(body)
    if small is not None:
        parsed = rpc_pb2.RangeRequest.FromString(body)
        check_range(parsed)
        assert small.request() == parsed == rpc_pb2.RangeRequest(key=small.key, serializable=small.is_serializable)
        assert canonical_encoding(parsed) == body
    elif not changes and request.key:
        assert request.range_end or request.limit or request.revision or request.keys_only
