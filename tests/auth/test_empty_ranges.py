"""The tree that decides about ranges without keys: its form, and what etcd finds in it (recorded from etcd 3.7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.auth.empty_ranges import Interval, IntervalTree, Trees, _Node
from tercet.auth.permissions import READ, GrantedKeys, RoleKeys
from tercet.proto import auth_pb2

key = st.binary(min_size=1, max_size=2)


def granted(*roles: list[Interval]) -> GrantedKeys:
    """What roles with these permissions allow to read; an end of b"" means no end."""
    kind = auth_pb2.Permission.READ
    return GrantedKeys([RoleKeys([(begin, end or b"\0", kind) for begin, end in role]) for role in roles], READ, Trees())


def check(node: _Node | None) -> int:
    """The black height of a subtree, after checking the invariants of a red-black tree and of its ends."""
    if node is None:
        return 1
    for below in (node.left, node.right):
        assert below is None or below.parent is node
        assert below is None or not (node.is_red and below.is_red)
    ends = [one.max_end for one in (node.left, node.right) if one is not None] + [node.end]
    assert node.max_end == (b"" if b"" in ends else max(ends))
    left, right = check(node.left), check(node.right)
    assert left == right
    return left + (not node.is_red)


@given(st.lists(st.tuples(key, st.one_of(st.just(b""), key)), max_size=60))
def test_the_tree_is_a_red_black_tree_with_the_largest_ends(intervals: list[tuple[bytes, bytes]]) -> None:
    tree = IntervalTree(iter(intervals), len(intervals))
    while not tree.is_complete:
        tree.grow(1)
    check(tree._root)
    order: list[tuple[bytes, bytes]] = []

    def walk(node: _Node | None) -> None:
        if node is not None:
            walk(node.left)
            order.append((node.begin, node.end))
            walk(node.right)

    walk(tree._root)
    assert [begin for begin, _ in order] == sorted(begin for begin, _ in intervals)


@given(st.lists(st.tuples(key, key), max_size=20), key, key)
def test_an_empty_range_is_covered_only_if_its_key_is(intervals: list[tuple[bytes, bytes]], one: bytes, other: bytes) -> None:
    first, end = max(one, other), min(one, other)
    keys = granted(intervals)
    if end != b"\0" and keys.covers(first, end):
        assert keys.covers(first, b"")
    if first != b"\0":
        assert keys.covers(first, first) == keys.covers(first, b"")


@given(st.lists(st.lists(st.tuples(key, key), max_size=12), min_size=1, max_size=3), key, key)
def test_what_is_decided_without_a_tree_is_what_the_tree_decides(roles: list[list[Interval]], one: bytes, other: bytes) -> None:
    first, end = max(one, other), min(one, other)
    of_roles = [sorted((begin, to) for begin, to in role if begin < to != b"\0") for role in roles]
    intervals = [one for role in of_roles for one in role]
    tree = IntervalTree(iter(intervals), len(intervals))
    tree.finish()
    if end != b"\0":
        assert granted(*of_roles).covers(first, end) == tree.covers_empty(first, end)


def test_etcd_does_not_look_behind_a_permission_that_begins_behind_the_end() -> None:
    """The permission of d is below that of b, which begins at the end or behind it."""
    keys = granted([(b"b", b"c"), (b"d", b"e")])
    assert not keys.covers(b"d", b"a")
    assert not keys.covers(b"d", b"b")
    assert keys.covers(b"d", b"b\0")
    assert granted([(b"d", b"e")]).covers(b"d", b"a")
