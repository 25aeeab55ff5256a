"""Classes with `quick_init` are what `dataclass` makes."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, make_dataclass, replace
from typing import Any

import pytest

from tercet.client.quick_init import maker, quick_init
from tercet.client.results import KV, Header, Put
from tercet.client.watch_events import Event, WatchBatch

CLASSES = [Header, KV, Put, Event, WatchBatch]


@pytest.mark.parametrize("made", CLASSES, ids=lambda made: made.__name__)
def test_it_is_made_read_compared_and_frozen_like_any_dataclass(made: Any) -> None:
    names = [each.name for each in fields(made)]
    plain = make_dataclass(made.__name__, names, frozen=True, slots=True)
    values = [f"value of {name}" for name in names]
    one = made(*values)
    assert {name: getattr(one, name) for name in names} == dict(zip(names, values, strict=True))
    assert made(**dict(zip(names, values, strict=True))) == one == replace(one) == copy.copy(one)
    assert replace(one, **{names[0]: "other"}) != one
    assert hash(one) == hash(made(*values))
    assert list(inspect.signature(made).parameters) == list(inspect.signature(plain).parameters)
    for each in (made, plain):
        with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument: "):
            each(*values[:-1])
    with pytest.raises(FrozenInstanceError):
        setattr(one, names[0], "other")


@pytest.mark.parametrize("made", CLASSES, ids=lambda made: made.__name__)
def test_a_maker_makes_what_the_class_makes(made: Any) -> None:
    names = [each.name for each in fields(made)]
    values = [f"value of {name}" for name in names]
    make = maker(made)
    one = make(*values)
    assert type(one) is made
    assert one == made(*values) == make(**dict(zip(names, values, strict=True))) == copy.copy(one)
    assert hash(one) == hash(made(*values))
    assert pickle.loads(pickle.dumps(one)) == one
    with pytest.raises(FrozenInstanceError):
        setattr(one, names[0], "other")
    with pytest.raises(TypeError):
        make(*values[:-1])


def test_annotations_stay_for_tools_that_read_them() -> None:
    assert inspect.signature(Header).parameters["revision"].annotation == "int"
    assert Header.__init__.__qualname__ == "Header.__init__"


def test_options_of_fields_are_kept() -> None:
    @quick_init
    @dataclass(frozen=True, slots=True)
    class Shown:
        a: int
        raw: object = field(repr=False, compare=False)

    assert repr(Shown(1, object())).endswith("Shown(a=1)")
    assert Shown(1, object()) == Shown(1, object())
