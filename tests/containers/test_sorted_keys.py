"""Sorted keys against a sorted list of Python's."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.containers import SortedKeys
from tercet.containers.sorted_keys import CHUNK_MAX
from tercet.errors import InvariantViolation

numbers = st.integers(min_value=0, max_value=8 * CHUNK_MAX)
limits = st.integers(min_value=1, max_value=2 * CHUNK_MAX)
runs = st.tuples(numbers, st.integers(min_value=1, max_value=3 * CHUNK_MAX), st.sampled_from([1, 2, 7]))
changes = st.lists(st.tuples(st.sampled_from(["add", "remove", "add_run", "remove_run"]), runs), max_size=6)


def key(number: int) -> bytes:
    return b"%06d" % number


def model_after(changed: list[tuple[str, tuple[int, int, int]]], keys: SortedKeys) -> list[bytes]:
    """Apply the changes to `keys` and return what must be left."""
    model: set[bytes] = set(keys.all())
    for kind, (first, count, step) in changed:
        run = [key(number) for number in range(first, first + count * step, step)]
        if kind.startswith("add"):
            run = [one for one in run if one not in model]
            model.update(run)
        else:
            run = [one for one in run if one in model]
            model.difference_update(run)
        if kind == "add_run":
            keys.add_run(run)
        elif kind == "remove_run":
            keys.remove_run(run)
        else:
            for one in run:
                (keys.add if kind == "add" else keys.remove)(one)
        keys.check()
    return sorted(model)


@given(changes, st.lists(st.tuples(numbers, st.none() | numbers, limits), max_size=8))
def test_changes_and_reads_equal_those_of_a_sorted_list(
    changed: list[tuple[str, tuple[int, int, int]]], reads: list[tuple[int, int | None, int]]
) -> None:
    keys = SortedKeys()
    model = model_after(changed, keys)
    assert keys.all() == model
    assert len(keys) == len(model)
    for low, high, limit in reads:
        start, end = key(low), None if high is None else key(high)
        wanted = model[bisect_left(model, start) : len(model) if end is None else bisect_left(model, end)]
        assert keys.first(start, end, limit) == wanted[:limit]
        assert keys.last(start, end, limit) == wanted[::-1][:limit]
        assert keys.count(start, end) == len(wanted)


@given(st.lists(numbers, unique=True, max_size=200), st.integers(min_value=1, max_value=50), changes)
def test_loaded_keys_equal_added_ones(loaded: list[int], factor: int, changed: list[tuple[str, tuple[int, int, int]]]) -> None:
    """`factor`: so that some loads fill many chunks."""
    given_keys = [key(number) + bytes([copy]) for number in loaded for copy in range(factor)]
    keys = SortedKeys()
    keys.load(given_keys)
    keys.check()
    assert keys.all() == sorted(given_keys)
    assert keys.all() != [] or not loaded
    assert model_after(changed, keys) == keys.all()


def test_keys_added_in_order_fill_half_of_each_chunk_or_more() -> None:
    keys = SortedKeys()
    for first in range(0, 20 * CHUNK_MAX, 256):
        keys.add_run([key(number) for number in range(first, first + 256)])
    assert all(len(chunk) >= CHUNK_MAX // 2 for chunk in keys._chunks)


def test_few_keys_that_are_left_share_chunks() -> None:
    keys = SortedKeys()
    keys.load([key(number) for number in range(20 * CHUNK_MAX)])
    for number in range(20 * CHUNK_MAX):
        if number % 100:
            keys.remove(key(number))
    keys.check()
    assert len(keys) == 205
    assert len(keys._chunks) <= 3


def test_a_key_that_is_not_there_is_not_removed() -> None:
    keys = SortedKeys()
    keys.load([b"a", b"c", b"e"])
    with pytest.raises(InvariantViolation):
        keys.remove(b"b")
    with pytest.raises(InvariantViolation):
        keys.remove_run([b"b", b"c", b"d"])
