from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise

import google_crc32c
import pytest

from tercet.errors import COMPACTED, FUTURE_REVISION, RequestError
from tercet.mvcc import CompactionHashes, KVHash, Store, hash_all, hash_kv, whole_answer, whole_apply
from tercet.mvcc.encoding import encode_revision_key, main_of
from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Bucket
from tests.mvcc.dict_backend import DictBackend


def filled(puts: int, keys: int) -> Store:
    store = Store(DictBackend())
    for number in range(puts):
        store.put(rpc_pb2.PutRequest(key=b"%05d" % (number % keys), value=b"v"))
    return store


def stored_revisions(store: Store) -> list[str]:
    """The main revisions in the backend; `x` marks a tombstone."""
    return [f"{main_of(key)}{'x' if len(key) == 18 else ''}" for key, _ in store.backend.scan(Bucket.KEY)]


def finish(store: Store) -> None:
    while store.compaction_step():
        pass


def test_c1_which_revisions_may_be_compacted() -> None:
    store = filled(3, 1)
    for revision, error in [(-1, COMPACTED), (5, FUTURE_REVISION)]:
        with pytest.raises(RequestError) as caught:
            store.compact(revision)
        assert caught.value is error
    store.compact(0)
    store.compact(2)
    for revision in (0, 1, 2, -7):
        with pytest.raises(RequestError) as caught:
            store.compact(revision)
        assert caught.value is COMPACTED
    store.compact(4)
    assert (store.revision, store.compact_revision) == (4, 4)


def test_c2_a_compaction_takes_effect_before_revisions_are_removed() -> None:
    store = filled(4, 1)
    store.compact(4)
    assert stored_revisions(store) == ["2", "3", "4", "5"]
    with pytest.raises(RequestError) as caught:
        whole_answer(store.range(rpc_pb2.RangeRequest(key=b"00000", revision=3)))
    assert caught.value is COMPACTED
    assert (
        rpc_pb2.RangeResponse.FromString(whole_answer(store.range(rpc_pb2.RangeRequest(key=b"00000", revision=4)))).count == 1
    )


def test_c3_which_revisions_a_compaction_keeps() -> None:
    store = Store(DictBackend())
    for key, delete in [(b"a", 0), (b"a", 0), (b"b", 0), (b"b", 1), (b"c", 0), (b"c", 1), (b"a", 0), (b"d", 0)]:
        if delete:
            whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=key)))
        else:
            store.put(rpc_pb2.PutRequest(key=key))
    assert stored_revisions(store) == ["2", "3", "4", "5x", "6", "7x", "8", "9"]
    store.compact(7)
    finish(store)
    assert stored_revisions(store) == ["3", "7x", "8", "9"]
    store.compact(8)
    finish(store)
    assert stored_revisions(store) == ["8", "9"]
    store.index.check()


def test_c4_slices_are_bounded_for_many_keys_and_for_long_histories() -> None:
    for puts, keys in [(5000, 1), (5000, 2500), (5000, 3)]:
        store = filled(puts, keys)
        store.compact(store.revision)
        left = [len(stored_revisions(store))]
        while store.compaction_step(limit=1000):
            left.append(len(stored_revisions(store)))
        assert max(before - after for before, after in pairwise(left)) <= 1000
        assert len(stored_revisions(store)) == keys
        assert store.finished_compact_revision == store.compact_revision == store.revision
        store.index.check()
    assert store.compaction_step() is False


def test_a_compaction_begins_without_a_walk_over_the_keys() -> None:
    class NotWalked(dict[bytes, bytes | bytearray]):
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("a million keys are no work for one turn")

        __reversed__ = __iter__

    store = filled(50, 10)
    for shard in store.index._shards:
        shard.past = NotWalked(shard.past)
    store.compact(40)
    finish(store)
    assert stored_revisions(store) == [str(revision) for revision in range(31, 52)]


def test_keys_with_a_past_are_visited_by_every_compaction() -> None:
    """Also those that kept a past, got one during a compaction, or belong to an unfinished one."""
    store = filled(50, 10)
    for revision in range(5, 50, 5):
        store.compact(revision)
        store.compaction_step(limit=3)
        store.put(rpc_pb2.PutRequest(key=b"new %d" % (revision % 2)))
        whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=b"new 1")))
        store.index.check()
    store.compact(store.revision)
    finish(store)
    assert len(stored_revisions(store)) == len(store.index) + (store.index.version(b"new 1") == 0)
    store.index.check()


