"""Requests that are rejected before they are proposed. T numbers the rules of etcd's txn checks."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    INVALID_SORT_OPTION,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    RequestError,
)
from tercet.mvcc import (
    Budget,
    PutCost,
    PutSearch,
    TxnCheck,
    check_delete,
    check_put,
    check_range,
    check_range_stream,
    check_txn,
    is_read_only,
)
from tercet.mvcc.check import STREAM_FILTERED, STREAM_SORTED
from tercet.proto import rpc_pb2
from tercet.replica.quota import KEY_OVERHEAD_BYTES, txn_cost
from tests.mvcc import plain_check

Range, Put, Delete, Txn, Op = (
    rpc_pb2.RangeRequest,
    rpc_pb2.PutRequest,
    rpc_pb2.DeleteRangeRequest,
    rpc_pb2.TxnRequest,
    rpc_pb2.RequestOp,
)


def put(key: bytes) -> rpc_pb2.RequestOp:
    return Op(request_put=Put(key=key))


def delete(key: bytes, range_end: bytes = b"") -> rpc_pb2.RequestOp:
    return Op(request_delete_range=Delete(key=key, range_end=range_end))


def nested(*success: rpc_pb2.RequestOp, failure: tuple[rpc_pb2.RequestOp, ...] = ()) -> rpc_pb2.RequestOp:
    return Op(request_txn=Txn(success=success, failure=failure))


@pytest.mark.parametrize(
    ("check", "request_", "error"),
    [
        (check_range, Range(), EMPTY_KEY),
        (check_range, Range(sort_order=9), EMPTY_KEY),
        (check_range, Range(key=b"k", sort_order=3), INVALID_SORT_OPTION),
        (check_range, Range(key=b"k", sort_target=5), INVALID_SORT_OPTION),
        (check_range, Range(key=b"k", sort_order=-1), INVALID_SORT_OPTION),
        (check_range_stream, Range(), EMPTY_KEY),
        (check_range_stream, Range(key=b"k", sort_target=9), INVALID_SORT_OPTION),
        (check_range_stream, Range(key=b"k", sort_order=Range.DESCEND), STREAM_SORTED),
        (check_range_stream, Range(key=b"k", sort_order=Range.ASCEND, sort_target=Range.MOD), STREAM_SORTED),
        (check_range_stream, Range(key=b"k", min_mod_revision=1), STREAM_FILTERED),
        (check_range_stream, Range(key=b"k", max_create_revision=-1, sort_order=Range.DESCEND), STREAM_SORTED),
        (check_put, Put(ignore_value=True, value=b"v"), EMPTY_KEY),
        (check_put, Put(key=b"k", ignore_value=True, value=b"v", ignore_lease=True, lease=1), VALUE_PROVIDED),
        (check_put, Put(key=b"k", ignore_lease=True, lease=1), LEASE_PROVIDED),
        (check_delete, Delete(range_end=b"x"), EMPTY_KEY),
    ],
)
def test_the_first_error_is_reported(check: object, request_: Message, error: RequestError) -> None:
    with pytest.raises(RequestError) as caught:
        check(request_)  # type: ignore[operator]
    assert caught.value is error


def test_a_stream_may_ask_for_its_default_order() -> None:
    check_range_stream(Range(key=b"k", sort_order=Range.ASCEND, sort_target=Range.KEY))
    check_range_stream(Range(key=b"k", sort_order=Range.NONE, sort_target=Range.MOD))


@pytest.mark.parametrize(
    ("ops", "collides"),
    [
        ([put(b"k"), put(b"k")], True),  # T20
        ([put(b"k"), put(b"l")], False),
        ([put(b"k"), delete(b"k")], True),  # T21
        ([delete(b"a", b"z"), put(b"k")], True),
        ([delete(b"a", b"k"), put(b"k")], False),
        ([delete(b"k", b"k\0"), put(b"k")], True),
        ([delete(b"a", b"c"), delete(b"b", b"d"), delete(b"x"), put(b"cc")], True),
        ([delete(b"a", b"z"), delete(b"b", b"c"), put(b"k")], True),
        ([delete(b"k"), delete(b"k"), delete(b"a", b"z")], False),  # T22
        ([nested(put(b"k")), put(b"k")], True),  # T24
        ([nested(put(b"k")), delete(b"k")], True),
        ([nested(put(b"k")), nested(put(b"k"))], True),
        ([nested(put(b"k"), failure=(put(b"k"),))], False),
        ([nested(put(b"k"), failure=(put(b"k"),)), nested(failure=(put(b"k"),))], True),
        ([nested(nested(put(b"k"))), put(b"k")], True),
        ([nested(delete(b"k")), put(b"k")], True),  # T25
        ([nested(delete(b"k")), nested(put(b"k"))], True),
        ([nested(put(b"k")), nested(delete(b"k"))], False),
        ([delete(b"a", b"\0"), put(b"k")], False),  # T26
        ([delete(b"k", b"\0"), put(b"k")], False),
        ([delete(b"k", b"a"), put(b"k")], False),
    ],
)
def test_a_key_is_changed_at_most_once_in_a_txn(ops: list[rpc_pb2.RequestOp], collides: bool) -> None:
    for request in (Txn(success=ops), Txn(failure=ops)):
        if collides:
            with pytest.raises(RequestError) as caught:
                check_txn(request, 128)
            assert caught.value is DUPLICATE_KEY
        else:
            check_txn(request, 128)


def test_branches_may_change_the_same_key() -> None:
    check_txn(Txn(success=[put(b"k")], failure=[put(b"k")]), 128)  # T23


@pytest.mark.parametrize(
    ("outer", "inner", "allowed"),
    [(1, 127, True), (1, 128, False), (64, 64, True), (64, 65, False), (128, 0, True), (129, 0, False)],
)
def test_operations_are_counted_along_the_nesting(outer: int, inner: int, allowed: bool) -> None:
    ops = [delete(b"k")] * (outer - 1) + [nested(*[delete(b"k")] * inner)]
    if allowed:
        check_txn(Txn(success=ops), 128)
    else:
        with pytest.raises(RequestError) as caught:
            check_txn(Txn(success=ops), 128)
        assert caught.value is TOO_MANY_OPS


def test_the_order_of_a_txns_checks() -> None:
    compare = rpc_pb2.Compare()
    for request, error in [
        (Txn(compare=[compare] * 200), TOO_MANY_OPS),
        (Txn(compare=[compare], success=[Op()]), EMPTY_KEY),
        (Txn(success=[put(b""), Op()]), EMPTY_KEY),
        (Txn(success=[Op()], failure=[put(b"")]), KEY_NOT_FOUND),
        (Txn(success=[put(b"k"), put(b"k")], failure=[put(b"")]), EMPTY_KEY),
        (Txn(success=[Op(request_range=Range(key=b"k", sort_target=9))]), INVALID_SORT_OPTION),
    ]:
        with pytest.raises(RequestError) as caught:
            check_txn(request, 128)
        assert caught.value is error


def test_a_txn_with_many_claims_is_checked_quickly() -> None:
    ops = [delete(b"%05d" % number, b"%05d~" % number) for number in range(0, 20_000, 2)]
    ops += [put(b"%05d" % number) for number in range(1, 20_000, 2)]
    check_txn(Txn(success=ops), 20_000)


def test_txns_are_classified_as_read_only_and_serializable() -> None:
    read = Op(request_range=Range(key=b"k"))
    local = Op(request_range=Range(key=b"k", serializable=True))
    for txn, reads_only, serializable in [
        (Txn(), True, True),
        (Txn(success=[read]), True, False),
        (Txn(success=[local], failure=[read]), True, False),
        (Txn(success=[local], failure=[local]), True, True),
        (Txn(failure=[delete(b"k")]), False, True),
        (Txn(success=[nested(read)]), False, False),  # T12
        (Txn(success=[local, put(b"k"), nested(local)]), False, True),
    ]:
        check = checked_in_slices(txn, 128)
        assert (check.is_read_only, check.is_serializable) == (is_read_only(txn), serializable) == (reads_only, serializable)


def checked_in_slices(txn: rpc_pb2.TxnRequest, max_ops: int) -> TxnCheck:
    """Asserts that no slice does much more than its budget of one operation."""
    check = TxnCheck(txn, max_ops, put_cost=0)
    while True:
        budget = Budget(1)
        is_left = check.step(budget)
        assert budget.left >= -256
        if not is_left:
            return check


def test_the_comparisons_of_a_large_txn_are_checked_in_slices() -> None:
    compare = rpc_pb2.Compare(key=b"k")
    assert checked_in_slices(Txn(compare=[compare] * 1000), 1000).fault is None
    assert checked_in_slices(Txn(compare=[*[compare] * 900, rpc_pb2.Compare()], success=[Op()]), 1000).fault is EMPTY_KEY
    assert checked_in_slices(Txn(compare=[compare] * 256, success=[put(b"")]), 1000).fault is EMPTY_KEY


def test_a_put_is_found_in_slices_wherever_it_stands() -> None:
    read = Op(request_range=Range(key=b"k"))
    for txn, expected in (
        (Txn(), False),
        (Txn(success=[put(b"k")]), True),
        (Txn(failure=[nested(put(b"k"))]), True),
        (Txn(success=[delete(b"k"), nested(read)]), False),
        (Txn(success=[nested(read)] * 1000, failure=[read, nested(read, put(b"k"))]), True),
    ):
        search = PutSearch(txn)
        budget = Budget(100)
        while search.step(budget):
            assert -10 < budget.left <= 0
            budget = Budget(100)
        assert search.found == expected, txn


# The checks in slices, compared with the plain ones.

keys = st.sampled_from([b"a", b"b", b"c", b""])
ends = st.sampled_from([b"", b"b", b"c", b"\0"])
leaves = st.one_of(
    st.builds(lambda key, value: Op(request_put=Put(key=key, value=value)), keys, st.binary(max_size=3)),
    st.builds(lambda key, end: Op(request_delete_range=Delete(key=key, range_end=end)), keys, ends),
    st.builds(lambda key, order: Op(request_range=Range(key=key, sort_order=order)), keys, st.sampled_from([0, 1, 9])),
    st.builds(lambda key: Op(request_put=Put(key=key)), st.binary(min_size=1, max_size=2)),
    st.just(Op()),
)
txns = st.recursive(
    leaves,
    lambda ops: st.builds(
        lambda compares, success, failure: nested_txn(compares, success, failure),
        st.lists(keys, max_size=1),
        st.lists(ops, max_size=4),
        st.lists(ops, max_size=3),
    ),
    max_leaves=20,
)


def nested_txn(compares: list[bytes], success: list[rpc_pb2.RequestOp], failure: list[rpc_pb2.RequestOp]) -> rpc_pb2.RequestOp:
    txn = Txn(compare=[rpc_pb2.Compare(key=key) for key in compares], success=success, failure=failure)
    return Op(request_txn=txn)


@given(st.lists(txns, max_size=5), st.lists(txns, max_size=3), st.integers(1, 8), st.sampled_from([1, 7, 1000]))
def test_checks_in_slices_find_the_errors_of_the_plain_checks(
    success: list[rpc_pb2.RequestOp], failure: list[rpc_pb2.RequestOp], max_ops: int, work: int
) -> None:
    request = Txn(success=success, failure=failure)
    expected = None
    try:
        plain_check.check_txn(request, max_ops)
    except RequestError as error:
        expected = error
    check = TxnCheck(request, max_ops, put_cost=KEY_OVERHEAD_BYTES)
    while check.step(Budget(work)):
        pass
    assert check.fault is expected
    assert check.cost == txn_cost(request)
    costs = PutCost(request, put_cost=KEY_OVERHEAD_BYTES)
    while costs.step(Budget(work)):
        pass
    assert costs.cost == txn_cost(request)


def test_a_large_nested_txn_is_checked_in_bounded_slices() -> None:
    request = Txn()
    for level in range(40):
        puts = [Op(request_put=Put(key=b"%d/%d" % (level, number))) for number in range(100)]
        request = Txn(success=[Op(request_txn=request), Op(request_delete_range=Delete(key=b"x", range_end=b"y")), *puts])
    check = TxnCheck(request, 128 * 40, put_cost=0)
    slices = 1
    while True:
        budget = Budget(500)
        if not check.step(budget):
            break
        assert budget.left > -600
        slices += 1
    assert check.fault is None
    assert slices > 40 * 100 * 4 // 500
