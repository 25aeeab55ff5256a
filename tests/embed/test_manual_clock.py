"""clock="manual": leases, tokens and automatic compaction see no time but that of `advance`."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet.embed.server import Server
from tercet.testing import Cluster
from tests.support.waiting import scaled


def test_a_lease_ends_by_advance_alone() -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server(clock="manual") as server, server.client() as client:
            lease = await client.grant_lease(60)
            await client.put("leased", "1", lease=lease.id)
            before = server.clock.time()
            await server.advance(59)
            assert await client.get("leased") is not None
            await server.advance(3600)
            assert await client.get("leased") is None
            assert server.clock.time() - before == 3659
            with pytest.raises(tercet.LeaseNotFound):
                await client.lease_info(lease.id)
            with pytest.raises(ValueError, match="time does not go back"):
                await server.advance(-1)

    asyncio.run(main())


def test_time_stands_still_without_advance() -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server(clock="manual") as server, server.client() as client:
            lease = await client.grant_lease(2)
            assert server.member is not None
            keeper = server.member.replica.leases
            (held,) = server.member.replica.state_machine.lessor
            await asyncio.sleep(0.05)  # heartbeats and turns of the loop; with a real clock the remaining time falls
            assert keeper.remaining_seconds(held) == lease.ttl_seconds

    asyncio.run(main())


def test_a_real_clock_runs_and_can_be_advanced_too() -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server() as server, server.client() as client:
            lease = await client.grant_lease(600)
            await server.advance(601)
            with pytest.raises(tercet.LeaseNotFound):
                await client.lease_info(lease.id)

    asyncio.run(main())


def test_a_stopped_member_keeps_its_time() -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server(clock="manual") as server, server.client() as client:
            lease = await client.grant_lease(60)
            await server.advance(30)
            before = server.clock.time()
            await server.restart()
            assert server.clock.time() == before
            await server.advance(3600)
            with pytest.raises(tercet.LeaseNotFound):
                await client.lease_info(lease.id)

    asyncio.run(main())


def test_a_cluster_advances_all_its_members() -> None:
    config = {"heartbeat_interval": 50, "election_timeout": 500}
    with (
        Cluster(3, clock="manual", config=config) as cluster,
        tercet.Client(cluster.endpoints, timeout=scaled(20)) as client,
    ):
        lease = client.grant_lease(60)
        client.put("leased", "1", lease=lease.id)
        cluster.advance(59)
        assert client.get("leased") is not None
        cluster.advance(3600)
        assert client.get("leased") is None
        another = client.grant_lease(60)
        cluster.expire_lease(another.id)
        with pytest.raises(tercet.LeaseNotFound):
            client.lease_info(another.id)
