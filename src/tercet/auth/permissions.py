"""The keys that a user may read and write: what its roles grant.

Each role keeps the union of its permissions, of those that allow reading and of those that allow writing, as intervals of keys:
half-open, disjoint, sorted and not adjacent:
    [a, c) and [b, f) and [f, g)   become   [a, g)
An end of b"" means no end. Range ends follow the Range request: b"" is the single key, b"\\0" is open-ended.

A user needs nothing but references to its roles' unions: a role may have 100,000 permissions, which take tens of milliseconds
to merge, and many users may ask in the turn that follows a change. A key is looked up in the union of each role. A range that
no role grants alone is walked: from its key to the farthest end that any role reaches from there, and on from that end.
Source: etcd server/auth/range_perm_cache.go. Departs in: sorted arrays of each role instead of an interval tree of each user.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Final

from tercet.auth.empty_ranges import Interval, IntervalTree, Trees
from tercet.proto import auth_pb2

_OPEN: Final = b"\x00"
_WALK_KEPT: Final = 16  # ends of a walk that is not made again
_SETS_ASKED_MAX: Final = 16  # roles, until what they have answered is remembered
_SEARCHED_MAX: Final = 64  # permissions between the end and the key of an empty range, until its tree is asked

Grant = tuple[bytes, bytes, int]
"""The key, the range end and the type of a permission."""

Kinds = frozenset[int]
_BOTH: Final = int(auth_pb2.Permission.READWRITE)
READ: Final[Kinds] = frozenset((int(auth_pb2.Permission.READ), _BOTH))
WRITE: Final[Kinds] = frozenset((int(auth_pb2.Permission.WRITE), _BOTH))


class KeySet:
    """A union of intervals of keys. merged: intervals that were merged since the start."""

    __slots__ = ("begins", "ends", "merged")

    def __init__(self, grants: Sequence[Grant], kinds: Kinds) -> None:
        """Of the grants of these kinds."""
        ordered = sorted(grants)
        self.begins, self.ends = _merge(ordered, 0, len(ordered), kinds)
        self.merged = len(ordered)

    def add(self, begin: bytes, end: bytes) -> None:
        begins, ends = self.begins, self.ends
        bounded = len(ends) - 1 if ends and not ends[-1] else len(ends)
        first = bisect_left(ends, begin, 0, bounded)
        last = bisect_right(begins, end) if end else len(begins)
        if first < last:
            begin = min(begin, begins[first])
            end = max(end, ends[last - 1]) if end and ends[last - 1] else b""
        self.merged += 1 + last - first
        begins[first:last], ends[first:last] = [begin], [end]

    def holds(self, key: bytes) -> bool:
        at = bisect_right(self.begins, key) - 1
        return at >= 0 and (not self.ends[at] or key < self.ends[at])

    def remove(self, begin: bytes, grants: list[Grant], kinds: Kinds) -> None:
        """An interval that began here is not in the set any more: merge those around it again.

        grants: those that are left, sorted by key.
        """
        at = bisect_right(self.begins, begin) - 1
        if at < 0:
            return
        first = bisect_left(grants, self.begins[at], key=_key_of)
        last = bisect_left(grants, self.ends[at], key=_key_of) if self.ends[at] else len(grants)
        self.merged += last - first
        self.begins[at : at + 1], self.ends[at : at + 1] = _merge(grants, first, last, kinds)


class RoleKeys:
    """What one role grants. grants: its permissions, sorted by key; whoever changes them says so with `change`.

    readable and writable are one object where all permissions allow both.
    """

    __slots__ = ("grants", "readable", "writable")

    def __init__(self, grants: list[Grant]) -> None:
        self.grants = grants
        self.readable = KeySet(grants, READ)
        self.writable = self.readable if _all_of_both(grants) else KeySet(grants, WRITE)

    def change(self, removed: Sequence[Grant], added: Sequence[Grant]) -> None:
        """Some permissions have been removed from `grants`, or added, or have been there before under another type."""
        was_shared = self.writable is self.readable
        self._change(self.readable, READ, removed, added)
        if not was_shared:
            self._change(self.writable, WRITE, removed, added)
        elif not (_all_of_both(removed) and _all_of_both(added)):
            self.writable = KeySet(self.grants, WRITE)

    def _change(self, keys: KeySet, kinds: Kinds, removed: Sequence[Grant], added: Sequence[Grant]) -> None:
        for grant in removed:
            if grant[2] in kinds and _interval(grant) is not None:
                keys.remove(grant[0], self.grants, kinds)
        for grant in added:
            interval = _interval(grant)
            if grant[2] in kinds and interval is not None:
                keys.add(*interval)


class GrantedKeys:
    """The keys that some roles together allow to read, or to write; in the order of the roles."""

    __slots__ = ("_denied", "_kinds", "_known", "_roles", "_sets", "_trees", "tree")

    def __init__(self, roles: Sequence[RoleKeys], kinds: Kinds, trees: Trees) -> None:
        self._roles = roles
        self._kinds = kinds
        self._sets = [role.readable if kinds is READ else role.writable for role in roles]
        self._known = KeySet((), kinds)  # what long walks and searches have found: in the union of all roles
        self._denied = KeySet((), kinds)  # what searches have found to be in no role
        self._trees = trees
        self.tree: IntervalTree | None = None

    def covers(self, key: bytes, range_end: bytes) -> bool:
        """Whether all keys of a request's range are in the set."""
        if not range_end:
            return self._holds(key)
        if is_empty(key, range_end):
            return self._covers_empty(key, range_end)
        are_many = len(self._sets) > _SETS_ASKED_MAX
        if are_many and (answer := self._remembered(key, range_end)) is not None:
            return answer
        is_open = range_end == _OPEN
        if are_many:
            self._trees.sets_asked += len(self._sets)
        for keys in self._sets:
            at = bisect_right(keys.begins, key) - 1
            if at >= 0:
                end = keys.ends[at]
                if not end or (not is_open and range_end <= end):
                    if are_many:
                        self._known.add(keys.begins[at], end)
                    return True
        return len(self._sets) > 1 and self._walk(key, range_end)

    def _holds(self, key: bytes) -> bool:
        if len(self._sets) > _SETS_ASKED_MAX:
            return self._search(key)
        for keys in self._sets:
            at = bisect_right(keys.begins, key) - 1
            if at >= 0:
                end = keys.ends[at]
                if not end or key < end:
                    return True
        return False

    def _search(self, key: bytes) -> bool:
        """`_holds` of many roles. A thousand take 60 us: the interval around the key, granted or not, is remembered."""
        if self._known.holds(key):
            return True
        if self._denied.holds(key):
            return False
        begin, end = b"", b""
        self._trees.sets_asked += len(self._sets)
        for keys in self._sets:
            at = bisect_right(keys.begins, key)
            if at and (not keys.ends[at - 1] or key < keys.ends[at - 1]):
                self._known.add(keys.begins[at - 1], keys.ends[at - 1])
                return True
            if at:
                begin = max(begin, keys.ends[at - 1])
            if at < len(keys.begins):
                end = min(end, keys.begins[at]) if end else keys.begins[at]
        self._denied.add(begin, end)
        return False

    def _remembered(self, key: bytes, range_end: bytes) -> bool | None:
        """What earlier searches have found; None: it is not known."""
        is_open = range_end == _OPEN
        at = bisect_right(self._known.begins, key) - 1
        if at >= 0:
            end = self._known.ends[at]
            if not end or (not is_open and range_end <= end):
                return True
        denied = self._denied
        after = bisect_right(denied.begins, key)
        if denied.holds(key) or (after < len(denied.begins) and (is_open or denied.begins[after] < range_end)):
            return False
        return None

    def _walk(self, key: bytes, range_end: bytes) -> bool:
        """Go from end to end, as far as roles and what is known allow. Each interval on the way is looked at once."""
        sets = [self._known, *self._sets]
        is_open = range_end == _OPEN
        following: list[tuple[bytes, int, int]] = []  # of each set the first interval that begins after what is reached: a heap
        farthest = key
        for number, keys in enumerate(sets):
            place = bisect_right(keys.begins, key)
            if place:
                farthest = _farther(farthest, keys.ends[place - 1])
            if place < len(keys.begins):
                following.append((keys.begins[place], number, place))
        heapify(following)
        reached, ends, looked_at = key, 0, len(sets)
        is_covered = False
        while farthest != reached:
            ends += 1
            reached = farthest
            if not reached or (not is_open and reached >= range_end):
                is_covered = True
                break
            while following and following[0][0] <= reached:
                _, number, place = following[0]
                keys = sets[number]
                place = bisect_right(keys.begins, reached, place)
                farthest = _farther(farthest, keys.ends[place - 1])
                looked_at += 1
                if place < len(keys.begins):
                    heapreplace(following, (keys.begins[place], number, place))
                else:
                    heappop(following)
        self._trees.sets_asked += looked_at
        are_many = len(self._sets) > _SETS_ASKED_MAX
        if ends > _WALK_KEPT or (ends and are_many):
            self._known.add(key, reached)
        if are_many and not is_covered:
            self._search(reached)
        return is_covered

    # A range that holds no key; see empty_ranges.py.

    def _covers_empty(self, key: bytes, range_end: bytes) -> bool:
        if not self._holds(key):
            return False
        if not self._may_hide(key, range_end):
            return True
        tree = self._tree()
        tree.finish()
        return tree.covers_empty(key, range_end)

    def unfinished_tree(self, key: bytes, range_end: bytes) -> IntervalTree | None:
        """The tree without which `covers` cannot decide, if it is not complete."""
        if not is_empty(key, range_end) or not self._holds(key) or not self._may_hide(key, range_end):
            return None
        tree = self._tree()
        return None if tree.is_complete else tree

    def _may_hide(self, key: bytes, range_end: bytes) -> bool:
        """May an interval hide those that hold the key? Only one that lies between the end of the range and its key."""
        searched = 0
        for role in self._roles:
            grants = role.grants
            for at in range(bisect_left(grants, range_end, key=_key_of), bisect_left(grants, key, key=_key_of)):
                grant = grants[at]
                searched += 1
                if searched > _SEARCHED_MAX:
                    return True
                if grant[2] in self._kinds and (interval := _interval(grant)) is not None and b"" < interval[1] <= key:
                    return True
        return False

    def _tree(self) -> IntervalTree:
        tree = self.tree
        if tree is None:
            tree = self.tree = IntervalTree(self._intervals(), sum([len(role.grants) for role in self._roles]))
            self._trees.add(self)
        return tree

    def _intervals(self) -> Iterator[Interval]:
        """In the order in which etcd would insert them."""
        for role in self._roles:
            for grant in role.grants:
                if grant[2] in self._kinds and (interval := _interval(grant)) is not None:
                    yield interval


