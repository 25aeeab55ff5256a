"""The Watch service in process: what a client sees of creates, cancels, progress, fragments, and the end of a stream."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tercet import errors
from tercet.errors import Code
from tercet.intake import TASK_WORK, TURN_WORK, intake_of_running_loop
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import Channel, ClientStream, InProcessStream, Metadata, Peer, RpcError
from tercet.services.authorization import Authorization
from tercet.services.watch import FRAGMENT_OVERHEAD_BYTES
from tercet.services.watch_durations import PROGRESS
from tests.rpc.harness import serving
from tests.services.harness import REQUEST_BYTES_MAX, ServedMember, run, served

Create = rpc_pb2.WatchCreateRequest
Response = rpc_pb2.WatchResponse
INVALID_ID = -1


class Watching:
    """A client's stream."""

    def __init__(self, stream: InProcessStream | ClientStream) -> None:
        self.stream = stream

    async def send(self, request: rpc_pb2.WatchRequest) -> None:
        await self.stream.send(request.SerializeToString())

    async def create(self, **fields: object) -> Response:
        await self.send(rpc_pb2.WatchRequest(create_request=Create(**fields)))  # type: ignore[arg-type]
        return await self.next()

    async def cancel(self, watch_id: int) -> None:
        await self.send(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=watch_id)))

    async def ask_progress(self) -> None:
        await self.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    async def next(self) -> Response:
        message = await self.stream.receive()
        assert message is not None
        return Response.FromString(message)

    async def is_silent(self) -> bool:
        """Whether nothing arrives for a while. A message that does arrive is lost."""
        for _ in range(20):
            await asyncio.sleep(0)
        try:
            await asyncio.wait_for(self.stream.receive(), 0.02)
        except TimeoutError:
            return True
        return False


def watching(member: ServedMember, metadata: Metadata = ()) -> Watching:
    return Watching(member.channel.stream("/etcdserverpb.Watch/Watch", metadata=metadata))


async def put(member: ServedMember, key: bytes, value: bytes = b"") -> int:
    response = await member.call("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse)
    return response.header.revision


def test_a_watch_is_created_notified_and_cancelled() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            created = await client.create(key=b"a")
            assert (created.created, created.canceled, created.watch_id, created.header.revision) == (True, False, 0, 1)
            assert created.header.raft_term == member.raft.term
            await put(member, b"b")
            await put(member, b"a", b"v")
            response = await client.next()
            assert response.header.revision == 3
            kv = kv_pb2.KeyValue(key=b"a", value=b"v", create_revision=3, mod_revision=3, version=1)
            assert list(response.events) == [kv_pb2.Event(kv=kv)]
            await client.cancel(7)
            await client.cancel(0)
            cancelled = await client.next()
            assert (cancelled.canceled, cancelled.created, cancelled.watch_id) == (True, False, 0)
            assert (cancelled.header.revision, cancelled.cancel_reason) == (3, "")
            await put(member, b"a")
            assert await client.is_silent()

    run(test())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"key": b"b", "range_end": b"a"}, "mvcc: watcher range is empty"),
        ({"key": b"b", "range_end": b"b"}, "mvcc: watcher range is empty"),
        ({"key": b"b", "watch_id": 5}, "mvcc: duplicate watch ID provided on the WatchStream"),
        ({"key": b"b", "filters": [0] * 1025}, "etcdserver: a watch with more than 1024 filters"),
        ({"key": b"b", "start_revision": -1}, "etcdserver: mvcc: required revision has been compacted"),
    ],
)
def test_a_watch_that_is_refused_leaves_the_stream_open(fields: dict[str, object], reason: str) -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            assert (await client.create(key=b"a", watch_id=5)).watch_id == 5
            refused = await client.create(**fields)
            assert (refused.created, refused.canceled, refused.watch_id) == (True, True, INVALID_ID)
            assert (refused.cancel_reason, refused.header.revision, refused.compact_revision) == (reason, 1, 0)
            await put(member, b"a")
            assert (await client.next()).watch_id == 5

    run(test())


def test_an_empty_key_is_the_first_and_an_end_of_zero_is_none() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.create(range_end=b"\0")
            await client.create()
            await put(member, b"x")
            response = await client.next()
            assert (response.watch_id, [event.kv.key for event in response.events]) == (0, [b"x"])
            assert await client.is_silent()

    run(test())


