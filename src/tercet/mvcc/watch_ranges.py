"""Intervals of keys, and which of them hold a given key.

An AVL tree ordered by (start, end); each node knows the largest end below it, so that a search leaves out subtrees that end
before the key. Its cost is that of the depth and of the intervals found, not of the others: 10,000 watched prefixes cost a put
about 14 comparisons.

Invariants: the heights of two siblings differ by at most one; `last` is the largest end of the node and its subtrees.
Source: Cormen et al., Introduction to Algorithms, section 14.3.
"""

from __future__ import annotations

from itertools import pairwise

from tercet.errors import require


class KeyRange:
    """An interval [start, end) of keys; end None: all keys from start on."""

    __slots__ = ("end", "start")

    def __init__(self, start: bytes, end: bytes | None) -> None:
        self.start = start
        self.end = end


class _Node:
    __slots__ = ("height", "item", "last", "left", "right")

    def __init__(self, item: KeyRange) -> None:
        self.item = item
        self.left: _Node | None = None
        self.right: _Node | None = None
        self.height = 1
        self.last: bytes | None = item.end


class KeyRanges:
    """A set of intervals, no two of them equal."""

    __slots__ = ("_root", "count")

    def __init__(self) -> None:
        self._root: _Node | None = None
        self.count = 0

    def find(self, start: bytes, end: bytes | None) -> KeyRange | None:
        """The interval with exactly these bounds."""
        node = self._root
        while node is not None:
            order = _compare(start, end, node.item)
            if order == 0:
                return node.item
            node = node.left if order < 0 else node.right
        return None

    def holds(self, key: bytes) -> bool:
        """Whether any interval holds `key`."""
        node = self._root
        while node is not None:
            if not _is_before(key, node.last):
                return False
            item = node.item
            if item.start <= key and _is_before(key, item.end):
                return True
            # All of the left subtree starts at or before this node. If one of it ends after the key, but none holds it, all
            # those start after the key, and so does all of the right subtree.
            left = node.left
            node = left if left is not None and _is_before(key, left.last) else node.right
        return False

    def holding(self, key: bytes, after: KeyRange | None, limit: int) -> list[KeyRange]:
        """The first `limit` intervals that hold `key`, in order; those after the given one, which need not be in the set."""
        found: list[KeyRange] = []
        if self._root is not None:
            _collect(self._root, key, after, limit, found)
        return found

    def all(self) -> list[KeyRange]:
        """All intervals, in order."""
        found: list[KeyRange] = []
        _walk(self._root, found)
        return found

    def last(self) -> KeyRange | None:
        """The last interval in order, None if there is none."""
        node = self._root
        if node is None:
            return None
        while node.right is not None:
            node = node.right
        return node.item

    def add(self, item: KeyRange) -> None:
        """Add an interval that is not in the set."""
        self._root = _insert(self._root, item)
        self.count += 1

    def remove(self, item: KeyRange) -> None:
        """Remove an interval that is in the set."""
        self._root = _remove(self._root, item)
        self.count -= 1

    def check(self) -> None:
        """All invariants, by a full walk: for tests."""
        require(_check(self._root) == self.count, "the count of intervals is wrong", self.count)
        items = self.all()
        for before, after in pairwise(items):
            require(_compare(before.start, before.end, after) < 0, "intervals are not in order")


def _is_before(key: bytes, end: bytes | None) -> bool:
    return end is None or key < end


def _later(one: bytes | None, other: bytes | None) -> bytes | None:
    if one is None or other is None:
        return None
    return one if one > other else other


def _compare(start: bytes, end: bytes | None, item: KeyRange) -> int:
    if start != item.start:
        return -1 if start < item.start else 1
    if end == item.end:
        return 0
    if end is None or item.end is None:
        return 1 if end is None else -1
    return -1 if end < item.end else 1


def _collect(node: _Node, key: bytes, after: KeyRange | None, limit: int, found: list[KeyRange]) -> None:
    left, right, item = node.left, node.right, node.item
    if after is None or _compare(after.start, after.end, item) < 0:
        if left is not None and _is_before(key, left.last):
            _collect(left, key, after, limit, found)
            if len(found) == limit:
                return
        after = None  # the rest of this subtree comes later
        if item.start <= key and _is_before(key, item.end):
            found.append(item)
            if len(found) == limit:
                return
    if right is not None and item.start <= key and _is_before(key, right.last):
        _collect(right, key, after, limit, found)


def _walk(node: _Node | None, found: list[KeyRange]) -> None:
    if node is not None:
        _walk(node.left, found)
        found.append(node.item)
        _walk(node.right, found)


def _height(node: _Node | None) -> int:
    return 0 if node is None else node.height


def _update(node: _Node) -> None:
    left, right = node.left, node.right
    node.height = 1 + max(_height(left), _height(right))
    last = node.item.end
    if left is not None:
        last = _later(last, left.last)
    if right is not None:
        last = _later(last, right.last)
    node.last = last


def _insert(node: _Node | None, item: KeyRange) -> _Node:
    if node is None:
        return _Node(item)
    if _compare(item.start, item.end, node.item) < 0:
        node.left = _insert(node.left, item)
    else:
        node.right = _insert(node.right, item)
    return _balanced(node)


def _remove(node: _Node | None, item: KeyRange) -> _Node | None:
    assert node is not None, "the interval is not in the set"
    order = _compare(item.start, item.end, node.item)
    if order < 0:
        node.left = _remove(node.left, item)
    elif order > 0:
        node.right = _remove(node.right, item)
    elif node.left is None:
        return node.right
    elif node.right is None:
        return node.left
    else:
        following = node.right
        while following.left is not None:
            following = following.left
        node.item = following.item
        node.right = _remove(node.right, following.item)
    return _balanced(node)


def _balanced(node: _Node) -> _Node:
    balance = _height(node.left) - _height(node.right)
    if balance > 1:
        left = node.left
        assert left is not None
        if _height(left.left) < _height(left.right):
            node.left = _rotated_left(left)
        return _rotated_right(node)
    if balance < -1:
        right = node.right
        assert right is not None
        if _height(right.right) < _height(right.left):
            node.right = _rotated_right(right)
        return _rotated_left(node)
    _update(node)
    return node


def _rotated_left(node: _Node) -> _Node:
    top = node.right
    assert top is not None
    node.right, top.left = top.left, node
    _update(node)
    _update(top)
    return top


def _rotated_right(node: _Node) -> _Node:
    top = node.left
    assert top is not None
    node.left, top.right = top.right, node
    _update(node)
    _update(top)
    return top


def _check(node: _Node | None) -> int:
    if node is None:
        return 0
    height, last = node.height, node.last
    require(abs(_height(node.left) - _height(node.right)) <= 1, "the tree is not balanced")
    count = 1 + _check(node.left) + _check(node.right)
    _update(node)
    require((height, last) == (node.height, node.last), "a node is stale")
    return count
