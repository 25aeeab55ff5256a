"""May a user read or write a range that holds no key, because its end is not behind its key? As etcd decides, to the bit.

It matters although the range is empty: it may stand in a txn with other operations, and members that decide differently
diverge. etcd looks for an interval that holds the key in a red-black tree, by begin and then by end, in which each node knows
the largest end below it; for such a range it skips subtrees that might hold one. What it finds depends on the form of the
tree, and so on the order in which permissions were inserted. So this is the same tree, made when it is needed.
Source: etcd pkg/adt/interval_tree.go; the tree is that of Cormen et al., Introduction to Algorithms, 3rd ed., 13.3 and 14.3.
"""

from __future__ import annotations

from collections.abc import Iterable


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
    """The intervals of one kind of permission of one user."""

    __slots__ = ("_root",)

    def __init__(self, intervals: Iterable[tuple[bytes, bytes]]) -> None:
        """In the order in which etcd inserts them."""
        self._root: _Node | None = None
        for begin, end in intervals:
            self._insert(begin, end)
        self._set_max_ends()

    def _set_max_ends(self) -> None:
        # Not in __init__: where None was assigned, the compiled code takes None for granted, whatever was called since.
        _set_max_end(self._root)

    def covers_empty(self, key: bytes, range_end: bytes) -> bool:
        """range_end: not empty, and not behind `key`."""
        return _finds(self._root, key, range_end)

    def _insert(self, begin: bytes, end: bytes) -> None:
        parent, node = None, self._root
        while node is not None:
            parent = node
            node = node.left if _is_before(begin, end, node) else node.right
        new = _Node(begin, end, parent)
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


def _set_max_end(node: _Node | None) -> None:
    if node is None:
        return
    for below in (node.left, node.right):
        if below is not None:
            _set_max_end(below)
            if _is_less(node.max_end, below.max_end):
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
