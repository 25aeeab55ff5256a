"""The keys that a user may read and write: the permissions of all its roles, merged.

Intervals of keys are half-open and kept disjoint, sorted and not adjacent, so one binary search decides about a key or a range:
    [a, c) and [b, f) and [f, g)   become   [a, g)
An end of b"" means no end. Range ends follow the Range request: b"" is the single key, b"\\0" is open-ended.

A role may have 100,000 permissions, which take 80 ms to merge: a change of one of them changes only the intervals it touches.
Source: etcd server/auth/range_perm_cache.go. Departs in: sorted arrays instead of an interval tree, merged when built.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from tercet.auth.empty_ranges import IntervalTree
from tercet.proto import auth_pb2

_OPEN: Final = b"\x00"
Interval = tuple[bytes, bytes]
Grant = tuple[bytes, bytes, int]
"""The key, the range end and the type of a permission."""

_READ: Final = frozenset((auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE))
_WRITE: Final = frozenset((auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE))


class Roles:
    """The permissions of some roles, each sorted by key, in the order of the roles; of them the kinds that count."""

    __slots__ = ("_grants", "_kinds")

    def __init__(self, grants: Sequence[list[Grant]], kinds: frozenset[int]) -> None:
        self._grants = grants
        self._kinds = kinds

    def intervals(self) -> list[Interval]:
        return [_interval(grant) for grants in self._grants for grant in grants if grant[2] in self._kinds]

    def between(self, begin: bytes, end: bytes) -> list[Interval]:
        """Those that begin in [begin, end)."""
        found: list[Interval] = []
        for grants in self._grants:
            first = bisect_left(grants, begin, key=_key_of)
            last = bisect_left(grants, end, key=_key_of) if end else len(grants)
            found += [_interval(grant) for grant in grants[first:last] if grant[2] in self._kinds]
        return found


class KeySet:
    """A union of intervals of keys, given in the order in which etcd would insert them.

    merged: intervals that were merged since the start.
    """

    __slots__ = ("_begins", "_ends", "_intervals", "_roles", "_tree", "merged")

    def __init__(self, intervals: Iterable[Interval]) -> None:
        kept = _with_keys(intervals)
        self._intervals: list[Interval] | None = kept  # None after a change: `_roles` has them
        self._roles: Roles | None = None
        self._tree: IntervalTree | None = None
        self._begins, self._ends = _merge(kept)
        self.merged = len(kept)

    def copy(self) -> KeySet:
        copied = KeySet(())
        copied._intervals, copied._roles = self._intervals, self._roles
        copied._begins, copied._ends = self._begins[:], self._ends[:]
        return copied

    def change(self, removed: Iterable[Interval], added: Iterable[Interval], roles: Roles) -> None:
        """Some intervals have been removed, or added, or have been there before under another type.

        roles: where all of them are found now.
        """
        self._intervals = None
        self._tree = None
        self._roles = roles
        for begin, _ in _with_keys(removed):
            self._remove(begin, roles)
        for begin, end in _with_keys(added):
            self._add(begin, end)

    def _remove(self, begin: bytes, roles: Roles) -> None:
        """An interval that began here is not in the set any more: merge those around it again."""
        at = bisect_right(self._begins, begin) - 1
        if at < 0:
            return
        left = _with_keys(roles.between(self._begins[at], self._ends[at]))
        self.merged += len(left)
        self._begins[at : at + 1], self._ends[at : at + 1] = _merge(left)

    def _add(self, begin: bytes, end: bytes) -> None:
        begins, ends = self._begins, self._ends
        bounded = len(ends) - 1 if ends and not ends[-1] else len(ends)
        first = bisect_left(ends, begin, 0, bounded)
        last = bisect_right(begins, end) if end else len(begins)
        if first < last:
            begin = min(begin, begins[first])
            end = max(end, ends[last - 1]) if end and ends[last - 1] else b""
        self.merged += 1 + last - first
        begins[first:last], ends[first:last] = [begin], [end]

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
            intervals = self._intervals
            if intervals is None:
                assert self._roles is not None
                intervals = _with_keys(self._roles.intervals())
            tree = self._tree = IntervalTree(intervals)
        return tree.covers_empty(key, range_end)


class Permissions:
    """What one user may do, at one auth revision. `is_root`: everything."""

    __slots__ = ("is_root", "readable", "writable")

    def __init__(self, granted: Iterable[Grant], *, is_root: bool) -> None:
        self.is_root = is_root
        readable, writable = [], []
        for grant in granted:
            interval = _interval(grant)
            if grant[2] in _READ:
                readable.append(interval)
            if grant[2] in _WRITE:
                writable.append(interval)
        self.readable = KeySet(readable)
        self.writable = self.readable if writable == readable else KeySet(writable)

    def change(self, removed: Sequence[Grant], added: Sequence[Grant], grants: Sequence[list[Grant]]) -> None:
        """Some permissions of one role have changed. grants: of all roles of the user, as they are now."""
        is_of_both = all(kind in _READ and kind in _WRITE for _, _, kind in (*removed, *added))
        if self.writable is self.readable and not is_of_both:
            self.writable = self.readable.copy()
        _change(self.readable, _READ, removed, added, grants)
        if self.writable is not self.readable:
            _change(self.writable, _WRITE, removed, added, grants)


def _change(
    keys: KeySet, kinds: frozenset[int], removed: Sequence[Grant], added: Sequence[Grant], grants: Sequence[list[Grant]]
) -> None:
    fewer = [_interval(grant) for grant in removed if grant[2] in kinds]
    more = [_interval(grant) for grant in added if grant[2] in kinds]
    keys.change(fewer, more, Roles(grants, kinds))


def is_grantable(key: bytes, range_end: bytes) -> bool:
    """Whether a permission on this range can be granted: a key, and no end, a later one, or the open one."""
    return bool(key) and (not range_end or key < range_end or range_end == _OPEN)


def _interval(grant: Grant) -> Interval:
    key, range_end, _ = grant
    if not range_end:
        return key, key + _OPEN
    return key, b"" if range_end == _OPEN else range_end


def _key_of(grant: Grant) -> bytes:
    return grant[0]


def _with_keys(intervals: Iterable[Interval]) -> list[Interval]:
    """Members before 3.6 accept permissions on ranges that hold no key."""
    return [(begin, end) for begin, end in intervals if begin and (not end or begin < end)]


def _merge(intervals: list[Interval]) -> tuple[list[bytes], list[bytes]]:
    """The begins and the ends of disjoint intervals that are not adjacent, in order."""
    begins: list[bytes] = []
    ends: list[bytes] = []
    for begin, end in sorted(intervals):
        if not ends or (ends[-1] and ends[-1] < begin):
            begins.append(begin)
            ends.append(end)
        elif ends[-1] and (not end or end > ends[-1]):
            ends[-1] = end
    return begins, ends
