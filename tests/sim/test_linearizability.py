"""The checker on handwritten histories, and compared with a search over all orders."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tercet.sim.history import HistoryViolation, Kind, Operation, Undecided
from tercet.sim.linearizability import check_linearizable, step
from tercet.sim.revisions import check_revisions
from tests.support.properties import examples


def get(called: int, returned: int, found: bytes | None, key: bytes = b"k") -> Operation:
    return Operation(1, Kind.GET, key, called, returned=returned, found=found)


def put(called: int, returned: int | None, value: bytes, key: bytes = b"k") -> Operation:
    return Operation(1, Kind.PUT, key, called, value=value, returned=returned, took_effect=True)


def delete(called: int, returned: int | None, took_effect: bool = True) -> Operation:
    return Operation(1, Kind.DELETE, b"k", called, returned=returned, took_effect=took_effect)


def cas(called: int, returned: int | None, expected: bytes | None, value: bytes, took_effect: bool = True) -> Operation:
    return Operation(1, Kind.CAS, b"k", called, value=value, expected=expected, returned=returned, took_effect=took_effect)


GOOD = {
    "nothing happened": [],
    "absent at first": [get(0, 1, None)],
    "read your own write": [put(0, 1, b"1"), get(2, 3, b"1")],
    "a read concurrent with a put sees the old value": [put(0, 1, b"1"), put(2, 9, b"2"), get(3, 4, b"1"), get(5, 6, b"2")],
    "concurrent puts, in either order": [put(0, 9, b"1"), put(0, 9, b"2"), get(10, 11, b"1")],
    "an unanswered put takes effect late": [put(0, None, b"1"), get(1, 2, None), get(3, 4, b"1")],
    "an unanswered put never takes effect": [put(0, None, b"1"), get(1, 2, None), get(100, 101, None)],
    "an unanswered put takes effect after another": [put(0, None, b"1"), put(1, 2, b"2"), get(3, 4, b"2"), get(5, 6, b"1")],
    "delete": [put(0, 1, b"1"), delete(2, 3), get(4, 5, None), delete(6, 7, took_effect=False)],
    "delete removes the value of an unanswered put": [put(0, None, b"1"), delete(1, 2), get(3, 4, None)],
    "cas on absence": [cas(0, 1, None, b"1"), cas(2, 3, None, b"2", took_effect=False), get(4, 5, b"1")],
    "cas, one of two wins": [
        put(0, 1, b"0"),
        cas(2, 9, b"0", b"1"),
        cas(2, 9, b"0", b"2", took_effect=False),
        get(10, 11, b"1"),
    ],
    "a failed cas is ordered after the one that succeeded": [
        put(0, 1, b"0"),
        cas(2, 9, b"0", b"1", took_effect=False),
        put(3, 4, b"2"),
    ],
    "a return and a call at the same time": [put(0, 5, b"1"), get(5, 6, None)],
    "keys are independent": [put(0, 1, b"1", b"a"), get(2, 3, None, b"b")],
}

BAD = {
    "a value that was never put": [get(0, 1, b"1")],
    "a lost write": [put(0, 1, b"1"), get(2, 3, None)],
    "a stale read": [put(0, 1, b"1"), put(2, 3, b"2"), get(4, 5, b"1")],
    "a read that goes back": [put(0, 1, b"1"), put(2, 99, b"2"), get(3, 4, b"2"), get(5, 6, b"1")],
    "applied twice": [put(0, 1, b"1"), put(2, 3, b"2"), get(4, 5, b"2"), get(6, 7, b"1")],
    "an unanswered put read, then undone": [put(0, None, b"1"), get(1, 2, b"1"), get(3, 4, None)],
    "an unanswered put, twice": [put(0, None, b"1"), get(1, 2, b"1"), put(3, 4, b"2"), get(5, 6, b"2"), get(7, 8, b"1")],
    "a deleted value read": [put(0, 1, b"1"), delete(2, 3), get(4, 5, b"1")],
    "deleted twice": [put(0, 1, b"1"), delete(2, 3), delete(4, 5)],
    "a delete that missed a value": [put(0, 1, b"1"), delete(2, 3, took_effect=False)],
    "two cas succeed on one value": [put(0, 1, b"0"), cas(2, 9, b"0", b"1"), cas(2, 9, b"0", b"2")],
    "a cas fails although no other wrote": [put(0, 1, b"0"), cas(2, 9, b"0", b"1", took_effect=False)],
    "cas on an old value": [put(0, 1, b"0"), put(2, 3, b"1"), cas(4, 5, b"0", b"2")],
    "two readers disagree on an order": [
        put(0, 99, b"1"),
        put(0, 99, b"2"),
        get(1, 2, b"1"),
        get(3, 4, b"2"),
        get(5, 6, b"1"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_linearizable_histories_pass(name: str) -> None:
    check_linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_other_histories_fail(name: str) -> None:
    with pytest.raises(HistoryViolation, match="no order explains"):
        check_linearizable(BAD[name])


def test_the_error_lists_the_operations_around_it() -> None:
    with pytest.raises(HistoryViolation) as violation:
        check_linearizable([put(0, 1, b"1"), put(2, 3, b"2"), get(4, 5, b"1"), put(4, 8, b"3")])
    text = str(violation.value)
    assert "no order explains [4..5] client 1: get k: 1" in text
    assert "[2..3] client 1: put k 2: done" in text
    assert "[4..8] client 1: put k 3: done" in text


def test_many_unanswered_operations_stay_tractable() -> None:
    """Thirty unanswered puts are 2^30 subsets; only those that a read needs are distinguished."""
    lost = [put(n, None, b"lost %d" % n) for n in range(30)]
    kept = [put(100 + 2 * n, 101 + 2 * n, b"kept %d" % n) for n in range(50)]
    reads = [get(201, 202, b"kept 49"), get(203, 204, b"lost 7"), get(205, 206, b"lost 3")]
    check_linearizable(lost + kept + reads)
    with pytest.raises(HistoryViolation):
        check_linearizable([*lost, *kept, *reads, get(207, 208, b"lost 7")])


def test_a_history_beyond_the_bound_is_undecided() -> None:
    crowd = [put(n, 100 + n, b"%d" % n) for n in range(14)]
    crowd += [cas(200 + n, 201 + n, b"%d" % n, b"x", took_effect=False) for n in range(0, 28, 2)]
    with pytest.raises(Undecided):
        check_linearizable(crowd, configurations_max=50)


values = st.sampled_from([b"1", b"2"])
maybe_values = st.one_of(st.none(), values)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    kind = draw(st.sampled_from(Kind))
    called = draw(st.integers(0, 12))
    returned = draw(st.one_of(st.none(), st.integers(called, called + 6)))
    return Operation(
        client=1,
        kind=kind,
        key=b"k",
        called=called,
        returned=returned,
        value=draw(values) if kind in (Kind.PUT, Kind.CAS) else None,
        expected=draw(maybe_values) if kind is Kind.CAS else None,
        found=draw(maybe_values) if kind is Kind.GET else None,
        took_effect=kind is Kind.PUT or draw(st.booleans()),
    )


@given(st.lists(operations(), max_size=5))
@example([put(0, 9, b"1"), put(0, 9, b"1"), delete(0, 9), delete(0, 9)])
@example([put(0, 9, b"1"), put(0, 9, b"2"), delete(0, 9), delete(0, 9)])
@example([put(0, None, b"1"), cas(0, None, None, b"2"), delete(1, 2), delete(3, 4)])
@examples(300)
def test_agrees_with_the_plain_search(history: list[Operation]) -> None:
    try:
        check_linearizable(history)
        is_linearizable = True
    except HistoryViolation:
        is_linearizable = False
    assert is_linearizable == has_some_order(history)


def has_some_order(history: list[Operation]) -> bool:
    """The definition: some order of all answered operations and of any subset of the others."""
    answered = [one for one in history if one.returned is not None]
    others = [one for one in history if one.returned is None]
    for subset in range(1 << len(others)):
        chosen = answered + [one for n, one in enumerate(others) if subset >> n & 1]
        if any(is_explanation(order) for order in permutations(chosen)):
            return True
    return False


def is_explanation(order: tuple[Operation, ...]) -> bool:
    value: bytes | None = None
    for position, operation in enumerate(order):
        for later in order[position + 1 :]:
            if later.returned is not None and later.returned < operation.called:
                return False
        fits, value = step(operation, value)
        if not fits:
            return False
    return True


def with_revision(operation: Operation, revision: int, mod_revision: int = 0) -> Operation:
    operation.revision, operation.mod_revision = revision, mod_revision
    return operation


def test_consistent_revisions_pass() -> None:
    check_revisions(
        [
            with_revision(put(0, 1, b"1"), 2),
            with_revision(put(0, 5, b"1", b"a"), 4),
            with_revision(put(2, 3, b"2", b"b"), 3),
            with_revision(get(6, 7, b"1"), 4, 2),
            with_revision(get(6, 8, b"1", b"a"), 4, 4),
            with_revision(delete(9, 10, took_effect=False), 4),
        ]
    )


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([with_revision(put(0, 1, b"1"), 3), with_revision(put(2, 3, b"2", b"a"), 2)], "went back in time"),
        ([with_revision(put(0, 1, b"1"), 3), with_revision(get(2, 3, None, b"a"), 2)], "went back in time"),
        ([with_revision(get(0, 1, None), 3), with_revision(put(2, 3, b"2", b"a"), 3)], "went back in time"),
        ([with_revision(put(0, 9, b"1"), 3), with_revision(put(2, 3, b"2", b"a"), 3)], "one revision"),
        ([with_revision(get(0, 1, b"1"), 3, 4)], "later revision"),
        ([with_revision(put(0, 9, b"1"), 3), with_revision(get(0, 9, b"2"), 3, 3)], "two values"),
    ],
)
def test_inconsistent_revisions_fail(history: list[Operation], message: str) -> None:
    with pytest.raises(HistoryViolation, match=message):
        check_revisions(history)
