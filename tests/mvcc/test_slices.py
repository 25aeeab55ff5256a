"""Work in slices: whatever their size and whatever runs between them, the responses equal those of a single slice."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.containers import SortedKeys
from tercet.errors import RequestError
from tercet.mvcc import Answer, Apply, Budget, Store, whole_answer, whole_apply
from tercet.mvcc.pieces import JOINED_BYTES
from tercet.mvcc.sorted_runs import SortedRuns, sortable_bytes, sortable_int
from tercet.mvcc.work import finish
from tercet.proto import kv_pb2, rpc_pb2
from tests.mvcc.dict_backend import DictBackend
from tests.mvcc.histories import Histories
from tests.mvcc.member import Member
from tests.mvcc.model import Model

Range, Put, Delete, Txn, Op, Compare = (
    rpc_pb2.RangeRequest,
    rpc_pb2.PutRequest,
    rpc_pb2.DeleteRangeRequest,
    rpc_pb2.TxnRequest,
    rpc_pb2.RequestOp,
    rpc_pb2.Compare,
)
ALL = {"key": b"\0", "range_end": b"\0"}


def sliced(answer: bytes | Answer, between: Callable[[], object], work: int = 1) -> bytes:
    """An answer made in slices of `work`; `between` runs after each slice."""
    if isinstance(answer, bytes):
        return answer
    answer.pin()
    while answer.step(Budget(work)):
        between()
    answer.unpin()
    return b"".join(answer.parts)


def apply_sliced(apply: Apply, between: Callable[[], object], work: int = 1) -> bytes:
    apply.is_awaited = True
    while apply.step(Budget(work)):
        between()
    return whole_answer(apply.outcome())


def filled(keys: int) -> Store:
    """A store whose keys have several revisions; some keys are deleted."""
    store, chance = Store(DictBackend()), random.Random(7)
    for number in range(3 * keys):
        store.put(Put(key=b"k/%04d" % chance.randrange(keys), value=b"%d\0%d" % (chance.randrange(9), number)))
        if number % 5 == 0:
            whole_apply(store.delete_range(Delete(key=b"k/%04d" % chance.randrange(keys))))
    return store


def concurrent_writes(store: Store) -> Callable[[], object]:
    """A function that makes one random write or compaction, which a read in progress must not see."""
    chance = random.Random(3)

    def write() -> None:
        key = b"k/%04d" % chance.randrange(60)
        if chance.random() < 0.5:
            store.put(Put(key=key, value=b"later"))
        else:
            whole_apply(store.delete_range(Delete(key=key, range_end=key + b"2")))
        if chance.random() < 0.1 and store.compact_revision < store.revision:
            store.compact(store.revision)
        store.compaction_step(limit=10)

    return write


REQUESTS = [
    Range(**ALL, **options)
    for options in [
        {},
        {"limit": 1},
        {"limit": 7},
        {"count_only": True},
        {"keys_only": True},
        {"sort_order": Range.DESCEND},
        {"sort_order": Range.DESCEND, "limit": 5, "keys_only": True},
        *({"sort_target": target, "sort_order": order} for target in range(1, 5) for order in range(3)),
        *({"sort_target": target, "sort_order": order, "limit": 3} for target in range(1, 5) for order in range(3)),
        {"sort_target": Range.VALUE, "keys_only": True, "limit": 4},
        {"min_mod_revision": 40, "max_mod_revision": 150},
        {"min_create_revision": 40, "max_create_revision": 90, "limit": 4},
        {"max_create_revision": 90, "sort_order": Range.DESCEND, "limit": 4},
        {"min_mod_revision": 40, "sort_target": Range.CREATE, "limit": 4},
    ]
]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
@pytest.mark.parametrize("back", [0, 3, 60])
def test_a_range_is_read_at_one_revision_despite_concurrent_writes(number: int, back: int) -> None:
    request = Range()
    request.CopyFrom(REQUESTS[number])
    store = filled(50)
    request.revision = store.revision - back if back else 0
    expected = whole_answer(store.range(request))
    for work in (1, 3, 50):
        store = filled(50)
        assert sliced(store.range(request), concurrent_writes(store), work) == expected


def test_a_read_only_txn_is_read_at_one_revision() -> None:
    compare = Compare(**ALL, target=Compare.VALUE, result=Compare.NOT_EQUAL, value=b"later")
    old = Range(**ALL, revision=40, limit=3)
    request = Txn(compare=[compare], success=[*(Op(request_range=one) for one in REQUESTS), Op(request_range=old)])
    expected = whole_answer(filled(50).read_txn(request))
    assert rpc_pb2.TxnResponse.FromString(expected).succeeded
    store = filled(50)
    assert sliced(store.read_txn(request), concurrent_writes(store)) == expected


def test_keys_with_long_names_are_deleted_a_few_in_a_slice() -> None:
    """250 of 1 MB took 0.8 s of a turn."""
    for is_lease in (False, True):
        store, keys = Store(DictBackend()), SortedKeys()
        for number in range(40):
            name = b"k%02d" % number + bytes(200_000)
            store.put(Put(key=name))
            keys.add(name)
        apply = store.delete_keys(keys) if is_lease else store.delete_range(Delete(**ALL))
        slices = 1
        while apply.step(Budget(2000)):
            slices += 1
        assert slices >= 10
        assert not rpc_pb2.RangeResponse.FromString(whole_answer(store.range(Range(**ALL)))).kvs


def test_long_names_are_read_a_few_in_a_slice() -> None:
    """100 of 1 MB, without their values, took 0.2 s of a turn."""
    store = Store(DictBackend())
    for number in range(40):
        store.put(Put(key=b"k%02d" % number + bytes(200_000)))
    read = store.range(Range(**ALL, keys_only=True))
    assert isinstance(read, Answer)
    slices = 1
    while read.step(Budget(500)):
        slices += 1
    assert slices >= 4
    assert len(rpc_pb2.RangeResponse.FromString(whole_answer(read)).kvs) == 40


def test_reads_of_a_write_txn_see_the_operations_before_them() -> None:
    request = Txn(
        success=[
            Op(request_range=Range(**ALL)),
            Op(request_delete_range=Delete(key=b"k/0010", range_end=b"k/0030", prev_kv=True)),
            Op(request_range=Range(**ALL, count_only=True)),
            Op(request_put=Put(key=b"k/0001", value=b"new", prev_kv=True)),
            Op(request_txn=Txn(success=[Op(request_range=Range(**ALL, sort_target=Range.VALUE, limit=2))])),
            Op(request_range=Range(**ALL, revision=40)),
        ]
    )
    expected = whole_apply(filled(50).txn(request))
    store = filled(50)
    apply = store.txn(request)
    apply.is_awaited = True
    while apply.step(Budget(1)):
        pass
    assert sliced(apply.outcome(), concurrent_writes(store)) == expected


@pytest.mark.parametrize("work", [1, 20])
def test_a_write_in_many_slices_becomes_visible_at_once(work: int) -> None:
    store = filled(50)
    before = whole_answer(store.range(Range(**ALL)))
    one = whole_answer(store.range(Range(key=b"k/0020")))
    revision = store.revision
    seen = 0

    def look() -> None:
        nonlocal seen
        seen += 1
        assert store.revision == revision
        assert whole_answer(store.range(Range(**ALL))) == before
        assert whole_answer(store.range(Range(key=b"k/0020"))) == one
        count = rpc_pb2.RangeResponse.FromString(whole_answer(store.range(Range(**ALL, count_only=True)))).count
        assert count == rpc_pb2.RangeResponse.FromString(before).count

    writes = [Op(request_put=Put(key=b"n/%03d" % number)) for number in range(30)]
    apply_sliced(store.txn(Txn(success=[*writes, Op(request_delete_range=Delete(**ALL))])), look, work)
    assert seen > 5
    assert store.revision == revision + 1
    assert whole_answer(store.range(Range(**ALL))) == b""
    store.index.check()


@pytest.mark.parametrize("seed", range(8))
def test_histories_in_slices_give_the_models_responses(seed: int) -> None:
    """All kinds of requests, each in slices of random size."""
    histories, model = Histories(4000 + seed), Model()
    chance = histories.random
    member = Member(work=lambda: chance.choice([1, 2, 10, 100]))
    for _ in range(250):
        histories.revision, histories.compacted = model.revision, model.compacted
        request = histories.request()
        assert member.call(request) == model.call(request), request
    member.store.index.check()


def test_members_without_the_client_skip_the_reads_and_write_the_same() -> None:
    request = Txn(
        success=[
            Op(request_range=Range(**ALL)),
            Op(request_put=Put(key=b"a", prev_kv=True)),
            Op(request_delete_range=Delete(key=b"k/0010", range_end=b"k/0030", prev_kv=True)),
        ]
    )
    asked, follower = filled(50), filled(50)
    whole_apply(asked.txn(request))
    apply = follower.txn(request)
    assert not apply.is_awaited
    while apply.step(Budget(100)):
        pass
    assert apply._results == []
    assert dict(follower.backend._buckets) == dict(asked.backend._buckets)  # type: ignore[attr-defined]
    counted = [(store.counts.ranges, store.counts.txns) for store in (asked, follower)]
    assert counted[0] == counted[1]


def test_a_compaction_waits_for_reads_in_progress_and_rejects_new_ones() -> None:
    store = filled(50)
    old = store.revision - 20
    answer = store.range(Range(**ALL, revision=old))
    assert isinstance(answer, Answer)
    assert answer.step(Budget(1))
    answer.pin()
    store.compact(store.revision)
    with pytest.raises(RequestError):
        store.range(Range(**ALL, revision=old))
    size = store.backend.size()
    for _ in range(10):
        assert store.compaction_step(), "it is not done"
    assert store.backend.size() == size
    while answer.step(Budget(1)):
        pass
    answer.unpin()
    while store.compaction_step():
        pass
    assert store.backend.size() < size


@given(st.lists(st.binary(max_size=5)), st.booleans())
def test_sortable_bytes_compare_like_the_values(values: list[bytes], descending: bool) -> None:
    encoded = sorted(values, key=lambda value: sortable_bytes(value, descending=descending) + b"x")
    assert encoded == sorted(values, reverse=descending)


@given(st.lists(st.integers(0, (1 << 64) - 1)), st.booleans(), st.integers(0, 5))
def test_sorted_runs_yield_sorted_order(numbers: list[int], descending: bool, keep: int) -> None:
    runs = SortedRuns(keep)
    for number in numbers:
        runs.add(sortable_int(number, descending=descending))
    wanted = sorted(numbers, reverse=descending)[: keep or len(numbers)]
    assert [runs.next() for _ in wanted] == [sortable_int(number, descending=descending) for number in wanted]


def test_many_runs_are_merged_and_only_the_smallest_items_kept() -> None:
    numbers = list(range(10_000))
    random.Random(1).shuffle(numbers)
    for keep in (0, 5):
        runs = SortedRuns(keep)
        for number in numbers:
            runs.add(sortable_int(number, descending=False))
        assert runs.size_bytes <= (8 * 3000 if keep else 8 * 10_000)
        assert [int.from_bytes(runs.next(), "big") for _ in range(5)] == list(range(5))


def test_records_taken_many_at_a_time_are_all_there_in_order() -> None:
    numbers = list(range(25_000))
    random.Random(2).shuffle(numbers)
    runs = SortedRuns()
    for number in numbers:
        runs.add(sortable_int(number, descending=False))
    taken: list[bytes] = []
    while records := runs.next_many(300):
        assert len(records) <= 300
        taken += records
    assert [int.from_bytes(record, "big") for record in taken] == list(range(25_000))


def test_records_are_freed_as_they_are_taken_and_the_rest_in_slices() -> None:
    """To free a million at once would take a long turn."""
    runs = SortedRuns()
    for number in range(100_000):
        runs.add(sortable_int(number * 7919 % 100_000, descending=False))
    for _ in range(400):
        runs.next_many(100)
    slices = 1
    while runs.discard(budget := Budget(500)):
        slices += 1
        assert budget.left > -500
    assert 2 <= slices <= 60_000 // 16 // 500 + 2
    assert not runs.discard(Budget(1))


def test_a_large_answer_has_few_parts() -> None:
    """To send two parts for each of a million keys would take a long turn."""
    store = Store(DictBackend())
    for number in range(3000):
        store.put(Put(key=b"%05d" % number, value=bytes(100)))
    puts = [rpc_pb2.RequestOp(request_put=Put(key=b"%05d" % number, prev_kv=True)) for number in range(3000)]
    nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=puts))
    txn = store.txn(rpc_pb2.TxnRequest(success=[nested]))
    deletion = store.delete_range(rpc_pb2.DeleteRangeRequest(**ALL, prev_kv=True))
    answers: list[Answer] = []
    for apply in (txn, deletion):
        read = store.range(Range(**ALL))
        assert isinstance(read, Answer)
        finish(read)
        answers.append(read)
        apply.is_awaited = True
        finish(apply)
        outcome = apply.outcome()
        assert isinstance(outcome, Answer)
        finish(outcome)
        answers.append(outcome)
    for answer in answers:
        assert len(answer.parts) <= 2 + sum(map(len, answer.parts)) // JOINED_BYTES


def test_the_work_of_a_slice_is_bounded_by_its_budget() -> None:
    """Keys visited and bytes copied: no slice exceeds its budget by much."""
    store = Store(DictBackend())
    for number in range(3000):
        store.put(Put(key=b"%05d" % number, value=bytes(4096)))
    for options in ({}, {"sort_target": Range.VALUE, "sort_order": Range.ASCEND, "limit": 1}, {"min_mod_revision": 1 << 40}):
        answer = store.range(Range(**ALL, **options))  # type: ignore[arg-type]
        assert isinstance(answer, Answer)
        slices = 1
        while True:
            budget = Budget(500)
            if not answer.step(budget):
                break
            assert -20 < budget.left <= 0
            slices += 1
        assert slices > 5


def test_the_choice_of_branches_is_bounded_by_the_budget() -> None:
    """A Txn without comparisons took all its nested txns in one slice: 160,000 units of work for 40,000 operations."""
    store = Store(DictBackend())
    request = Txn(success=[Op(request_put=Put(key=b"k"))])
    for _ in range(6):
        request = Txn(success=[Op(request_txn=request)] * 4, failure=[Op(request_put=Put(key=b"not"))] * 100)
    apply = store.txn(request)
    slices = 0
    budget = Budget(100)
    while apply.step(budget):
        assert -20 < budget.left <= 0
        budget = Budget(100)
        slices += 1
    assert slices > 4**6 * 4 * 3 // 100
    assert (store.revision, store.index.version(b"k"), store.index.version(b"not")) == (2, 4**6, 0)


def test_values_are_parsed_only_for_what_the_index_does_not_have() -> None:
    """A key that is overwritten during the read is still sorted by its version at the read's revision."""
    store = Store(DictBackend())
    for key in (b"a", b"b", b"b", b"c"):
        store.put(Put(key=key))
    answer = store.range(Range(**ALL, sort_target=Range.VERSION, sort_order=Range.DESCEND))
    assert isinstance(answer, Answer)
    store.put(Put(key=b"a"))
    store.put(Put(key=b"a"))
    found = rpc_pb2.RangeResponse.FromString(whole_answer(answer)).kvs
    assert [(kv.key, kv.version) for kv in found] == [(b"b", 2), (b"a", 1), (b"c", 1)]
    assert kv_pb2.KeyValue(key=b"a", version=1).version == found[1].version
