"""One test per rule of etcd's semantics, since a random history does not show which rule broke.

The rules are numbered by area: M revisions, P Put, R Range, T Txn, D DeleteRange, W events.
"""

from __future__ import annotations

from typing import Any

import pytest

from tercet.errors import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND, RequestError
from tercet.mvcc import Store, whole_apply
from tercet.mvcc.encoding import encode_revision_key
from tercet.proto import kv_pb2, rpc_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend
from tests.mvcc.member import Member
from tests.mvcc.watching import Change, Client, Watched

Range, Put, Delete, Txn, Op, Compare = (
    rpc_pb2.RangeRequest,
    rpc_pb2.PutRequest,
    rpc_pb2.DeleteRangeRequest,
    rpc_pb2.TxnRequest,
    rpc_pb2.RequestOp,
    rpc_pb2.Compare,
)


@pytest.fixture
def member() -> Member:
    return Member()


def put(member: Member, key: bytes, value: bytes = b"v", **options: Any) -> Any:
    return member.call(Put(key=key, value=value, **options))


def get(member: Member, key: bytes, range_end: bytes = b"", **options: Any) -> Any:
    return member.call(Range(key=key, range_end=range_end, **options))


def refused(error: RequestError) -> tuple[int, str]:
    return int(error.code), error.message


def test_m1_an_empty_store_is_at_revision_1(member: Member) -> None:
    assert get(member, b"k").header.revision == 1
    assert put(member, b"k").header.revision == 2


def test_m2_changes_of_one_request_share_a_revision_and_are_stored_in_order(member: Member) -> None:
    member.call(Txn(success=[Op(request_put=Put(key=key)) for key in (b"b", b"a", b"c")]))
    filed = [(key, kv_pb2.KeyValue.FromString(pair).key) for key, pair in member.backend.scan(Bucket.KEY)]
    assert filed == [(encode_revision_key(2, sub), key) for sub, key in enumerate([b"b", b"a", b"c"])]


def test_m3_m4_create_mod_and_version(member: Member) -> None:
    put(member, b"k")
    put(member, b"k")
    assert get(member, b"k").kvs == [kv_pb2.KeyValue(key=b"k", create_revision=2, mod_revision=3, version=2, value=b"v")]
    member.call(Delete(key=b"k"))
    put(member, b"k")
    assert get(member, b"k").kvs == [kv_pb2.KeyValue(key=b"k", create_revision=5, mod_revision=5, version=1, value=b"v")]


def test_m5_requests_that_change_nothing_use_no_revision(member: Member) -> None:
    member.call(Delete(key=b"\0", range_end=b"\0"))
    member.call(Txn(success=[Op(request_delete_range=Delete(key=b"k")), Op(request_txn=Txn())]))
    member.call(rpc_pb2.LeaseGrantRequest(ID=7, TTL=10))
    member.call(rpc_pb2.LeaseRevokeRequest(ID=7))
    assert member.store.revision == 1


def test_m6_a_revoke_deletes_keys_in_order_at_one_revision(member: Member) -> None:
    member.call(rpc_pb2.LeaseGrantRequest(ID=7, TTL=10))
    for key in (b"c", b"a", b"b"):
        put(member, key, lease=7)
    assert member.call(rpc_pb2.LeaseRevokeRequest(ID=7)).header.revision == 5
    deleted = [kv_pb2.KeyValue.FromString(pair).key for key, pair in member.backend.scan(Bucket.KEY, encode_revision_key(5, 0))]
    assert deleted == [b"a", b"b", b"c"]
    assert get(member, b"\0", b"\0").count == 0


def test_p1_prev_kv(member: Member) -> None:
    assert not put(member, b"k", b"1", prev_kv=True).HasField("prev_kv")
    assert put(member, b"k", b"2", prev_kv=True).prev_kv.value == b"1"


