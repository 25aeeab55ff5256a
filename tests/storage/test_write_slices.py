"""What is written in slices: each is bounded by its number of changes and by the bytes of its values."""

from __future__ import annotations

import asyncio
import tracemalloc
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_commit import DISCARD_BYTES, DISCARD_OPERATIONS, SLICE_OPERATIONS
from tercet.storage.lmdb_rebuild import SLICE_BYTES, stage
from tercet.storage.write_buffer import BUFFER_OPERATIONS, new_buffer, slices
from tests.storage.lmdb_harness import committed, key, make, run

OPERATIONS, SIZE = 4, 100
values = st.none() | st.integers(0, 120).map(bytes)


@given(st.dictionaries(st.binary(max_size=3), values, max_size=30), st.dictionaries(st.binary(max_size=3), values, max_size=10))
def test_slices_hold_every_change_once_and_are_bounded(
    keys: dict[bytes, bytes | None], leases: dict[bytes, bytes | None]
) -> None:
    buffer = new_buffer()
    buffer[Bucket.KEY].update(keys)
    buffer[Bucket.LEASE].update(leases)
    found = new_buffer()
    for part in slices(buffer, OPERATIONS, SIZE):
        put_sizes = [len(value) for _, puts, _ in part for _, value in puts]
        assert 1 <= len(put_sizes) + sum(len(deletes) for _, _, deletes in part) <= OPERATIONS
        assert sum(put_sizes[:-1]) < SIZE
        for bucket, puts, deletes in part:
            assert puts or deletes
            again = [*puts, *((key, None) for key in deletes)]
            assert not found[bucket].keys() & dict(again).keys()
            found[bucket].update(again)
    assert found == buffer


def test_a_database_of_large_values_is_staged_with_few_of_them_in_memory(tmp_path: Path) -> None:
    items = ((Bucket.KEY, b"%03d" % number, bytes(1 << 20)) for number in range(48))
    tracemalloc.start()
    try:
        staged = stage(str(tmp_path / "staged"), items, (5, 1), map_bytes=1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 4 * SLICE_BYTES
    finally:
        tracemalloc.stop()
    staged.discard()


def test_a_large_commit_is_flushed_in_slices(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path, batch_seconds=3600, batch_operations=1 << 30)
        turns = 0
        done = asyncio.Event()
        for number in range(4 * SLICE_OPERATIONS):
            backend.put(Bucket.KEY, key(number), b"v")
        backend.applied(1, 1)
        backend.commit(done.set)
        while not done.is_set():
            backend.put(Bucket.META, b"turns", b"%d" % turns)
            backend.applied(1, 1)
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 4
        assert backend.get(Bucket.META, b"turns") == b"%d" % (turns - 1)
        backend.close()

    run(test)


def test_a_large_buffer_is_freed_in_slices(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        for number in range(3 * DISCARD_OPERATIONS):
            backend.put(Bucket.KEY, key(number), b"v")
        buffer = backend._active
        backend.applied(1, 1)
        lefts = [len(buffer[Bucket.KEY])]
        while lefts[-1] > DISCARD_OPERATIONS:
            await asyncio.sleep(0)
            lefts.append(len(buffer[Bucket.KEY]))
        await committed(backend)
        assert max(before - after for before, after in pairwise(lefts)) <= DISCARD_OPERATIONS
        assert backend.get(Bucket.KEY, key(5)) == b"v"
        backend.close()

    run(test)


def test_large_values_are_freed_in_slices(tmp_path: Path) -> None:
    """To free 300 of 1 MiB at once takes 60 ms."""

    async def test() -> None:
        backend = make(tmp_path)
        for number in range(5):
            backend.put(Bucket.KEY, key(number), bytes(DISCARD_BYTES // 2 + 1))
        values = backend._active[Bucket.KEY]
        backend.applied(1, 1)
        lefts = [len(values)]
        while lefts[-1]:
            await asyncio.sleep(0)
            lefts.append(len(values))
        await committed(backend)
        assert max(before - after for before, after in pairwise(lefts)) <= 2
        backend.close()

    run(test)


def test_no_buffer_grows_large_however_large_an_entry_is(tmp_path: Path) -> None:
    """And the newest change of a key is read, whichever buffers hold it."""

    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, key(0), b"committed")
        backend.applied(1, 1)
        await committed(backend)
        count = 2 * BUFFER_OPERATIONS + 1000
        for number in range(count):
            backend.put(Bucket.KEY, key(number), b"first")
        for number in range(0, count, 1000):
            backend.put(Bucket.KEY, key(number), b"last")
        backend.delete(Bucket.KEY, key(5))
        buffers = [backend._active, *backend._older]
        assert len(buffers) == 3
        assert max(len(buffer[Bucket.KEY]) for buffer in buffers) <= BUFFER_OPERATIONS

        def check() -> None:
            assert [backend.get(Bucket.KEY, key(number)) for number in (0, 5, 6, 1000)] == [b"last", None, b"first", b"last"]
            some = list(backend.scan(Bucket.KEY, key(0), key(8)))
            assert some == [(key(number), b"last" if number == 0 else b"first") for number in (0, 1, 2, 3, 4, 6, 7)]

        check()
        backend.applied(2, 1)  # begins a commit
        check()
        backend.put(Bucket.KEY, key(6), b"later")
        assert backend.get(Bucket.KEY, key(6)) == b"later"
        backend.put(Bucket.KEY, key(6), b"first")
        backend.applied(3, 1)
        await committed(backend)
        check()
        assert not backend._older
        backend.close()

    run(test)
