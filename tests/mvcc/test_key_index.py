"""Histories of keys, written as in the docstring of key_index: a number is a put at that revision, `x` marks a delete."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.mvcc.encoding import TOMBSTONE, encode_revision_key, main_of, revision_bound
from tercet.mvcc.key_index import RECORD_BYTES, KeyIndex
from tercet.proto.wire import varint


def live(index: KeyIndex, key: bytes, life: str) -> None:
    for event in life.split():
        main = int(event.rstrip("x"))
        if event.endswith("x"):
            index.delete([key], [encode_revision_key(main, 0) + TOMBSTONE])
        else:
            index.put(key, encode_revision_key(main, 0), varint(main))
    index.check()


def left(index: KeyIndex, key: bytes) -> str:
    """The revisions of `key` that the index still has."""
    records = index.shard(key).past.get(key, b"")
    events = []
    for at in range(0, len(records), RECORD_BYTES):
        events.append(f"{main_of(records[at : at + 8])}{'x' if records[at + 17 : at + 18] == b't' else ''}")
    entry = index.entry(key)
    if entry is not None:
        events.append(str(main_of(entry)))
    return " ".join(events)


@pytest.mark.parametrize(
    ("life", "compacted", "remains"),
    [
        ("2 4 5x 9", 4, "4 5x 9"),  # the example of the module's docstring
        ("2 4 5x 9", 2, "2 4 5x 9"),
        ("2 4 5x 9", 3, "2 4 5x 9"),
        ("2 4 5x 9", 5, "5x 9"),  # a tombstone exactly at the compacted revision stays for watchers
        ("2 4 5x 9", 6, "9"),
        ("2 4 5x 9", 9, "9"),
        ("2 3 4", 4, "4"),
        ("2 3 4", 3, "3 4"),
        ("2 3 4", 100, "4"),
        ("2 3x", 2, "2 3x"),
        ("2 3x", 3, "3x"),
        ("2 3x", 4, ""),
        ("2 3x 4 5x", 3, "3x 4 5x"),
        ("2 3x 4 5x", 4, "4 5x"),
        ("2 3x 4 5x", 5, "5x"),
        ("7", 3, "7"),
    ],
)
@pytest.mark.parametrize("limit", [1, 1000])
def test_compaction_keeps_what_can_still_be_read(life: str, compacted: int, remains: str, limit: int) -> None:
    index = KeyIndex()
    live(index, b"k", life)
    before = left(index, b"k").split()
    dropped: list[str] = []
    while gone := index.forget(b"k", compacted, limit):
        assert len(gone) <= limit
        dropped += [f"{main_of(revision_key)}{'x' if revision_key.endswith(b't') else ''}" for revision_key in gone]
    assert left(index, b"k") == remains
    assert [*dropped, *remains.split()] == before
    if index.visits:
        index.visited()
    index.check()


def test_the_next_compaction_removes_a_kept_tombstone() -> None:
    index = KeyIndex()
    live(index, b"k", "2 3x")
    index.forget(b"k", 3, 1000)
    assert left(index, b"k") == "3x"
    assert index.forget(b"k", 4, 1000) == [encode_revision_key(3, 0) + b"t"]
    assert (left(index, b"k"), len(index.dead)) == ("", 0)


def test_versions_and_create_revisions_restart_with_a_generation() -> None:
    index = KeyIndex()
    live(index, b"k", "2 4")
    assert (index.create_revision(b"k"), index.mod_revision(b"k"), index.version(b"k")) == (2, 4, 2)
    live(index, b"k", "5x")
    assert (index.create_revision(b"k"), index.mod_revision(b"k"), index.version(b"k")) == (0, 0, 0)
    live(index, b"k", "300 301 302")
    assert (index.create_revision(b"k"), index.mod_revision(b"k"), index.version(b"k")) == (300, 302, 3)


@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=120))
def test_every_past_revision_is_found(steps: list[tuple[int, bool]]) -> None:
    """Also of a long history, which is kept in a bytearray."""
    index, alive, main = KeyIndex(), False, 1
    expected: dict[int, int | None] = {}
    newest: int | None = None
    for gap, delete in steps:
        for passed in range(main, main + gap):
            expected[passed] = newest
        main += gap
        if delete and alive:
            index.delete([b"k"], [encode_revision_key(main, 0) + TOMBSTONE])
            alive, newest = False, None
        else:
            index.put(b"k", encode_revision_key(main, 0), varint(main))
            alive, newest = True, main
        expected[main] = newest
    index.check()
    for revision, filed in expected.items():
        entry = index.get_at(b"k", revision_bound(revision))
        assert (entry and entry[:17]) == (None if filed is None else encode_revision_key(filed, 0))


def test_deleting_many_keys_equals_deleting_each() -> None:
    """Adjacent ones and others, with and without a past."""
    one, many = KeyIndex(), KeyIndex()
    keys = [b"%03d" % number for number in range(300)]
    doomed = keys[50:250] + keys[260:300:2]
    for index in (one, many):
        for main, key in enumerate(keys + keys[100:200], 2):
            index.put(key, encode_revision_key(main, 0), varint(main))
    tombstones = [encode_revision_key(500, sub) + TOMBSTONE for sub in range(len(doomed))]
    many.delete(doomed, tombstones)
    for key, tombstone in zip(doomed, tombstones, strict=True):
        one.delete([key], [tombstone])
    many.check()
    assert (dict(many.entries()), dict(many.pasts())) == (dict(one.entries()), dict(one.pasts()))
    assert many.count(b"", None) == 80


def test_ranges_are_half_open() -> None:
    index = KeyIndex()
    for main, key in enumerate([b"a", b"b", b"c"], 2):
        index.put(key, encode_revision_key(main, 0), varint(main))
    assert index.keys(b"a", b"c", 9) == [b"a", b"b"]
    assert index.keys(b"b", None, 9) == [b"b", b"c"]
    assert (index.count(b"c", b"a"), index.keys(b"c", b"a", 9)) == (0, [])
    assert (index.count(b"a", b"c"), index.count(b"", None)) == (2, 3)