def test_c5_a_compaction_resumes_after_a_restart() -> None:
    store = filled(50, 10)
    store.compact(40)
    assert store.compaction_step(limit=3)
    for _ in range(3):
        store = Store(store.backend.reopened())  # type: ignore[attr-defined]
        assert (store.compact_revision, store.finished_compact_revision) == (40, -1)
        store.compaction_step(limit=3)
    finish(store)
    assert store.backend.get(Bucket.META, b"finishedCompactRev") == encode_revision_key(40, 0)
    reopened = Store(store.backend.reopened())  # type: ignore[attr-defined]
    assert (reopened.compact_revision, reopened.finished_compact_revision) == (40, 40)
    assert reopened.compaction_step() is False
    assert stored_revisions(reopened) == [str(revision) for revision in range(31, 52)]


def test_a_later_compaction_replaces_one_in_progress() -> None:
    store = filled(50, 10)
    store.compact(20)
    store.compaction_step(limit=2)
    store.put(rpc_pb2.PutRequest(key=b"00000"))
    store.compact(51)
    finish(store)
    assert stored_revisions(store) == [str(revision) for revision in range(42, 53)]
    assert store.finished_compact_revision == 51


def test_writes_and_reads_continue_during_a_compaction() -> None:
    store = filled(3000, 1500)
    store.compact(store.revision)
    number = 0
    while store.compaction_step(limit=100):
        store.put(rpc_pb2.PutRequest(key=b"%05d" % (number * 37 % 2000), value=b"new"))
        whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=b"%05d" % (number * 41 % 1500))))
        number += 1
    store.index.check()
    at = store.compact_revision
    answer = rpc_pb2.RangeResponse.FromString(
        whole_answer(store.range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", revision=at)))
    )
    assert (answer.count, {kv.value for kv in answer.kvs}) == (1500, {b"v"})


def test_n21_the_hash_of_a_store_without_live_keys_covers_what_compaction_keeps() -> None:
    store = filled(4, 2)
    store.compact(4)
    whole_apply(store.delete_range(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0")))
    hashes = [hash_kv(store.backend.snapshot(), 6, 4).hash]  # type: ignore[attr-defined]
    finish(store)
    assert stored_revisions(store) == ["3", "4", "5", "6x", "6x"]
    hashes.append(google_crc32c.value(b"key" + b"".join(key + pair for key, pair in store.backend.scan(Bucket.KEY))))
    assert hashes[0] == hashes[1]


def test_n23_which_revisions_have_a_hash() -> None:
    store = filled(5, 1)
    store.compact(4)
    assert [store.hash_revision(asked) for asked in (0, 4, 6, -1)] == [6, 4, 6, -1]
    for asked, error in [(3, COMPACTED), (1, COMPACTED), (7, FUTURE_REVISION)]:
        with pytest.raises(RequestError) as caught:
            store.hash_revision(asked)
        assert caught.value is error


def test_n24_hashes_of_the_last_ten_compactions_are_remembered() -> None:
    store, hashes = filled(30, 3), CompactionHashes()
    taken: list[KVHash] = []
    for revision in range(10, 22):
        before = store.compact_revision
        store.compact(revision)
        taken.append(hash_kv(store.backend.snapshot(), revision, before))  # type: ignore[attr-defined]
        hashes.remember(taken[-1])
        finish(store)
    assert [hashes.find(one.revision) for one in taken] == [None, None, *taken[2:]]
    assert (hashes.find(21), hashes.find(12), hashes.find(11)) == (taken[-1], taken[2], None)
    assert (taken[2].revision, taken[2].compact_revision) == (12, 11)


def test_n25_the_hash_of_an_empty_store() -> None:
    assert hash_kv(DictBackend().snapshot(), 1, -1) == KVHash(1084519789, 1, -1)


def test_n30_the_hash_of_the_backend_excludes_what_differs_between_members() -> None:
    store = filled(3, 3)
    before = hash_all(store.backend.snapshot())  # type: ignore[attr-defined]
    for name in (b"consistent_index", b"term", b"storageVersion"):
        store.backend.put(Bucket.META, name, b"1")
        assert hash_all(store.backend.snapshot()) == before  # type: ignore[attr-defined]
    store.backend.put(Bucket.ALARM, b"1", b"")
    assert hash_all(store.backend.snapshot()) != before  # type: ignore[attr-defined]


def test_a_hash_of_large_values_holds_few_of_them() -> None:
    store = filled(0, 0)
    for number in range(100):
        store.backend.put(Bucket.KEY, encode_revision_key(number + 1, 0), bytes(1 << 20))
    view = store.backend.snapshot()  # type: ignore[attr-defined]
    tracemalloc.start()
    try:
        hash_kv(view, 1000, -1)
        hash_all(view)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
