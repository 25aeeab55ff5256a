"""May a user read or write a range that holds no key, because its end is not behind its key? As etcd decides, to the bit.

It matters although the range is empty: it may stand in a txn with other operations, and members that decide differently
diverge. etcd looks for an interval that holds the key in a red-black tree, by begin and then by end, in which each node knows
the largest end below it; for such a range it skips subtrees that might hold one. What it finds depends on the form of the
tree, and so on the order in which permissions were inserted. So this is the same tree, made when it is needed, and in slices:
100,000 permissions take a tenth of a second.
Source: etcd pkg/adt/interval_tree.go; the tree is that of Cormen et al., Introduction to Algorithms, 3rd ed., 13.3 and 14.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

_KEPT_MAX: Final = 500_000  # intervals in trees that are kept, some 100 bytes each

Interval = tuple[bytes, bytes]
"""Of keys, half-open: begin, and end, b"" for none."""


class _Node:
    """An interval [begin, end), end b"" for none. max_end: the largest end in its subtree."""

    __slots__ = ("begin", "end", "is_red", "left", "max_end", "parent", "right")

    def __init__(self, begin: bytes, end: bytes, parent: _Node | None) -> None:
        self.begin = begin
        self.end = end
        self.max_end = end
        self.is_red = True
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.parent = parent


class IntervalTree:
    """The intervals of one kind of permission of one user. is_complete: it can be asked."""

    __slots__ = ("_intervals", "_last", "_order", "_root", "_to_visit", "is_complete", "size")

    def __init__(self, intervals: Iterator[Interval], size: int) -> None:
        """In the order in which etcd inserts them. size: how many, about."""
        self.size = size
        self.is_complete = False
        self._intervals: Iterator[Interval] | None = intervals
        self._root: _Node | None = None
        self._last: _Node | None = None  # in order
        self._to_visit: list[_Node] = []
        self._order: list[_Node] = []  # each node before those below it

    def grow(self, steps: int) -> None:
        """Take about this many of the steps that complete the tree: three for each interval."""
        for _ in range(steps):
            if self._intervals is not None:
                interval = next(self._intervals, None)
                if interval is not None:
                    self._insert(*interval)
                    continue
                self._intervals = None
                if self._root is not None:
                    self._to_visit.append(self._root)
            if self._to_visit:
                self._visit(self._to_visit.pop())
            elif self._order:
                _set_max_end(self._order.pop())
            else:
                self.is_complete = True
                return

    def finish(self) -> None:
        while not self.is_complete:
            self.grow(1000)

    def _visit(self, node: _Node) -> None:
        self._order.append(node)
        if node.left is not None:
            self._to_visit.append(node.left)
        if node.right is not None:
            self._to_visit.append(node.right)

    def covers_empty(self, key: bytes, range_end: bytes) -> bool:
        """range_end: not empty, and not behind `key`. Once the tree is complete."""
        return _finds(self._root, key, range_end)

    def _insert(self, begin: bytes, end: bytes) -> None:
        last = self._last
        is_last = last is None or not _is_before(begin, end, last)
        parent = last
        if not is_last:  # most are the last one: a role's permissions are sorted
            node = self._root
            while node is not None:
                parent = node
                node = node.left if _is_before(begin, end, node) else node.right
        new = _Node(begin, end, parent)
        if is_last:
            self._last = new
        if parent is None:
            self._root = new
        elif _is_before(begin, end, parent):
            parent.left = new
        else:
            parent.right = new
        self._repair(new)

    def _repair(self, node: _Node) -> None:
        """RB-INSERT-FIXUP."""
        while True:
            parent = node.parent
            if parent is None or not parent.is_red:
                break
            grandparent = parent.parent
            assert grandparent is not None  # the root is black
            is_left = parent is grandparent.left
            uncle = grandparent.right if is_left else grandparent.left
            if uncle is not None and uncle.is_red:
                parent.is_red = uncle.is_red = False
                grandparent.is_red = True
                node = grandparent
                continue
            if node is (parent.right if is_left else parent.left):
                node = parent
                self._rotate(node, to_left=is_left)
                parent = node.parent
                assert parent is not None
            parent.is_red = False
            grandparent.is_red = True
            self._rotate(grandparent, to_left=not is_left)
        assert self._root is not None
        self._root.is_red = False

    def _rotate(self, node: _Node, *, to_left: bool) -> None:
        """Move `node` below its right child, or below its left one."""
        child = node.right if to_left else node.left
        assert child is not None
        inner = child.left if to_left else child.right
        parent = node.parent
        if to_left:
            node.right, child.left = inner, node
        else:
            node.left, child.right = inner, node
        if inner is not None:
            inner.parent = node
        child.parent = parent
        node.parent = child
        if parent is None:
            self._root = child
        elif parent.left is node:
            parent.left = child
        else:
            parent.right = child


def _is_before(begin: bytes, end: bytes, node: _Node) -> bool:
    return begin < node.begin or (begin == node.begin and _is_less(end, node.end))


def _is_less(end: bytes, other: bytes) -> bool:
    """Of ends: no end is the largest."""
    return bool(end) and (not other or end < other)


def _set_max_end(node: _Node) -> None:
    """Once it is set below."""
    for below in (node.left, node.right):
        if below is not None and _is_less(node.max_end, below.max_end):
            node.max_end = below.max_end


def _finds(node: _Node | None, key: bytes, range_end: bytes) -> bool:
    if node is None:
        return False
    if key < node.begin:
        return _finds(node.left, key, range_end)
    if not node.end or key < node.end:
        return True
    is_searched = (not node.max_end or key < node.max_end) and node.begin < range_end
    return is_searched and (_finds(node.left, key, range_end) or _finds(node.right, key, range_end))


class TreeOwner(Protocol):
    """Who can make its tree again."""

    tree: IntervalTree | None


class Trees:
    """Bounds the memory of all trees of a member: where there are too many, those that are complete are forgotten.

    sets_asked: the roles that searches without a tree have asked, since it was set back. For who must bound a turn.
    """

    __slots__ = ("_owners", "sets_asked")

    def __init__(self) -> None:
        self._owners: list[TreeOwner] = []
        self.sets_asked = 0

    def add(self, owner: TreeOwner) -> None:
        """It has made its tree."""
        self._owners.append(owner)
        if sum([one.tree.size for one in self._owners if one.tree is not None]) <= _KEPT_MAX:
            return
        for one in self._owners:
            if one.tree is not None and one.tree.is_complete:
                one.tree = None
        self._owners = [one for one in self._owners if one.tree is not None]

    def clear(self) -> None:
        """All owners are forgotten."""
        self._owners = []