def test_p2_to_p4_lease_ignore_value_and_ignore_lease(member: Member) -> None:
    for lease in (7, -3):
        member.call(rpc_pb2.LeaseGrantRequest(ID=lease, TTL=10))
    # the lease is checked before the missing key
    assert put(member, b"k", lease=99, ignore_value=True, value=b"") == refused(LEASE_NOT_FOUND)
    assert put(member, b"k", b"", ignore_value=True) == refused(KEY_NOT_FOUND)
    assert put(member, b"k", ignore_lease=True) == refused(KEY_NOT_FOUND)
    assert member.store.revision == 1
    put(member, b"k", b"1", lease=7)
    put(member, b"k", b"2", ignore_lease=True)
    assert (get(member, b"k").kvs[0].value, get(member, b"k").kvs[0].lease) == (b"2", 7)
    put(member, b"k", b"", ignore_value=True, lease=-3)  # moves to the other lease
    assert (get(member, b"k").kvs[0].value, dict(member.lessor.leased.items())) == (b"2", {b"k": -3})
    put(member, b"k", b"", ignore_value=True)  # detaches from the lease
    assert (get(member, b"k").kvs[0].lease, dict(member.lessor.leased.items())) == (0, {})
    put(member, b"k", b"", ignore_value=True, ignore_lease=True)
    assert get(member, b"k").kvs[0].version == 5


def test_r1_to_r5_key_and_range_end(member: Member) -> None:
    for key in (b"\0", b"a", b"a\0", b"b", b"\xff"):
        put(member, key)
    found = {
        name: [kv.key for kv in get(member, *name).kvs] for name in [(b"a", b""), (b"a", b"\0"), (b"\0", b"\0"), (b"a", b"b")]
    }
    assert found == {
        (b"a", b""): [b"a"],
        (b"a", b"\0"): [b"a", b"a\0", b"b", b"\xff"],
        (b"\0", b"\0"): [b"\0", b"a", b"a\0", b"b", b"\xff"],
        (b"a", b"b"): [b"a", b"a\0"],
    }
    assert get(member, b"b", b"a").count == get(member, b"b", b"b").count == 0


def test_r7_r8_limit_more_and_count(member: Member) -> None:
    for key in (b"a", b"b", b"c"):
        put(member, key)
    for limit, keys, more in [(0, 3, False), (-1, 3, False), (2, 2, True), (3, 3, False), (4, 3, False)]:
        answer = get(member, b"\0", b"\0", limit=limit)
        assert (len(answer.kvs), answer.more, answer.count) == (keys, more, 3)
    filtered = get(member, b"\0", b"\0", limit=1, min_mod_revision=3)
    assert ([kv.key for kv in filtered.kvs], filtered.more, filtered.count) == ([b"b"], True, 3)  # R12
    assert not get(member, b"\0", b"\0", limit=1, min_mod_revision=4).more


def test_r9_to_r11_counts_and_keys_only(member: Member) -> None:
    member.call(rpc_pb2.LeaseGrantRequest(ID=7, TTL=10))
    put(member, b"a", b"2", lease=7)
    put(member, b"b", b"1")
    counted = get(member, b"\0", b"\0", count_only=True, limit=1, max_mod_revision=-1)
    assert (list(counted.kvs), counted.more, counted.count) == ([], False, 2)
    bare = get(member, b"\0", b"\0", keys_only=True).kvs
    assert [(kv.key, kv.value, kv.lease, kv.version) for kv in bare] == [(b"a", b"", 0, 1), (b"b", b"", 0, 1)]
    by_value = get(member, b"\0", b"\0", keys_only=True, sort_target=Range.VALUE).kvs
    assert [(kv.key, kv.value, kv.lease) for kv in by_value] == [(b"b", b"", 0), (b"a", b"", 7)]


def test_r14_a_sort_target_without_an_order_sorts_after_the_limit(member: Member) -> None:
    for key in (b"s/d", b"s/a", b"s/b", b"s/c"):
        put(member, key)
    for order, first in [(Range.NONE, b"s/a"), (Range.ASCEND, b"s/d"), (Range.DESCEND, b"s/c")]:
        answer = get(member, b"s/", b"s0", sort_target=Range.MOD, sort_order=order, limit=1)
        assert ([kv.key for kv in answer.kvs], answer.more) == ([first], True)
    assert [kv.key for kv in get(member, b"s/", b"s0", sort_order=Range.DESCEND, limit=2).kvs] == [b"s/d", b"s/c"]


def test_r15_ties_keep_key_order(member: Member) -> None:
    keys = [b"%02d" % number for number in range(30)]
    for key in reversed(keys):
        put(member, key)
    for order in (Range.ASCEND, Range.DESCEND):
        assert [kv.key for kv in get(member, b"\0", b"\0", sort_order=order, sort_target=Range.VERSION).kvs] == keys


