"""The client on three members, of tercet and of etcd, that are killed and paused."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import WatchStream, silence
from tercet.client.cluster_channel import ClusterChannel
from tercet.client.connector import Limits
from tercet.proto import rpc_pb2
from tests.support.newer import VARIABLE
from tests.support.processes import ETCD, QUICK, TERCET, Cluster
from tests.support.waiting import scaled

PROGRAMS = {"tercet": TERCET, "etcd": ETCD, "newer etcd": (os.environ.get(VARIABLE, ""),)}


@pytest.fixture(scope="module", params=[name for name, program in PROGRAMS.items() if program[0]])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    program = PROGRAMS[request.param]
    directory = tmp_path_factory.mktemp("cluster")
    cluster = Cluster.plan(directory, flags=QUICK, programs=dict.fromkeys(("n1", "n2", "n3"), program))
    try:
        yield cluster.start()
    finally:
        cluster.dispose()


def in_order(cluster: Cluster, first: str) -> list[str]:
    members = sorted(cluster.members, key=lambda member: member.name != first)
    return [member.endpoint for member in members]


@pytest.mark.server_process
def test_a_counter_loses_and_doubles_nothing_while_members_are_killed(cluster: Cluster) -> None:
    """Each put is one more; an Indeterminate one may or may not have happened, and is looked up."""

    async def whole() -> None:
        async with AsyncClient(in_order(cluster, "n1"), timeout=scaled(10)) as client:
            await client.put("counter", "0")
            reached = 0
            for number in range(60):
                if number in (10, 30, 50):
                    victim = cluster.members[number % 3]
                    victim.kill()
                    victim.start()
                reached = await increment(client, reached)
            kv = await client.get("counter")
            assert kv is not None
            assert (int(kv.value), kv.version) == (60, 61)

    asyncio.run(asyncio.wait_for(whole(), scaled(100)))
    for member in cluster.members:
        member.wait_ready()


async def increment(client: AsyncClient, value: int) -> int:
    while True:
        try:
            if await client.replace("counter", str(value), str(value + 1)):
                return value + 1
            raise AssertionError(f"the counter is not {value}")
        except tercet.Indeterminate:
            kv = await client.get("counter", timeout=scaled(60))
            assert kv is not None
            assert int(kv.value) in (value, value + 1)
            if int(kv.value) == value + 1:
                return value + 1
        except (tercet.Unavailable, tercet.Timeout):
            pass


@pytest.mark.server_process
def test_a_paused_member_costs_one_call(cluster: Cluster) -> None:
    async def whole() -> None:
        async with AsyncClient(in_order(cluster, "n2"), timeout=scaled(30)) as client:  # n2 is found silent first
            await client.put("a", "1", timeout=scaled(30))
            cluster["n2"].pause()
            try:
                with pytest.raises((tercet.Indeterminate, tercet.Timeout)):
                    await client.put("a", "2")
                await client.put("a", "3", timeout=scaled(30))
            finally:
                cluster["n2"].resume()

    asyncio.run(asyncio.wait_for(whole(), scaled(90)))


@pytest.mark.server_process
def test_a_client_that_only_watches_leaves_a_paused_member(cluster: Cluster) -> None:
    async def whole() -> None:
        async with AsyncClient(in_order(cluster, "n2")) as watching, AsyncClient(in_order(cluster, "n1")) as writing:
            watching.channel._connector._keepalive_seconds = 600  # longer than the test: the keepalive finds nothing
            async with watching.watch("watched") as watch:
                cluster["n2"].pause()
                try:
                    await writing.put("watched", "1", timeout=scaled(30))
                    batch = await anext(watch)
                    assert [event.value for event in batch.events] == [b"1"]
                    assert watch.resumes == 1
                finally:
                    cluster["n2"].resume()

    asyncio.run(asyncio.wait_for(whole(), scaled(90)))


@pytest.mark.server_process
def test_asking_a_member_for_its_health_is_no_ping(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred times more often than clients do: the member neither ends the connection nor counts strikes."""
    monkeypatch.setattr(silence, "_PATIENCE_SECONDS", 30.0)  # a busy machine pauses the member

    def checks() -> float:
        named = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Check"'
        return sum(
            float(line.rpartition(" ")[2]) for line in cluster["n1"].http("/metrics")[1].splitlines() if line.startswith(named)
        )

    async def whole() -> None:
        limits = Limits(quiet_seconds=0.02)
        async with ClusterChannel(in_order(cluster, "n1"), limits=limits) as channel, WatchStream(channel) as stream:
            before = await asyncio.to_thread(checks)
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"healthy"))
            await watch.created()
            while await asyncio.to_thread(checks) < before + 100:
                await asyncio.sleep(0.05)
            await channel.kv.put(rpc_pb2.PutRequest(key=b"healthy", value=b"1"))
            response = await anext(watch)
            assert [event.kv.value for event in response.events] == [b"1"]
            assert watch.resumes == 0

    asyncio.run(asyncio.wait_for(whole(), scaled(90)))


@pytest.mark.server_process
def test_the_client_learns_the_members_and_survives_those_it_was_given(cluster: Cluster) -> None:
    async def whole() -> None:
        async with AsyncClient(cluster["n1"].endpoint, timeout=scaled(10)) as client:
            await client.sync_endpoints()
            assert {member.endpoint for member in cluster.members} <= {
                endpoint.removeprefix("http://") for endpoint in client.endpoints
            }
            cluster["n1"].kill()
            try:
                assert await client.get("absent", timeout=scaled(30)) is None
            finally:
                cluster["n1"].restart()

    asyncio.run(asyncio.wait_for(whole(), scaled(90)))


@pytest.mark.server_process
def test_a_snapshot_of_each_program_is_whole(cluster: Cluster, tmp_path: Path) -> None:
    async def whole() -> None:
        async with AsyncClient(cluster["n1"].endpoint, timeout=scaled(10)) as client:
            saved = await client.maintenance.snapshot(tmp_path / "db")
            assert saved.file_bytes == (tmp_path / "db").stat().st_size > 32

    asyncio.run(asyncio.wait_for(whole(), scaled(90)))