class Permissions:
    """What one user may do, at one auth revision. `is_root`: everything."""

    __slots__ = ("is_root", "readable", "writable")

    def __init__(self, roles: Sequence[RoleKeys], trees: Trees, *, is_root: bool) -> None:
        self.is_root = is_root
        self.readable = GrantedKeys(roles, READ, trees)
        self.writable = GrantedKeys(roles, WRITE, trees)


def is_grantable(key: bytes, range_end: bytes) -> bool:
    """Whether a permission on this range can be granted: a key, and no end, a later one, or the open one."""
    return bool(key) and (not range_end or key < range_end or range_end == _OPEN)


def is_empty(key: bytes, range_end: bytes) -> bool:
    """Does a request's range hold no key?"""
    return bool(range_end) and range_end <= key and range_end != _OPEN


def _all_of_both(grants: Iterable[Grant]) -> bool:
    return all(kind == _BOTH for _, _, kind in grants)


def _interval(grant: Grant) -> Interval | None:
    """None for a range that holds no key: members before 3.6 accept permissions on such."""
    key, range_end, _ = grant
    if not key:
        return None
    if not range_end:
        return key, key + _OPEN
    if range_end == _OPEN:
        return key, b""
    return (key, range_end) if key < range_end else None


def _key_of(grant: Grant) -> bytes:
    return grant[0]


def _farther(one: bytes, other: bytes) -> bytes:
    """The later of two ends."""
    return max(one, other) if one and other else b""


def _merge(grants: list[Grant], first: int, last: int, kinds: Kinds) -> tuple[list[bytes], list[bytes]]:
    """The begins and the ends of disjoint intervals that are not adjacent, in order: the union of some of the grants.

    In one plain loop, since it is the whole cost of a role with 100,000 permissions.
    """
    begins: list[bytes] = []
    ends: list[bytes] = []
    last_end = _OPEN  # before all keys
    for at in range(first, last):
        begin, end, kind = grants[at]
        if kind not in kinds or not begin:
            continue
        if not end:
            end = begin + _OPEN
        elif end == _OPEN:
            end = b""
        elif end <= begin:
            continue
        if not begins or (last_end and last_end < begin):
            begins.append(begin)
            ends.append(end)
            last_end = end
        elif last_end and (not end or end > last_end):
            ends[-1] = last_end = end
    return begins, ends
