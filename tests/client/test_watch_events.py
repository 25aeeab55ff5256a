"""The events of a response, whose KVs are made when they are read, are as those of the constructor."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, asdict, fields, replace
from typing import Any, cast

import pytest

from tercet.client import watcher
from tercet.client.key_space import KeySpace
from tercet.client.results import KV
from tercet.client.watch_events import Event, WatchBatch, batches
from tercet.proto import kv_pb2, rpc_pb2

RAW = kv_pb2.KeyValue(key=b"/app/a", value=b"new", create_revision=3, mod_revision=7, version=2, lease=9)
BEFORE = kv_pb2.KeyValue(key=b"/app/a", value=b"old", create_revision=3, mod_revision=3, version=1)


def made(raw: kv_pb2.KeyValue) -> KV:
    return KV(b"a", raw.value, raw.create_revision, raw.mod_revision, raw.version, raw.lease, raw)


PUT = Event(False, made(RAW), made(BEFORE))


def arrived(*raw: kv_pb2.Event, prev_kv: bool = True) -> Event:
    (batch,) = batches(rpc_pb2.WatchResponse(events=raw), KeySpace(b"/app/"), prev_kv=prev_kv)
    return batch.events[0]


def put() -> Event:
    """Another one each time: what is read of it stays."""
    return arrived(kv_pb2.Event(kv=RAW, prev_kv=BEFORE))


def test_an_event_that_arrives_is_as_one_that_is_made() -> None:
    assert type(put()) is Event
    assert put() == PUT
    assert hash(put()) == hash(PUT)
    assert repr(put()) == repr(PUT)
    assert replace(put(), is_delete=True) == replace(PUT, is_delete=True) != PUT
    assert copy.copy(put()) == copy.deepcopy(put()) == pickle.loads(pickle.dumps(put())) == PUT
    assert asdict(put()) == asdict(PUT)
    assert [field.name for field in fields(put())] == ["is_delete", "kv", "prev_kv"]
    match put():
        case Event(False, KV(key=key), KV(value=value)):
            assert (key, value) == (b"a", b"old")
        case _:
            pytest.fail("the pattern does not match")


def test_its_kv_stays_the_same_and_shares_the_value() -> None:
    event = put()
    assert event.kv is event.kv
    assert event.kv.value is event.value
    assert (event.kv.mod_revision, event.kv.version, event.kv.lease) == (7, 2, 9)
    assert event.kv.raw == RAW


@pytest.mark.parametrize("event", [put(), PUT], ids=["arrived", "made"])
def test_key_and_value_are_those_of_the_kv_and_nothing_can_be_set(event: Event) -> None:
    assert (event.key, event.value, event.is_create) == (b"a", b"new", False)
    for name in ("key", "value", "is_delete", "kv", "prev_kv", "_raw"):
        with pytest.raises((FrozenInstanceError, TypeError)):  # TypeError: Python 3.11's, of what is no field
            setattr(event, name, b"other")
    assert not hasattr(event, "keys")
    with pytest.raises(AttributeError, match="'Event' object has no attribute 'revision'"):
        event.revision  # type: ignore[attr-defined]  # noqa: B018


def test_a_delete_has_a_key_and_the_revision() -> None:
    event = arrived(kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=b"/app/a", mod_revision=8)))
    assert (event.is_delete, event.key, event.value, event.kv.mod_revision) == (True, b"a", b"", 8)
    assert event.prev_kv is None


def test_a_namespace_is_taken_off_the_key_of_what_was_there_before() -> None:
    event = put()
    assert event.prev_kv is not None
    assert event.prev_kv.key == event.kv.key == b"a"


class _Received:
    """A watch that has received one response."""

    error = None

    def __init__(self, response: rpc_pb2.WatchResponse) -> None:
        self._responses = [response]

    async def __anext__(self) -> rpc_pb2.WatchResponse:
        if not self._responses:
            raise StopAsyncIteration
        return self._responses.pop()


def test_the_batches_of_a_long_response_are_made_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[WatchBatch] = []

    def noting(*arguments: Any, **options: Any) -> Iterator[WatchBatch]:
        for batch in batches(*arguments, **options):
            made.append(batch)
            yield batch

    monkeypatch.setattr(watcher, "batches", noting)
    revisions = range(1, 1001)
    events = [kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"a", mod_revision=revision)) for revision in revisions]
    request = rpc_pb2.WatchCreateRequest(key=b"a")
    watch = watcher.Watcher(cast(Any, None), KeySpace(), request, progress=False, responses_max=1, bytes_max=1)
    watch._watch = cast(Any, _Received(rpc_pb2.WatchResponse(events=events)))

    async def read() -> list[int]:
        first = await anext(watch)
        assert len(made) < len(revisions) / 2
        return [first.revision, *[batch.revision async for batch in watch]]

    assert asyncio.run(read()) == list(revisions)