def test_r16_r17_reads_at_earlier_revisions(member: Member) -> None:
    put(member, b"k", b"1")
    put(member, b"k", b"2")
    member.call(Delete(key=b"k"))
    assert [get(member, b"k", revision=at).count for at in (1, 2, 3, 4, 0, -9)] == [0, 1, 1, 0, 0, 0]
    assert get(member, b"k", revision=2).kvs[0] == kv_pb2.KeyValue(
        key=b"k", create_revision=2, mod_revision=2, version=1, value=b"1"
    )
    assert get(member, b"k", revision=5) == refused(FUTURE_REVISION)
    member.store.compact(3)
    assert get(member, b"k", revision=2, count_only=True) == refused(COMPACTED)
    assert get(member, b"k", revision=3).kvs[0].value == b"2"
    assert get(member, b"k", revision=3).header.revision == 4


@pytest.mark.parametrize("writes", [10, 3000])
def test_the_count_of_a_page_at_an_earlier_revision_is_right(member: Member, writes: int) -> None:
    """The count is the current one corrected by later changes, or, after many changes, made by a scan."""
    for number in range(1000):
        put(member, b"k/%04d" % number)
    at = member.store.revision
    for number in range(writes):
        put(member, b"k/%04d" % (number * 7 % 2000))
        put(member, b"outside/%d" % number)
        member.call(Delete(key=b"k/%04d" % (number * 11 % 2000)))
    for start in (0, 500):
        answer = get(member, b"k/%04d" % start, b"k0", revision=at, limit=5)
        assert [kv.key for kv in answer.kvs] == [b"k/%04d" % (start + number) for number in range(5)]
        assert (answer.count, answer.more) == (1000 - start, True)


@pytest.mark.parametrize(
    ("target", "result", "holds"),
    [
        (Compare.VERSION, Compare.EQUAL, True),
        (Compare.CREATE, Compare.EQUAL, True),
        (Compare.MOD, Compare.NOT_EQUAL, False),
        (Compare.LEASE, Compare.LESS, False),
        (Compare.VALUE, Compare.EQUAL, False),
        (Compare.VALUE, Compare.NOT_EQUAL, False),
        (9, Compare.EQUAL, True),
        (9, Compare.GREATER, False),
        (Compare.MOD, 9, True),
    ],
)
@pytest.mark.parametrize("range_end", [b"", b"\0"])
def test_t2_t4_an_absent_key_compares_as_zero_but_has_no_value(
    member: Member, target: int, result: int, holds: bool, range_end: bytes
) -> None:
    compare = Compare(key=b"k", range_end=range_end, target=target, result=result)  # type: ignore[arg-type]
    assert member.call(Txn(compare=[compare])).succeeded is holds


def test_t5_a_compare_must_hold_for_every_key_of_its_range(member: Member) -> None:
    put(member, b"a", b"1")
    put(member, b"b", b"2")
    for value, holds in [(b"0", True), (b"1", False)]:
        compare = Compare(key=b"a", range_end=b"\0", target=Compare.VALUE, result=Compare.GREATER, value=value)
        assert member.call(Txn(compare=[compare])).succeeded is holds


def test_t6_t7_t8_compares_see_the_state_before_and_operations_see_each_other(member: Member) -> None:
    absent = Compare(key=b"a", target=Compare.VERSION, version=0)
    inner = Txn(compare=[absent], success=[Op(request_range=Range(key=b"\0", range_end=b"\0"))])
    answer = member.call(
        Txn(
            success=[
                Op(request_put=Put(key=b"a")),
                Op(request_txn=inner),
                Op(request_put=Put(key=b"b")),
                Op(request_range=Range(key=b"a", range_end=b"\0", count_only=True)),
            ]
        )
    )
    nested = answer.responses[1].response_txn
    assert (nested.succeeded, nested.responses[0].response_range.count) == (True, 1)
    assert answer.responses[3].response_range.count == 2
    assert {kv.mod_revision for kv in get(member, b"a", b"\0").kvs} == {2}


def test_t9_a_rejected_txn_writes_nothing(member: Member) -> None:
    put(member, b"k")
    for last, error in [
        (Op(request_range=Range(key=b"k", revision=3)), FUTURE_REVISION),  # T11: its own revision is in the future
        (Op(request_range=Range(key=b"k", revision=-5)), COMPACTED),
        (Op(request_put=Put(key=b"l", lease=9)), LEASE_NOT_FOUND),
        (Op(request_put=Put(key=b"l", ignore_value=True)), KEY_NOT_FOUND),
    ]:
        request = Txn(success=[Op(request_put=Put(key=b"a")), last], failure=[Op(request_put=Put(key=b"l", lease=9))])
        assert member.call(request) == refused(error)
        assert (member.store.revision, get(member, b"\0", b"\0").count) == (2, 1)
    fine = [Op(request_range=Range(key=b"k", revision=revision)) for revision in (-1, 0, 2)]
    assert len(member.call(Txn(success=fine)).responses) == 3


