"""Watch streams of tercet and of a real etcd: the same requests, the same responses.

Requests are sent one after the other, so that every response of etcd is determined. History, which etcd sends up to 100 ms
after the answer to its create, is compared event by event, whatever the responses that carry it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tercet.proto import kv_pb2, rpc_pb2
from tests.differential.twins import Twins
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster
from tests.support.watching import Create, Response, Stream

Put = rpc_pb2.PutRequest
Delete = rpc_pb2.DeleteRangeRequest
Compact = rpc_pb2.CompactionRequest
Op = rpc_pb2.RequestOp
Txn = rpc_pb2.TxnRequest

MARKER = b"watch/~marker"
KEYS = [b"watch/%c" % letter for letter in b"abcd"]
RANGES = [
    *((key, b"") for key in KEYS),
    (b"watch/", b"watch0"),
    (b"watch/b", b"watch/d"),
    (b"watch/", b"\0"),
    (b"", b"\0"),
    (b"watch/b", b"watch/b\0"),
]


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """An etcd from 3.6 on, and a tercet of its own beside it."""
    programs = {"etcd": newer_etcd(), "tercet": TERCET}
    clusters = [
        Cluster.plan(tmp_path_factory.mktemp(name), [name], programs={name: program}) for name, program in programs.items()
    ]
    try:
        for cluster in clusters:
            cluster.members[0].start()
        for cluster in clusters:
            cluster.members[0].wait_ready()
        yield Twins(*(cluster.members[0].client for cluster in clusters))
    finally:
        for cluster in clusters:
            cluster.dispose()


class Pair:
    """The same stream at both members."""

    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.streams = [Stream(client) for client in (twins.etcd, twins.tercet)]

    def create(self, **fields: Any) -> Response:
        for stream in self.streams:
            stream.create(Create(**fields))
        return self.next()

    def cancel(self, watch_id: int) -> None:
        for stream in self.streams:
            stream.cancel(watch_id)

    def ask_progress(self) -> None:
        for stream in self.streams:
            stream.ask_progress()

    def next(self) -> Any:
        """The next response of both. Fails if they differ."""
        theirs, ours = (stream.next() for stream in self.streams)
        assert ours == theirs
        return ours

    def drain(self) -> tuple[list[Any], list[Any]]:
        """All responses of both up to an event that both must send."""
        self.twins.call(Put(key=MARKER))
        theirs, ours = (stream.until_marked(MARKER) for stream in self.streams)
        return theirs, ours

    def close(self) -> None:
        for stream in self.streams:
            stream.close()


@pytest.fixture
def pair(twins: Twins) -> Iterator[Pair]:
    yield from _opened(twins)


@pytest.fixture
def newer_pair(newer: Twins) -> Iterator[Pair]:
    yield from _opened(newer)


def _opened(twins: Twins) -> Iterator[Pair]:
    made = Pair(twins)
    try:
        yield made
    finally:
        made.close()


def put(key: bytes, value: bytes = b"") -> Op:
    return Op(request_put=Put(key=key, value=value))


def check_live_events(pair: Pair) -> None:
    """Creates with every option, then requests of every kind, one at a time."""
    call = pair.twins.call
    pair.create(key=b"watch/", range_end=b"watch0", prev_kv=True)
    for write in (
        Put(key=KEYS[0], value=b"1"),
        Put(key=KEYS[0], value=b"2"),
        Txn(success=[put(KEYS[0]), put(KEYS[1], b"x"), Op(request_delete_range=Delete(key=KEYS[2], range_end=b"watch/z"))]),
        Put(key=KEYS[0], ignore_value=True),
        Delete(key=b"watch/", range_end=b"watch0"),
        Put(key=KEYS[0], value=b"again"),
    ):
        call(write)
        pair.next()
    for filters in ([0], [1], [0, 1], [7]):
        pair.create(key=KEYS[0], filters=filters)
    pair.cancel(0)
    assert pair.next().canceled
    pair.cancel(0)
    pair.cancel(99)
    pair.create(key=MARKER, watch_id=10)
    call(Put(key=KEYS[0]))
    call(Delete(key=KEYS[0]))
    theirs, ours = pair.drain()
    assert by_watch(ours) == by_watch(theirs)
    assert {response.watch_id for response in ours} == {1, 2, 4}


def check_refusals(pair: Pair) -> None:
    created = pair.create(key=b"watch/r", watch_id=7)
    assert (created.created, created.watch_id) == (True, 7)
    for fields in (
        {"key": b"b", "range_end": b"a"},
        {"key": b"b", "range_end": b"b"},
        {"key": b"", "range_end": b"", "watch_id": 7},
        {"key": b"watch/r", "watch_id": 7},
        {"key": b"watch/r", "watch_id": -3},
        {"key": b"watch/r"},
        {"key": b"watch/r"},
        {"key": b"watch/r", "start_revision": 1 << 40},
    ):
        pair.create(**fields)


def by_watch(responses: list[Any]) -> dict[int, list[Response]]:
    found: dict[int, list[Response]] = {}
    for response in responses:
        found.setdefault(response.watch_id, []).append(response)
    return found


def events_by_watch(responses: list[Any]) -> dict[int, list[kv_pb2.Event]]:
    return {
        watch_id: [event for response in of_watch for event in response.events]
        for watch_id, of_watch in by_watch(responses).items()
        if any(response.events for response in of_watch)
    }


def check_history(pair: Pair, seed: int) -> None:
    """Random writes and watches of random ranges from random revisions, some cancelled; every watch gets the same events."""
    chance = random.Random(seed)
    call, twins = pair.twins.call, pair.twins
    pair.create(key=MARKER, watch_id=1000)
    for _ in range(60):
        kind = chance.choice(("put", "put", "put", "delete", "txn", "create", "create", "cancel"))
        if kind == "put":
            call(Put(key=chance.choice(KEYS), value=b"%d" % chance.randrange(1000)))
        elif kind == "delete":
            key, end = chance.choice(RANGES[:6])
            call(Delete(key=key, range_end=end))
        elif kind == "txn":
            call(Txn(success=[put(key) for key in chance.sample(KEYS, chance.randint(1, 4))]))
        elif kind == "create":
            key, end = chance.choice(RANGES)
            fields: dict[str, Any] = {"key": key, "range_end": end, "prev_kv": chance.random() < 0.5}
            fields["filters"] = chance.choice(([], [], [0], [1]))
            fields["fragment"] = chance.random() < 0.3
            start = chance.choice((0, twins.revision + chance.randint(1, 5), chance.randint(2, twins.revision)))
            fields["start_revision"] = max(start, twins.compacted + 1) if start else 0
            for stream in pair.streams:
                stream.create(Create(**fields))
            for stream in pair.streams:
                stream.await_created()
        else:
            pair.cancel(chance.randrange(10))
    theirs, ours = pair.drain()
    assert [one for one in ours if one.created] == [one for one in theirs if one.created]
    assert [one.watch_id for one in ours if one.canceled] == [one.watch_id for one in theirs if one.canceled]
    cancelled = {one.watch_id for one in ours if one.canceled}  # how many events a cancel lets pass is not determined
    theirs_events, ours_events = events_by_watch(theirs), events_by_watch(ours)
    for watch_id in (theirs_events.keys() | ours_events.keys()) - cancelled:
        # The last events may come after the marker's: each stream is cut at its own.
        one, other = theirs_events.get(watch_id, []), ours_events.get(watch_id, [])
        shorter = min(len(one), len(other))
        assert other[:shorter] == one[:shorter], watch_id


def test_live_events_as_3_5(pair: Pair) -> None:
    check_live_events(pair)


def test_refusals_as_3_5(pair: Pair) -> None:
    check_refusals(pair)


@pytest.mark.parametrize("seed", range(4))
def test_histories_as_3_5(pair: Pair, seed: int) -> None:
    check_history(pair, seed)


@needs_newer_etcd
def test_live_events_as_newer(newer_pair: Pair) -> None:
    check_live_events(newer_pair)


@needs_newer_etcd
def test_refusals_as_newer(newer_pair: Pair) -> None:
    check_refusals(newer_pair)
    newer_pair.create(key=b"watch/r", start_revision=-1)
    newer_pair.create(key=b"b", range_end=b"a", start_revision=-5)


@needs_newer_etcd
@pytest.mark.parametrize("seed", range(10, 14))
def test_histories_as_newer(newer_pair: Pair, seed: int) -> None:
    check_history(newer_pair, seed)


@needs_newer_etcd
def test_compacted_watches_as_newer(newer_pair: Pair) -> None:
    pair, call = newer_pair, newer_pair.twins.call
    for number in range(5):
        call(Put(key=KEYS[0], value=b"%d" % number))
    call(Delete(key=KEYS[0]))
    compacted = pair.twins.revision
    call(Put(key=KEYS[0], value=b"after"))
    call(Compact(revision=compacted))
    pair.create(key=KEYS[0], start_revision=compacted - 1)
    assert pair.next().compact_revision == compacted
    pair.ask_progress()  # a compacted watch holds it back
    pair.cancel(0)
    assert pair.next().canceled
    pair.create(key=KEYS[0], start_revision=compacted, prev_kv=True)
    history = pair.next()
    assert [event.type for event in history.events] == [kv_pb2.Event.DELETE, kv_pb2.Event.PUT]
    pair.ask_progress()
    notice = pair.next()
    assert (notice.watch_id, notice.header.revision) == (-1, pair.twins.revision)


@needs_newer_etcd
def test_progress_as_newer(newer_pair: Pair) -> None:
    pair, call = newer_pair, newer_pair.twins.call
    pair.ask_progress()  # no watch: no answer
    pair.create(key=KEYS[0])
    pair.ask_progress()
    assert pair.next().watch_id == -1
    pair.create(key=KEYS[1], start_revision=pair.twins.revision + 2)
    pair.ask_progress()  # a future watch: no answer
    call(Put(key=KEYS[0]))
    pair.next()
    call(Put(key=KEYS[1]))
    pair.next()
    pair.ask_progress()
    assert pair.next().watch_id == -1


@needs_newer_etcd
def test_batches_of_history_as_newer(newer_pair: Pair) -> None:
    """1000 revisions a response (W12), split where the client asks for fragments (W17)."""
    pair, call = newer_pair, newer_pair.twins.call
    first = pair.twins.revision + 1
    for number in range(1200):
        for client in (pair.twins.etcd, pair.twins.tercet):
            client.put(b"watch/batch", b"%d" % number)
    pair.twins.revision += 1200
    pair.create(key=b"watch/batch", start_revision=first)
    assert [len(pair.next().events) for _ in range(2)] == [1000, 200]
    value = bytes(700_000)
    for number in range(4):
        call(Put(key=b"watch/large%d" % number, value=value))
    pair.create(key=b"watch/large", range_end=b"watch/larger", fragment=True, prev_kv=True)
    call(Delete(key=b"watch/large", range_end=b"watch/larger"))
    parts = [pair.next() for _ in range(2)]
    assert [part.fragment for part in parts] == [True, False]


def test_streams_of_a_malformed_request_end_alike(twins: Twins) -> None:
    ends = []
    for client in (twins.etcd, twins.tercet):
        method = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch", request_serializer=bytes, response_deserializer=Response.FromString
        )
        with pytest.raises(client.Error) as caught:
            next(method(iter([b"\xff"]), timeout=20))
        failed: Any = caught.value
        ends.append(failed.code())
    assert ends[0] == ends[1]
