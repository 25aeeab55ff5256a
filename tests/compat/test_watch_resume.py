"""Watches of the drop-in modules survive what ends those of the originals: a restart, a lost connection, a lost endpoint.

Each watch must see every change once, in order, or raise the original's exception for compacted revisions.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import tercet
from tercet.compat import aetcd, etcd3
from tercet.embed.threaded import ThreadedServer
from tercet.testing import Cluster
from tests.support.etcd import binary
from tests.support.waiting import scaled, stretched

pytestmark = pytest.mark.server_process
SETTINGS = {"heartbeat_interval": 50, "election_timeout": 1000}


@pytest.fixture(params=["etcd", "tercet"])
def process(request: pytest.FixtureRequest) -> Iterator[tercet.ServerProcess]:
    """One member that the test may kill."""
    program = {"program": [binary("etcd")]} if request.param == "etcd" else {}
    with tercet.ServerProcess(config={"bcrypt_cost": 4}, **program) as server:
        yield server


@pytest.fixture(scope="module")
def three() -> Iterator[Cluster]:
    with Cluster(3, config=SETTINGS) as started:
        yield started


@pytest.fixture
def cluster(three: Cluster) -> Iterator[Cluster]:
    yield three
    three.heal()
    three.reset()


def host_and_port(server: Any) -> tuple[str, int]:
    host, _, port = server.endpoints[0].rpartition("//")[2].rpartition(":")
    return host, int(port)


def write(server: Any, names: Iterable[str]) -> list[tuple[bytes, int]]:
    """Put keys of the prefix k/. Returns (key, revision) of each change."""
    with tercet.Client(server.endpoints, timeout=stretched(30)) as writer:
        return [(f"k/{name}".encode(), writer.put(f"k/{name}", name).header.revision) for name in names]


def compact(server: Any) -> int:
    """Make the present revision the oldest that can be watched."""
    with tercet.Client(server.endpoints, timeout=stretched(30)) as writer:
        revision = writer.put("k/last", "").header.revision
        writer.compact(revision)
        return revision


def wait_level(member: ThreadedServer) -> None:
    """Wait until a member that refuses clients has applied what the others have: by a linearizable read inside it."""

    async def read() -> None:
        async with member.server.client(timeout=stretched(30)) as inside:
            await inside.get("k/last")

    member.run(read)


def change(event: Any) -> tuple[bytes, int]:
    """(key, revision) of an event of either module."""
    kv = event._event.kv if hasattr(event, "_event") else event.kv
    return kv.key, kv.mod_revision


def test_a_watch_of_etcd3_goes_on_after_a_restart_of_its_member(process: tercet.ServerProcess) -> None:
    called: queue.Queue[Any] = queue.Queue()
    with etcd3.client(*host_and_port(process), timeout=stretched(30)) as client:
        events, cancel = client.watch_prefix("k/")
        client.add_watch_prefix_callback("k/", called.put, progress_notify=True)
        written = write(process, "abc")
        seen = [change(next(events)), change(next(events))]  # the third is on its way, or buffered
        process.kill()
        process.start()
        written += write(process, "bde")
        seen += [change(event) for event in itertools.islice(events, 4)]
        cancel()
        delivered: list[tuple[bytes, int]] = []
        while len(delivered) < len(written):
            delivered += [change(event) for event in called.get(timeout=stretched(60)).events]
    assert seen == written
    assert delivered == written


def test_a_watch_of_aetcd_goes_on_after_a_restart_of_its_member(process: tercet.ServerProcess) -> None:
    async def scenario() -> None:
        host, port = host_and_port(process)
        async with aetcd.Client(host, port, timeout=stretched(30)) as client:
            watch = await client.watch_prefix(b"k/")
            events = aiter(watch)
            written = await asyncio.to_thread(write, process, "abc")
            seen = [change(await anext(events)), change(await anext(events))]
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
            written += await asyncio.to_thread(write, process, "bde")
            while len(seen) < len(written):
                seen.append(change(await anext(events)))
            await watch.cancel()
            assert seen == written

    asyncio.run(asyncio.wait_for(scenario(), stretched(90)))


def test_a_watch_goes_on_after_its_token_was_lost(process: tercet.ServerProcess) -> None:
    """A member forgets simple tokens at a restart."""
    with tercet.Client(process.endpoints) as admin:
        admin.auth.add_user("root", "horse")
        admin.auth.grant_role("root", "root")
        admin.auth.enable()
    host, port = host_and_port(process)
    where = {"host": host, "port": port, "timeout": stretched(30)}

    async def scenario() -> None:
        async with aetcd.Client(**where, username="root", password="horse") as client:
            events = aiter(await client.watch(b"k"))
            await client.put(b"k", b"1")
            assert (await anext(events)).kv.value == b"1"
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
            with etcd3.client(**where, user="root", password="horse") as other:
                other.put("k", "2")
            assert (await anext(events)).kv.value == b"2"

    asyncio.run(asyncio.wait_for(scenario(), stretched(90)))


def test_a_watch_of_etcd3_raises_if_what_it_missed_is_compacted(cluster: Cluster) -> None:
    refusing, other = cluster.members[0], cluster.members[1]
    assert isinstance(refusing, ThreadedServer)
    called: queue.Queue[Any] = queue.Queue()
    with etcd3.client(*host_and_port(refusing), timeout=stretched(30)) as client:
        client.put("k/first", "1")
        events, _ = client.watch_prefix("k/")
        client.add_watch_prefix_callback("k/", called.put)
        with refusing.refuse_clients():
            write(other, "ab")
            revision = compact(other)
            wait_level(refusing)
        with pytest.raises(etcd3.exceptions.RevisionCompactedError) as raised:
            next(events)
        assert raised.value.compacted_revision == revision
        assert isinstance(called.get(timeout=stretched(60)), etcd3.exceptions.RevisionCompactedError)
        events, cancel = client.watch_prefix("k/")  # the client is still usable
        client.put("k/next", "1")
        assert change(next(events))[0] == b"k/next"
        cancel()


def test_a_watch_of_aetcd_raises_if_what_it_missed_is_compacted(cluster: Cluster) -> None:
    refusing, other = cluster.members[0], cluster.members[1]
    assert isinstance(refusing, ThreadedServer)

    def miss() -> int:
        with refusing.refuse_clients():
            write(other, "ab")
            revision = compact(other)
            wait_level(refusing)
        return revision

    async def scenario() -> None:
        host, port = host_and_port(refusing)
        async with aetcd.Client(host, port, timeout=stretched(30)) as client:
            await client.put(b"k/first", b"1")
            watch = await client.watch_prefix(b"k/")
            revision = await asyncio.to_thread(miss)
            with pytest.raises(aetcd.RevisionCompactedError) as raised:
                async for _ in watch:
                    pass
            assert raised.value.compacted_revision == revision

    asyncio.run(asyncio.wait_for(scenario(), stretched(90)))


def test_with_failover_a_watch_goes_on_at_another_endpoint(cluster: Cluster) -> None:
    first, second = (etcd3.Endpoint(*host_and_port(member), secure=False) for member in cluster.members[:2])
    with etcd3.MultiEndpointEtcd3Client([first], timeout=stretched(30), failover=True) as client:
        client.endpoints[second.netloc] = second
        events, cancel = client.watch_prefix("k/")
        written = write(cluster.members[2], "a")
        assert change(next(events)) == written[0]
        cluster.members[0].kill()
        with pytest.raises((etcd3.exceptions.ConnectionFailedError, etcd3.exceptions.ConnectionTimeoutError)):
            client.get("k/a")  # a failed call moves the client, and ends no watch
        assert client.get("k/a")[0] == b"a"
        assert client.endpoint_in_use is second
        written += write(cluster.members[2], "bc")
        assert [change(event) for event in itertools.islice(events, 2)] == written[1:]
        cancel()


def test_a_watch_that_is_cancelled_or_closed_while_the_member_is_away_ends(cluster: Cluster) -> None:
    member = cluster.members[0]
    assert isinstance(member, ThreadedServer)
    with etcd3.client(*host_and_port(member), timeout=scaled(10)) as client:
        cancelled, cancel = client.watch("k/a")
        closed, _ = client.watch("k/b")
        with member.refuse_clients():
            cancel()
            assert list(cancelled) == []
            with pytest.raises(etcd3.exceptions.ConnectionFailedError):
                client.watch("k/c")
            client.close()
            assert list(closed) == []
