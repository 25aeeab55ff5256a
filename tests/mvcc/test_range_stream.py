from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tercet.errors import COMPACTED, FUTURE_REVISION, RequestError
from tercet.mvcc import Budget, Store, whole_answer, whole_apply
from tercet.mvcc.range_stream import RangeStream
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint
from tests.mvcc.dict_backend import DictBackend


@pytest.fixture
def store() -> Store:
    store = Store(DictBackend())
    for number in range(1000):
        store.put(rpc_pb2.PutRequest(key=b"k/%04d" % number, value=b"v" * 100))
    return store


def stream(store: Store, bytes_max: int = 1 << 20, work: int = 1 << 30, **options: Any) -> Iterator[rpc_pb2.RangeResponse]:
    """work: the budget of each slice."""
    request = rpc_pb2.RangeRequest(**{"key": b"\0", "range_end": b"\0", **options})
    header = paste_field(1, b"\x18" + varint(store.revision))
    return _messages(store, store.range_stream(request, header=header, bytes_max=bytes_max), work)


def _messages(store: Store, stream: RangeStream, work: int) -> Iterator[rpc_pb2.RangeResponse]:
    while not stream.is_over:
        stream.check_revision(store.compact_revision)
        while stream.step(Budget(work)):
            pass
        yield rpc_pb2.RangeStreamResponse.FromString(stream.message).range_response


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": -1},
        {"limit": 7},
        {"limit": 10},
        {"limit": 11},
        {"limit": 1000},
        {"limit": 2000},
        {"keys_only": True},
        {"count_only": True},
        {"key": b"k/0500", "range_end": b""},
        {"key": b"none", "range_end": b""},
        {"revision": 500},
        {"revision": 500, "limit": 100, "keys_only": True},
        {"revision": 1},
    ],
)
@pytest.mark.parametrize("work", [1, 37, 1 << 30])
def test_s2_s5_the_merged_messages_equal_the_range_response(store: Store, options: dict[str, Any], work: int) -> None:
    merged = rpc_pb2.RangeResponse()
    chunks = list(stream(store, bytes_max=4000, work=work, **options))
    for chunk in chunks[:-1]:
        assert chunk.kvs
        assert (chunk.HasField("header"), chunk.more, chunk.count) == (False, False, 0)
    for chunk in chunks:
        merged.MergeFrom(chunk)
    request = rpc_pb2.RangeRequest(**{"key": b"\0", "range_end": b"\0", **options})
    expected = rpc_pb2.RangeResponse.FromString(whole_answer(store.range(request)))
    expected.header.revision = store.revision
    assert merged == expected


def test_s3_later_writes_are_not_seen(store: Store) -> None:
    chunks = stream(store)
    first = next(chunks)
    store.put(rpc_pb2.PutRequest(key=b"k/0500", value=b"late"))
    store.put(rpc_pb2.PutRequest(key=b"k/0500x", value=b"late"))
    whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=b"k/0600", range_end=b"k/0700")))
    rest = list(chunks)
    kvs = [*first.kvs, *(kv for chunk in rest for kv in chunk.kvs)]
    assert [kv.key for kv in kvs] == [b"k/%04d" % number for number in range(1000)]
    assert {kv.value for kv in kvs} == {b"v" * 100}
    assert (rest[-1].header.revision, rest[-1].count, rest[-1].more) == (1001, 1000, False)


def test_s4_messages_grow_to_the_target_size(store: Store) -> None:
    assert [len(chunk.kvs) for chunk in stream(store, bytes_max=1 << 20)] == [10, 20, 40, 80, 160, 320, 370]
    sizes = [len(chunk.kvs) for chunk in stream(store, bytes_max=10_000)]
    assert (sizes[:5], sum(sizes)) == ([10, 20, 40, 80, 80], 1000)
    assert [len(chunk.kvs) for chunk in stream(store, bytes_max=50)][:6] == [10, 5, 2, 1, 1, 1]


def test_s6_a_compaction_past_the_revision_ends_the_stream(store: Store) -> None:
    chunks = stream(store, revision=500)
    next(chunks)
    store.compact(500)
    next(chunks)
    store.compact(501)
    with pytest.raises(RequestError) as caught:
        next(chunks)
    assert caught.value is COMPACTED


def test_an_unreadable_revision_is_rejected_before_the_first_message(store: Store) -> None:
    store.compact(10)
    for revision, error in [(2000, FUTURE_REVISION), (9, COMPACTED)]:
        with pytest.raises(RequestError) as caught:
            stream(store, revision=revision)
        assert caught.value is error


@pytest.mark.parametrize("target", ["VALUE", "CREATE", "MOD", "VERSION"])
@pytest.mark.parametrize("keys_only", [False, True])
def test_each_message_is_sorted_and_no_key_is_lost_or_sent_twice(target: str, keys_only: bool) -> None:
    """A sort_target without an order: etcd 3.7 sorts each message, but resumes after the last key of the sorted one."""
    store = Store(DictBackend())
    for number in range(40):
        store.put(rpc_pb2.PutRequest(key=b"k%02d" % (number * 7 % 40), value=b"%02d" % (number * 3 % 40)))
    for number in range(0, 40, 3):
        store.put(rpc_pb2.PutRequest(key=b"k%02d" % number, value=b"x%02d" % (40 - number)))
    kind = rpc_pb2.RangeRequest
    chunks = list(stream(store, sort_target=kind.SortTarget.Value(target), keys_only=keys_only))
    whole = rpc_pb2.RangeResponse.FromString(whole_answer(store.range(kind(key=b"\0", range_end=b"\0")))).kvs
    attribute = {"VALUE": "value", "CREATE": "create_revision", "MOD": "mod_revision", "VERSION": "version"}[target]
    places = {kv.key: getattr(kv, attribute) for kv in whole}
    sent = [[(places[kv.key], kv.key) for kv in chunk.kvs] for chunk in chunks]
    assert sent == [sorted(chunk) for chunk in sent]
    assert sorted(kv.key for chunk in chunks for kv in chunk.kvs) == [b"k%02d" % number for number in range(40)]


def test_what_is_sorted_or_stripped_takes_slices_and_a_message_has_a_bounded_number_of_keys(store: Store) -> None:
    """A message of 80,000 tiny keys was sorted or stripped in one step, in 100 ms and more."""

    def work(**options: Any) -> int:
        request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", **options)
        found = store.range_stream(request, header=b"", bytes_max=1 << 20)
        budget = Budget(1 << 20)
        while not found.is_over:
            assert not found.step(budget)
        return (1 << 20) - budget.left

    plain = work()
    assert work(keys_only=True) >= plain + 1000
    assert work(sort_target=rpc_pb2.RangeRequest.VERSION) >= plain + 1000
    found = store.range_stream(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", limit=1), header=b"", bytes_max=1 << 20)
    found._keys = 20_480
    while found.step(Budget(1 << 20)):
        pass
    assert found._keys == 20_480
