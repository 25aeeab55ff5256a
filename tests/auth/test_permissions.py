"""Merged permissions against the definition: a range is permitted if each of its keys is in some granted interval."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.auth.permissions import KeySet, Permissions, is_grantable
from tercet.proto import auth_pb2

# All keys of one or two letters of this alphabet, and what lies directly behind them, stand for all keys.
LETTERS = b"\x00ab\xff"
KEYS = sorted({bytes(word) for one in LETTERS for word in ((one,), *((one, two) for two in LETTERS))})
key = st.sampled_from(KEYS)
end = st.sampled_from([b"", *KEYS])


@given(st.lists(st.tuples(key, end)), key, end)
def test_a_range_is_covered_if_each_of_its_keys_is(intervals: list[tuple[bytes, bytes]], first: bytes, last: bytes) -> None:
    keys = KeySet(intervals)
    wanted = [one for one in points() if is_in(one, first, last)]
    assume(not last or last == b"\0" or last > first)  # see test_empty_ranges.py
    covered = all(any(begin <= one and (not to or one < to) for begin, to in intervals) for one in wanted)
    if last == b"\0":
        covered = covered and any(not to for _, to in intervals)
    assert keys.covers(first, last) == covered


def points() -> list[bytes]:
    return sorted({*KEYS, *(one + b"\0" for one in KEYS), *(one + b"\0\0" for one in KEYS)})


def is_in(one: bytes, first: bytes, last: bytes) -> bool:
    if not last:
        return one == first
    return one >= first and (last == b"\0" or one < last)


def test_read_and_write_are_separate_and_readwrite_is_both() -> None:
    kinds = auth_pb2.Permission
    permissions = Permissions(
        [
            (b"r", b"", kinds.READ),
            (b"w", b"x", kinds.WRITE),
            (b"y", b"\0", kinds.READWRITE),
        ],
        is_root=False,
    )
    assert permissions.readable.covers(b"r", b"")
    assert not permissions.readable.covers(b"r\0", b"")
    assert not permissions.writable.covers(b"r", b"")
    assert permissions.writable.covers(b"w", b"wz")
    assert not permissions.readable.covers(b"w", b"")
    for keys in (permissions.readable, permissions.writable):
        assert keys.covers(b"y", b"\0")
        assert keys.covers(b"zz", b"")
        assert not keys.covers(b"a", b"\0")


def test_permissions_are_granted_on_ranges_that_hold_keys() -> None:
    assert all(is_grantable(*given) for given in ((b"a", b""), (b"a", b"b"), (b"a", b"\0"), (b"\0", b"\0")))
    assert not any(is_grantable(*given) for given in ((b"", b""), (b"", b"\0"), (b"b", b"a"), (b"b", b"b")))
