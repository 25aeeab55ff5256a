"""A sharded dictionary against one of Python's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.containers import ShardedDict

keys = st.binary(max_size=2)


@given(st.lists(st.tuples(st.sampled_from(["set", "pop", "get"]), keys, st.integers())))
def test_it_holds_what_a_dictionary_holds(changes: list[tuple[str, bytes, int]]) -> None:
    sharded: ShardedDict[int] = ShardedDict()
    model: dict[bytes, int] = {}
    for kind, key, value in changes:
        if kind == "set":
            sharded.set(key, value)
            model[key] = value
        elif kind == "pop":
            assert sharded.pop(key) == model.pop(key, None)
        assert sharded.get(key) == model.get(key)
        assert (key in sharded) == (key in model)
        assert len(sharded) == len(model)
    assert dict(sharded.items()) == model


def test_no_dictionary_in_it_grows_large() -> None:
    sharded: ShardedDict[int] = ShardedDict()
    for number in range(100_000):
        sharded.set(b"%d" % number, number)
    assert max(map(len, sharded._shards)) < 1000
