"""Merged permissions against the definition: a range is permitted if each of its keys is in some granted interval."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from tercet.auth.empty_ranges import Interval, Trees
from tercet.auth.permissions import READ, Grant, GrantedKeys, KeySet, Permissions, RoleKeys, is_grantable
from tercet.proto import auth_pb2

# All keys of one or two letters of this alphabet, and what lies directly behind them, stand for all keys.
LETTERS = b"\x00ab\xff"
KEYS = sorted({bytes(word) for one in LETTERS for word in ((one,), *((one, two) for two in LETTERS))})
key = st.sampled_from(KEYS)
end = st.sampled_from([b"", *KEYS])


granted_end = st.sampled_from([b"", *KEYS[1:]])  # without b"\0", the open end of a request
roles = st.lists(st.lists(st.tuples(key, granted_end), max_size=12), min_size=1, max_size=3)
MANY: list[list[Interval]] = [[]] * 20  # roles that grant nothing


def granted(*permissions: list[Interval]) -> GrantedKeys:
    """What roles with these permissions allow to read; an end of b"" means no end."""
    return GrantedKeys([RoleKeys(sorted((begin, to or b"\0", 0) for begin, to in each)) for each in permissions], READ, Trees())


@given(roles, key, end)
def test_a_range_is_covered_if_each_of_its_keys_is(of_roles: list[list[Interval]], first: bytes, last: bytes) -> None:
    check_covers(granted(*of_roles), of_roles, first, last)


@given(roles, st.lists(st.tuples(key, end), max_size=5))
def test_many_roles_remember_nothing_wrong(of_roles: list[list[Interval]], asked: list[tuple[bytes, bytes]]) -> None:
    keys = granted(*MANY, *of_roles)
    for first, last in asked:
        if not last or last == b"\0" or last > first:
            check_covers(keys, of_roles, first, last)


def test_what_one_of_many_roles_grants_is_searched_once() -> None:
    """A user with a thousand roles: 60 us for each key, and a turn may check a thousand."""
    keys = granted(*MANY, [(b"b", b"c")], [(b"c", b"d")], [(b"f", b"g")])
    asked = [(b"b", b""), (b"d", b""), (b"b", b"bz"), (b"b", b"d"), (b"f", b"fz"), (b"f", b"h"), (b"a", b"c")]
    answers = [keys.covers(*each) for each in asked]
    assert answers == [True, False, True, True, True, False, False]
    keys._sets[:] = [KeySet((), READ)] * len(keys._sets)
    assert [keys.covers(*each) for each in asked] == answers
    assert keys.covers(b"bz", b"")
    assert not keys.covers(b"dz", b"")


def check_covers(keys: GrantedKeys, of_roles: list[list[Interval]], first: bytes, last: bytes) -> None:
    intervals = [one for each in of_roles for one in each]
    wanted = [one for one in points() if is_in(one, first, last)]
    assume(not last or last == b"\0" or last > first)  # see test_empty_ranges.py
    covered = all(any(begin <= one and (not to or one < to) for begin, to in intervals) for one in wanted)
    if last == b"\0":
        covered = covered and any(not to for _, to in intervals)
    for _ in range(2):  # the second time with what the first one has found
        assert keys.covers(first, last) == covered


def test_a_range_that_two_roles_cover_in_turns_is_walked_once() -> None:
    """20,000 permissions: what a walk has found is known to the next one."""
    borders = [b"%05d" % number for number in range(20_001)]
    of_roles = [list(zip(borders[start:-1:2], borders[start + 1 :: 2], strict=True)) for start in (0, 1)]
    keys = granted(*of_roles)
    assert keys.covers(b"00000", b"20000")
    assert not keys.covers(b"00000", b"20000\0")
    assert not keys.covers(b"00000", b"\0")
    assert (keys._known.begins, keys._known.ends) == ([b"00000"], [b"20000"])


def test_a_walk_looks_at_each_interval_once() -> None:
    """A thousand roles that cover a range in turns, with 20 permissions each: it took a second, each end asking all roles."""
    roles, rounds = 100, 20
    borders = [b"%05d" % number for number in range(roles * rounds + 1)]
    of_roles = [list(zip(borders[start:-1:roles], borders[start + 1 :: roles], strict=True)) for start in range(roles)]
    trees = Trees()
    keys = GrantedKeys([RoleKeys([(begin, to, 0) for begin, to in each]) for each in of_roles], READ, trees)
    assert keys.covers(borders[0], borders[-1])
    assert 2 * roles < trees.sets_asked < roles * rounds + 3 * roles


def points() -> list[bytes]:
    return sorted({*KEYS, *(one + b"\0" for one in KEYS), *(one + b"\0\0" for one in KEYS)})


def is_in(one: bytes, first: bytes, last: bytes) -> bool:
    if not last:
        return one == first
    return one >= first and (last == b"\0" or one < last)


def test_read_and_write_are_separate_and_readwrite_is_both() -> None:
    kinds = auth_pb2.Permission
    grants: list[Grant] = [(b"r", b"", kinds.READ), (b"w", b"x", kinds.WRITE), (b"y", b"\0", kinds.READWRITE)]
    permissions = Permissions([RoleKeys(grants)], Trees(), is_root=False)
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
