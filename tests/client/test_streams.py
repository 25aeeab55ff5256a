"""Watches, keepalives, locks and elections of the client, on a real etcd; connections are cut by a relay in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tercet.client import ClusterChannel, LeaseSession, Place, WatchStream, keep_alive, keep_alive_once, methods, observe
from tercet.errors import StatusError
from tercet.proto import rpc_pb2
from tests.client.member import run
from tests.support.etcd import Etcd, running_etcd


class Relay:
    """Forwards to a server; `cut` resets all connections, `is_closed` new ones as well."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.endpoint = ""
        self.is_closed = False
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_closed:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self.connections += [writer, back]
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(self._pipe(reader, back), self._pipe(there, writer))

    @staticmethod
    async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(1 << 16):
            target.write(chunk)
            await target.drain()

    def cut(self) -> None:
        for connection in self.connections:
            connection.transport.abort()
        self.connections.clear()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[Relay]:
    state = Relay(port)
    server = await asyncio.start_server(state.serve, "127.0.0.1")
    state.endpoint = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        state.cut()


def put(key: bytes, value: bytes) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=value)


def test_a_watch_loses_nothing_and_repeats_nothing_when_its_connection_is_cut(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with (
            relay(shared_etcd.client_port) as between,
            ClusterChannel([shared_etcd.endpoint]) as writer,
            ClusterChannel([between.endpoint]) as watcher,
            WatchStream(watcher) as stream,
        ):
            first = await writer.kv.put(put(b"cut", b"0"))
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"cut", start_revision=first.header.revision))
            seen: list[bytes] = []
            for number in range(6):
                if number:
                    await writer.kv.put(put(b"cut", b"%d" % number))
                while len(seen) <= number:
                    response = await anext(watch)
                    seen += [event.kv.value for event in response.events]
                between.cut()
            assert seen == [b"%d" % number for number in range(6)]

    run(test())


def test_a_watch_of_a_compacted_revision_ends_with_the_reason(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with ClusterChannel([shared_etcd.endpoint]) as client, WatchStream(client) as stream:
            await client.kv.put(put(b"c", b"1"))
            answer = await client.kv.put(put(b"c", b"2"))
            await client.kv.compact(rpc_pb2.CompactionRequest(revision=answer.header.revision))
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"c", start_revision=1))
            responses = [response async for response in watch]
            assert [(one.canceled, one.compact_revision) for one in responses] == [(True, answer.header.revision)]

    run(test())


def test_a_progress_request_before_the_stream_is_open_is_answered(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with ClusterChannel([shared_etcd.endpoint]) as client, WatchStream(client) as stream:
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"quiet"))
            await stream.request_progress()
            response = await anext(watch)
            assert (len(response.events), response.canceled) == (0, False)
            assert response.header.revision > 0

    run(test())


def test_keep_alive_ends_with_the_lease(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with ClusterChannel([shared_etcd.endpoint]) as client:
            lease = await client.call(methods.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=6))
            renewed = 0
            async for answer in keep_alive(client, lease.ID):
                assert answer.TTL == lease.TTL
                renewed += 1
                if renewed == 2:
                    await client.call(methods.LEASE_REVOKE, rpc_pb2.LeaseRevokeRequest(ID=lease.ID))
            assert renewed == 2
            with pytest.raises(StatusError, match="etcdserver: requested lease not found"):
                await keep_alive_once(client, lease.ID)

    run(test())


def test_a_lock_goes_from_one_to_the_next_in_order(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with ClusterChannel([shared_etcd.endpoint]) as client:
            order: list[int] = []
            entered: list[asyncio.Event] = [asyncio.Event() for _ in range(3)]

            async def take(number: int) -> None:
                async with LeaseSession(client, ttl_seconds=10) as session:
                    place = Place(session, b"mutex")
                    await place.enter()
                    entered[number].set()
                    await place.wait_turn()
                    order.append(number)
                    await place.leave()

            async with LeaseSession(client, ttl_seconds=10) as session:
                first = Place(session, b"mutex")
                await first.enter()
                assert not await first.wait_turn()
                waiting = []
                for number in range(3):
                    waiting.append(asyncio.create_task(take(number)))
                    await entered[number].wait()
                assert order == []
                await first.leave()
                await asyncio.gather(*waiting)
            assert order == [0, 1, 2]

    run(test())


def test_observe_follows_proposals_and_leaders(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with ClusterChannel([shared_etcd.endpoint]) as client:
            seen: asyncio.Queue[bytes] = asyncio.Queue()

            async def follow() -> None:
                async for response in observe(client, b"election"):
                    await seen.put(response.kvs[0].value)

            follower = asyncio.create_task(follow())
            for name in (b"one", b"two"):
                async with LeaseSession(client, ttl_seconds=10) as session:
                    place = Place(session, b"election")
                    await place.enter(name)
                    assert await seen.get() == name
                    await client.kv.put(rpc_pb2.PutRequest(key=place.key, value=name + b"!", ignore_lease=True))
                    assert await seen.get() == name + b"!"
                    await place.leave()
            follower.cancel()

    run(test())


def test_every_endpoint_that_was_tried_is_named() -> None:
    async def test() -> None:
        reported: list[str] = []
        endpoints = ["127.0.0.1:1", "127.0.0.1:2"]
        async with ClusterChannel(
            endpoints, timeout=2.0, on_failure=lambda _, __, error: reported.append(error.message)
        ) as client:
            with pytest.raises(StatusError, match="context deadline exceeded"):
                await client.kv.range(rpc_pb2.RangeRequest(key=b"a"))
        assert len(reported) == 1
        assert all(f"{endpoint}: " in reported[0] for endpoint in endpoints)

    run(test())


def test_a_watch_resumes_after_its_token_has_expired(tmp_path: Path) -> None:
    async def test(etcd: Etcd) -> None:
        credentials = {"user": "root", "password": "p"}
        async with (
            relay(etcd.client_port) as between,
            ClusterChannel([between.endpoint], **credentials) as watcher,
            WatchStream(watcher) as stream,
        ):
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"a"))
            await stream.request_progress()
            assert not (await anext(watch)).canceled
            await asyncio.sleep(3)  # the token lives for a second, and is removed within another
            between.cut()
            async with ClusterChannel([etcd.endpoint], **credentials) as writer:
                await writer.kv.put(put(b"a", b"1"))
            response = await anext(watch)
            assert [event.kv.value for event in response.events] == [b"1"], response.cancel_reason

    with running_etcd(tmp_path, "--auth-token-ttl=1", "--bcrypt-cost=4") as etcd:
        etcd.ctl("user", "add", "root:p")
        etcd.ctl("user", "grant-role", "root", "root")
        etcd.ctl("auth", "enable")
        run(test(etcd))
