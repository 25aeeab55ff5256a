"""The keys that a user may read and write: the permissions of all its roles, merged.

Intervals of keys are half-open and kept disjoint, sorted and not adjacent, so one binary search decides about a key or a range:
    [a, c) and [b, f) and [f, g)   become   [a, g)
An end of b"" means no end. Range ends follow the Range request: b"" is the single key, b"\\0" is open-ended.
Source: etcd server/auth/range_perm_cache.go. Departs in: sorted arrays instead of an interval tree, merged when built.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from tercet.auth.empty_ranges import IntervalTree
from tercet.proto import auth_pb2

_OPEN: Final = b"\x00"
Interval = tuple[bytes, bytes]
Grant = tuple[bytes, bytes, int]
"""The key, the range end and the type of a permission."""


class KeySet:
    """A union of intervals of keys, given in the order in which etcd would insert them."""

    __slots__ = ("_begins", "_ends", "_intervals", "_tree")

    def __init__(self, intervals: Iterable[Interval]) -> None:
        # Members before 3.6 accept permissions on ranges that hold no key.
        self._intervals = [(begin, end) for begin, end in intervals if begin and (not end or begin < end)]
        self._tree: IntervalTree | None = None
        self._begins: list[bytes] = []
        self._ends: list[bytes] = []
        for begin, end in sorted(self._intervals):
            ends = self._ends
            if not ends or (ends[-1] and ends[-1] < begin):
                self._begins.append(begin)
                ends.append(end)
            elif ends[-1] and (not end or end > ends[-1]):
                ends[-1] = end

    def covers(self, key: bytes, range_end: bytes) -> bool:
        """Whether all keys of a request's range are in the set. For a range without keys, see empty_ranges.py."""
        if range_end and range_end <= key and range_end != _OPEN:
            return self._covers_empty(key, range_end)
        at = bisect_right(self._begins, key) - 1
        if at < 0:
            return False
        end = self._ends[at]
        if not end:
            return True
        if range_end == _OPEN:
            return False
        return key < end and range_end <= end

    def _covers_empty(self, key: bytes, range_end: bytes) -> bool:
        tree = self._tree
        if tree is None:
            tree = self._tree = IntervalTree(self._intervals)
        return tree.covers_empty(key, range_end)


class Permissions:
    """What one user may do, at one auth revision. `is_root`: everything."""

    __slots__ = ("is_root", "readable", "writable")

    def __init__(self, granted: Iterable[Grant], *, is_root: bool) -> None:
        self.is_root = is_root
        readable, writable = [], []
        for key, range_end, kind in granted:
            interval = (key, _interval_end(key, range_end))
            if kind in (auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE):
                readable.append(interval)
            if kind in (auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE):
                writable.append(interval)
        self.readable = KeySet(readable)
        self.writable = self.readable if writable == readable else KeySet(writable)


def is_grantable(key: bytes, range_end: bytes) -> bool:
    """Whether a permission on this range can be granted: a key, and no end, a later one, or the open one."""
    return bool(key) and (not range_end or key < range_end or range_end == _OPEN)


def _interval_end(key: bytes, range_end: bytes) -> bytes:
    if not range_end:
        return key + _OPEN
    return b"" if range_end == _OPEN else range_end