def test_t10_inner_headers_hold_only_the_revision(member: Member) -> None:
    read, write = Op(request_range=Range(key=b"k")), Op(request_put=Put(key=b"k"))
    answer = member.call(Txn(success=[read, Op(request_txn=Txn(success=[read])), write, read]))
    inner = [getattr(response, response.WhichOneof("response")).header for response in answer.responses]
    assert [header.revision for header in inner] == [1, 0, 2, 2]
    assert answer.responses[1].response_txn.HasField("header")
    assert answer.responses[1].response_txn.responses[0].response_range.header.revision == 1


def test_t26_a_key_deleted_and_put_at_one_revision(member: Member) -> None:
    put(member, b"k", b"1")
    member.call(Txn(success=[Op(request_delete_range=Delete(key=b"a", range_end=b"\0")), Op(request_put=Put(key=b"k"))]))
    assert get(member, b"k").kvs[0] == kv_pb2.KeyValue(key=b"k", create_revision=3, mod_revision=3, version=1)
    member.call(Txn(success=[Op(request_put=Put(key=b"k")), Op(request_delete_range=Delete(key=b"a", range_end=b"\0"))]))
    assert get(member, b"k").count == 0
    for _ in range(2):  # before and after a restart
        assert [get(member, b"k", revision=at).count for at in (1, 2, 3, 4)] == [0, 1, 1, 0]
        member = Member(member.backend.reopened())


def test_a_put_that_ignores_the_value_of_a_key_its_txn_deleted_is_rejected(member: Member) -> None:
    """A real etcd crashes on this request."""
    put(member, b"k")
    request = Txn(
        success=[
            Op(request_delete_range=Delete(key=b"a", range_end=b"\0")),
            Op(request_txn=Txn(success=[Op(request_put=Put(key=b"k", ignore_value=True))])),
        ]
    )
    assert member.call(request) == refused(KEY_NOT_FOUND)
    assert get(member, b"k").count == 1


def test_an_empty_operation_in_the_log_does_nothing() -> None:
    store = Store(DictBackend())
    body = whole_apply(store.txn(Txn(success=[Op(), Op(request_put=Put(key=b"k"))])))
    responses = rpc_pb2.TxnResponse.FromString(body).responses
    assert [response.WhichOneof("response") for response in responses] == [None, "response_put"]


def test_d1_to_d4_deletes(member: Member) -> None:
    member.call(rpc_pb2.LeaseGrantRequest(ID=7, TTL=10))
    for key in (b"b", b"a", b"c"):
        put(member, key, lease=7)
    answer = member.call(Delete(key=b"a", range_end=b"c", prev_kv=True))
    assert (answer.deleted, [kv.key for kv in answer.prev_kvs], answer.header.revision) == (2, [b"a", b"b"], 5)
    assert dict(member.lessor.leased.items()) == {b"c": 7}
    stones = list(member.backend.scan(Bucket.KEY, encode_revision_key(5, 0)))
    assert stones == [(encode_revision_key(5, 0) + b"t", b"\n\1a"), (encode_revision_key(5, 1) + b"t", b"\n\1b")]
    again = member.call(Delete(key=b"a", range_end=b"c"))
    assert (again.deleted, again.header.revision) == (0, 5)


def test_a_listener_receives_each_change_once_and_in_order() -> None:
    watched = Watched()
    store = watched.store
    client = Client(watched.hub)
    watched.hub.create(client.stream, 0, b"\0", None, 0, 0)
    store.put(Put(key=b"a", value=b"1"))
    whole_apply(store.delete_range(Delete(key=b"x")))
    whole_apply(
        store.txn(
            Txn(
                success=[
                    Op(request_put=Put(key=b"b")),
                    Op(request_delete_range=Delete(key=b"a", range_end=b"b")),
                    Op(request_put=Put(key=b"c")),
                ]
            )
        )
    )
    watched.settle()
    assert client.got(0) == [Change(2, b"a", b"1"), Change(3, b"b", b""), Change(3, b"a", None), Change(3, b"c", b"")]
