"""What is written in slices: each is bounded by its number of changes and by the bytes of its values."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_rebuild import SLICE_BYTES, stage
from tercet.storage.write_buffer import new_buffer, slices

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
