"""Leases that are kept alive, on a real etcd."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet import Lease
from tercet.client.lease_keeper import LeaseKeeper
from tests.client.test_streams import relay
from tests.client.typed import client_of, run
from tests.support.etcd import Etcd
from tests.support.waiting import stretched

TTL = int(stretched(6))
"""Long enough for a busy machine to renew in time."""


async def renewed(lease: Lease) -> None:
    """Wait until a renewal is acknowledged."""
    before = lease.remaining_seconds
    while lease.remaining_seconds <= before:
        assert not lease.is_lost
        before = lease.remaining_seconds
        await asyncio.sleep(0.01)


def test_a_lease_is_renewed_in_its_block_and_revoked_after_it(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "kept") as client:
            async with client.lease(TTL) as lease:
                await client.put("a", "1", lease=lease)
                await renewed(lease)
                await renewed(lease)
                info = await lease.info(keys=True)
                assert (info.id, info.granted_ttl_seconds, info.keys) == (lease.id, TTL, (b"a",))
                assert 0 < lease.remaining_seconds <= TTL
            assert await client.get("a") is None
            with pytest.raises(tercet.LeaseNotFound):
                await lease.info()
            assert not lease.is_lost

    run(test())


def test_a_lost_lease_cancels_its_block(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "lost") as client:
            called: list[str] = []
            lease = client.lease(2)

            async def hold() -> None:
                async with lease:
                    lease.on_lost(lambda: called.append("lost"))
                    await client.revoke_lease(lease)
                    await asyncio.sleep(60)

            with pytest.raises(tercet.LeaseLost):
                await hold()
            assert called == ["lost"]
            lease.on_lost(lambda: called.append("late"))
            assert called == ["lost", "late"]

    run(test())


def test_a_cancellation_from_elsewhere_stays_one(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "cancel") as client:
            entered = asyncio.Event()

            async def hold() -> None:
                async with client.lease(5):
                    entered.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(hold())
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test())


def test_a_lease_that_cannot_be_renewed_is_lost(shared_etcd: Etcd) -> None:
    """Before the server expires it: tests/client/test_lease_schedule.py."""

    async def test() -> None:
        async with relay(shared_etcd.client_port) as between, client_of(between.endpoint) as client:
            lease = await client.lease(3).start()
            between.is_closed = True
            between.cut()
            await lease.wait_lost()
            with pytest.raises(tercet.LeaseLost):
                async with lease.cancel_on_loss():
                    pass

    run(test())


def test_a_lease_survives_a_cut_connection(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with (
            relay(shared_etcd.client_port) as between,
            client_of(between.endpoint) as client,
            client.lease(TTL) as lease,
        ):
            for _ in range(2):
                between.cut()
                await renewed(lease)

    run(test())


def test_an_id_can_be_given_once(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint) as client, client.lease(5, id=0x5EED) as lease:
            assert lease.id == 0x5EED
            with pytest.raises(tercet.LeaseExists):
                await client.lease(5, id=0x5EED).start()

    run(test())


def test_forgotten_leases_keep_their_keys_for_a_ttl(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "forget") as client:
            lease = await client.lease(4).start()
            await client.put("a", "1", lease=lease)
            lease.forget()
            assert await client.get("a") is not None
            assert lease.remaining_seconds == 0
            async with client.watch("a") as watch:
                while not (await anext(watch)).events[0].is_delete:
                    pass
            assert not lease.is_lost

    run(test())


def test_many_leases_are_renewed_over_one_stream(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint) as client:
            leases = await asyncio.gather(*(client.lease(TTL).start() for _ in range(200)))
            await asyncio.gather(*(renewed(lease) for lease in leases))
            await asyncio.gather(*(lease.revoke() for lease in leases))

    run(test())


def test_closing_the_client_loses_its_leases(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint) as client:
            lease = await client.lease(5).start()
            await client.close()
            assert lease.is_lost

    run(test())


def test_a_lease_is_lost_at_once_after_the_machine_has_slept(shared_etcd: Etcd) -> None:
    """The clock jumps by an hour: the lease has expired meanwhile, and no renewal is sent for it."""

    async def test() -> None:
        async with client_of(shared_etcd.endpoint) as client:
            slept = 0.0
            clock = asyncio.get_running_loop().time
            keeper = LeaseKeeper(client.channel, lambda: clock() + slept)
            lost = asyncio.Event()
            granted = await client.grant_lease(3)
            keeper.keep(granted.id, ttl_seconds=3, sent_at=keeper.clock(), on_lost=lost.set)
            slept = 3600
            await lost.wait()
            await keeper.close()

    run(test())
