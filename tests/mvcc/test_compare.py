"""Comparisons that speak of the same keys, evaluated together and one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.mvcc import Store
from tercet.mvcc.compare import Comparisons, _grouped
from tercet.mvcc.work import finish
from tercet.proto import rpc_pb2
from tests.mvcc.dict_backend import DictBackend

KEYS = (b"a", b"b", b"c")
few = st.integers(min_value=0, max_value=6)
values = st.sampled_from([b"", b"1", b"2", b"3"])


def compares(target: int, result: int, number: int, value: bytes, place: tuple[bytes, bytes]) -> rpc_pb2.Compare:
    compare = rpc_pb2.Compare(key=place[0], range_end=place[1])
    compare.target, compare.result = target, result  # type: ignore[assignment]
    field = {0: "version", 1: "create_revision", 2: "mod_revision", 4: "lease"}.get(target)
    if field is not None:
        setattr(compare, field, number)
    elif target == 3:
        compare.value = value
    return compare


def holds(store: Store, *compare: rpc_pb2.Compare) -> bool:
    comparisons = Comparisons(store._read(store.revision), rpc_pb2.TxnRequest(compare=compare))
    finish(comparisons)
    return comparisons.plan.succeeded


@given(
    st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=5),
    st.sampled_from([(b"a", b""), (b"a", b"c"), (b"a", b"\0"), (b"x", b"z")]),
    # Targets and results of a later version too.
    st.lists(st.tuples(st.integers(min_value=0, max_value=6), st.integers(min_value=0, max_value=5), few, values), max_size=12),
)
def test_all_of_them_hold_if_each_does(
    puts: list[tuple[bytes, bytes]], place: tuple[bytes, bytes], compared: list[tuple[int, int, int, bytes]]
) -> None:
    store = Store(DictBackend())
    for key, value in puts:
        store.put(rpc_pb2.PutRequest(key=key, value=value))
    each = [compares(*one, place) for one in compared]
    assert holds(store, *each) == all(holds(store, one) for one in each)


def test_a_key_is_compared_with_bounds_and_not_with_each_operand() -> None:
    store = Store(DictBackend())
    store.put(rpc_pb2.PutRequest(key=b"a", value=b"050"))
    place = (b"a", b"b")
    greater = [compares(3, 1, 0, b"%03d" % operand, place) for operand in range(50)]
    less = [compares(3, 2, 0, b"%03d" % operand, place) for operand in range(51, 100)]
    inside = greater + less
    others = [compares(3, 3, 0, b"other %d" % number, place) for number in range(100)]
    assert holds(store, *inside, *others)
    (conditions,) = _grouped(rpc_pb2.TxnRequest(compare=inside + others))
    assert len(conditions._all) == 3
    for wrong in (compares(3, 1, 0, b"050", place), compares(3, 2, 0, b"050", place), compares(3, 3, 0, b"050", place)):
        assert not holds(store, *inside, *others, wrong)
        assert not holds(store, wrong, *inside, *others)