def test_a_compacted_watch_is_created_and_ends_with_the_compact_revision() -> None:
    async def test() -> None:
        async with served() as member:
            for _ in range(4):
                await put(member, b"a")
            await member.call("KV/Compact", rpc_pb2.CompactionRequest(revision=4), rpc_pb2.CompactionResponse)
            client = watching(member)
            created = await client.create(key=b"a", start_revision=2)
            assert (created.created, created.canceled, created.header.revision) == (True, False, 5)
            ended = await client.next()
            assert (ended.canceled, ended.created, ended.compact_revision, ended.cancel_reason) == (True, False, 4, "")
            assert ended.header.revision == 0

    run(test())


def test_progress_on_request_and_periodically() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.create(key=b"a")
            await client.create(key=b"b", progress_notify=True)
            await put(member, b"c")
            await client.ask_progress()
            seen: set[tuple[int, int]] = set()
            while not {(INVALID_ID, 2), (1, 2)} <= seen:  # on a slow machine, periodic ones of revision 1 come first
                notice = await client.next()
                assert not notice.events
                seen.add((notice.watch_id, notice.header.revision))
            assert seen <= {(INVALID_ID, 2), (1, 1), (1, 2)}

    run(test())


def test_a_large_response_is_split_only_for_who_asks() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.create(key=b"a", range_end=b"b", fragment=True)
            await client.create(key=b"a", range_end=b"b")
            size = REQUEST_BYTES_MAX // 2
            request = rpc_pb2.TxnRequest(
                success=[
                    rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"a%d" % number, value=bytes(size // 4)))
                    for number in range(7)
                ]
            )
            await member.call("KV/Txn", request, rpc_pb2.TxnResponse)
            await member.call("KV/Txn", request, rpc_pb2.TxnResponse)
            parts: list[Response] = []
            whole: list[Response] = []
            while sum(len(part.events) for part in parts) < 14 or sum(len(part.events) for part in whole) < 14:
                response = await client.next()
                (whole if response.watch_id else parts).append(response)
            assert all(len(part.SerializeToString()) < REQUEST_BYTES_MAX + FRAGMENT_OVERHEAD_BYTES for part in parts)
            assert not any(part.fragment for part in whole)
            assert not parts[-1].fragment
            events = [event.kv.key for part in parts for event in part.events]
            assert events == [event.kv.key for part in whole for event in part.events] == [b"a%d" % n for n in range(7)] * 2

    run(test())


def test_history_of_large_values_is_one_response_over_http2() -> None:
    """As upstream's TestWatchFragment: ten large values are one response, or fragments of one."""

    async def test() -> None:
        async with served() as member, serving(member.watch.handlers()) as (_, port):
            for number in range(10):
                await put(member, b"a%d" % number, bytes(REQUEST_BYTES_MAX // 3))
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            try:
                for fragment in (False, True):
                    client = Watching(channel.stream("/etcdserverpb.Watch/Watch"))
                    await client.create(key=b"a", range_end=b"b", start_revision=1, fragment=fragment)
                    parts = [await client.next()]
                    while parts[-1].fragment:
                        parts.append(await client.next())
                    assert sum(len(part.events) for part in parts) == 10
                    assert (len(parts) > 1) == fragment
                    client.stream.cancel()
            finally:
                await channel.close()

    run(test())


def test_a_client_that_does_not_read_delays_no_other_and_misses_nothing() -> None:
    async def test() -> None:
        async with served() as member:
            absent, present = watching(member), watching(member)
            for client in (absent, present):
                await client.create(key=b"a")
            hub = member.replica.watches
            for number in range(100):
                revision = await put(member, b"a", bytes(20_000))
                got = 0
                while got < revision:
                    got = (await present.next()).events[-1].kv.mod_revision
                assert got == number + 2
            assert hub.slow_watches == 1
            assert hub.pending_events == 0
            got = 1
            while got < revision:
                for event in (await absent.next()).events:
                    got += 1
                    assert event.kv.mod_revision == got
            assert hub.slow_watches == 0

    run(test())


def test_a_half_closed_stream_goes_on_and_an_unset_request_is_ignored() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.send(rpc_pb2.WatchRequest())
            await client.create(key=b"a")
            client.stream.half_close()
            await put(member, b"a")
            assert len((await client.next()).events) == 1  # W8

    run(test())


def test_a_cancelled_stream_leaves_no_watch() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.create(key=b"a")
            assert (member.replica.watches.watches, member.replica.watches.streams) == (1, 1)
            client.stream.cancel()
            for _ in range(5):
                await asyncio.sleep(0)
            assert (member.replica.watches.watches, member.replica.watches.streams) == (0, 0)

    run(test())


def test_a_malformed_request_ends_the_stream() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member)
            await client.stream.send(b"\xff")
            with pytest.raises(RpcError) as caught:
                await client.next()
            assert caught.value.code is Code.INTERNAL

    run(test())


def test_many_streams_that_need_a_leader_end_over_several_turns() -> None:
    async def test() -> None:
        async with served() as member:
            clients = [watching(member, [("hasleader", "true")]) for _ in range(500)]
            await asyncio.gather(*(client.create(key=b"a") for client in clients))
            for listener in member.replica.leader_listeners:
                listener(0)
            ended = member.methods[b"/etcdserverpb.Watch/Watch"].handled
            before = 0
            ended_before_others: list[int] = []
            while before < len(clients):
                await asyncio.sleep(0)
                assert ended[Code.UNAVAILABLE] - before <= TURN_WORK // TASK_WORK
                if ended[Code.UNAVAILABLE] and not before:
                    intake_of_running_loop().run(lambda: ended_before_others.append(ended[Code.UNAVAILABLE]))
                before = ended[Code.UNAVAILABLE]
            assert ended_before_others[0] < len(clients), "they are not all queued in one turn, before the work of others"

    run(test())


def test_streams_that_need_a_leader_end_when_it_stays_lost() -> None:
    async def test() -> None:
        async with served() as member:
            needing = watching(member, [("hasleader", "true")])
            patient = watching(member)
            for client in (needing, patient):
                await client.create(key=b"a")
            for listener in member.replica.leader_listeners:
                listener(0)
            with pytest.raises(RpcError, match=errors.NO_LEADER.message) as caught:
                await needing.next()
            assert caught.value.code is Code.UNAVAILABLE
            await put(member, b"a")
            assert len((await patient.next()).events) == 1

    run(test())


def test_a_short_election_ends_no_stream() -> None:
    async def test() -> None:
        async with served() as member:
            client = watching(member, [("hasleader", "true")])
            await client.create(key=b"a")
            for leader_id in (0, member.replica.member_id):
                for listener in member.replica.leader_listeners:
                    listener(leader_id)
            await asyncio.sleep(0.2)
            await put(member, b"a")
            assert len((await client.next()).events) == 1

    run(test())


def test_many_watches_are_notified_of_progress_in_several_turns() -> None:
    """50,000 of one stream took half a second of a turn."""

    async def test() -> None:
        async with served() as member:
            client = watching(member)
            member.watch.progress_seconds = 3600.0  # until all are created
            for _ in range(450):
                assert (await client.create(key=b"a", progress_notify=True)).created
            loop, counts = asyncio.get_running_loop(), [0]

            def count() -> None:
                found = member.watch.durations.durations.histograms()
                counts.append(sum(sum(buckets) for operation, _, buckets, _ in found if operation == PROGRESS))
                loop.call_soon(count)

            count()
            (stream,) = member.watch._streams.values()
            loop.call_soon(stream._notify_progress)
            notified: set[int] = set()
            while len(notified) < 450:
                notified.add((await client.next()).watch_id)
            assert max(after - before for before, after in itertools.pairwise(counts)) <= 200

    run(test())


def test_a_snapshot_installed_before_the_service_began_stops_no_watch() -> None:
    """A member that joins, or was down for long, installs one before it serves clients: no watch of it got anything."""

    async def test() -> None:
        async with served() as member:
            await put(member, b"a")
            hub = member.replica.watches
            hub.schedule = lambda: None  # there is no service yet
            hub.replace_store(hub._history.store)
            member.rewire(Authorization(member.replica), Peer("in process", None))
            client = watching(member)
            await client.create(key=b"a", start_revision=2)
            assert [event.kv.mod_revision for event in (await client.next()).events] == [2]

    run(test())
