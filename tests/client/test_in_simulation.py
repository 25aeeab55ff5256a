"""Locks, elections, watches and leases of the client in virtual time: real members, random faults, many seeds.

A failing seed is printed with the line that replays it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

import tercet
from tercet import AsyncClient
from tercet.client.recipes.repeating import until_known
from tercet.simulation import SimulatedCluster, World, run_seed
from tercet.testing import History, check_linearizable
from tests.client.lock_history import LockHistory

FAULTY_SECONDS = 15


async def workers(
    world: World, etcd: SimulatedCluster, work: Callable[[AsyncClient, int], Awaitable[None]], count: int = 3
) -> None:
    """Repeat `work` on hosts of its own while the nemesis runs."""

    async def repeat(number: int, until: float) -> None:
        async with etcd.client() as client:
            while world.now < until:
                await work(client, number)

    async with world.nemesis(etcd):
        until = world.now + FAULTY_SECONDS
        for task in [world.host(f"worker{number}").start(repeat(number, until)) for number in range(count)]:
            await task


async def locks(world: World) -> None:
    etcd = await world.etcd(size=3)
    history = LockHistory(clock=lambda: world.now, ttl_seconds=3)

    async def work(client: AsyncClient, number: int) -> None:
        await history.hold(client, number, seconds=0.3)

    await workers(world, etcd, work)
    history.check_exclusion()
    async with etcd.client(timeout=30) as client:
        await history.check_log(client)


async def pauses(world: World) -> None:
    """A holder whose host stops, longer than its lease lives: the guard and the tokens must hold, not the clock."""
    etcd = await world.etcd(size=1)
    history = LockHistory(clock=lambda: world.now, ttl_seconds=3)

    async def repeat(number: int, until: float) -> None:
        async with etcd.client() as client:
            while world.now < until:
                await history.hold(client, number, seconds=0.3)

    until = world.now + FAULTY_SECONDS
    tasks = [world.host(f"worker{number}").start(repeat(number, until)) for number in range(2)]
    for _ in range(3):
        await asyncio.sleep(world.random.uniform(0, 3))
        world.host("worker0").pause()
        await asyncio.sleep(world.random.uniform(1, 8))
        world.host("worker0").resume()
    for task in tasks:
        await task
    async with etcd.client() as client:
        await history.check_log(client)


async def elections(world: World) -> None:
    etcd = await world.etcd(size=3)
    leading: set[int] = set()
    terms: list[tuple[float, int]] = []

    async def work(client: AsyncClient, number: int) -> None:
        try:
            async with client.election("e", ttl_seconds=3).lead(f"worker{number}") as election:
                assert not leading, "two leaders"
                leading.add(number)
                terms.append((world.now, election.token))
                try:
                    await asyncio.sleep(0.5)
                finally:
                    leading.discard(number)
        except tercet.TercetError:
            await asyncio.sleep(0.1)

    await workers(world, etcd, work)
    assert [token for _, token in sorted(terms)] == sorted(token for _, token in terms)


async def watches(world: World) -> None:
    """A watch sees every change once and in order; a list with compactions in between ends with the state of the store."""
    etcd = await world.etcd(size=3)
    seen: list[tuple[int, bytes, bytes]] = []
    state: dict[bytes, bytes] = {}

    async def watch() -> None:
        async with etcd.client() as client:
            async for batch in client.watch("w/", prefix=True, since=1):
                seen.extend((batch.revision, event.key, event.value) for event in batch)

    async def follow() -> None:
        async with etcd.client() as client:
            async for batch in client.watch_list("l/"):
                for event in batch:
                    if event.is_delete:
                        state.pop(event.key, None)
                    else:
                        state[event.key] = event.value

    async def work(client: AsyncClient, number: int) -> None:
        key, value = f"{world.random.randrange(4)}", f"{number} {world.now}"
        try:
            await client.put(f"w/{key}", value)
            if world.random.random() < 0.3:
                await client.delete(f"l/{key}")
            else:
                await client.put(f"l/{key}", value)
        except tercet.TercetError:
            await asyncio.sleep(0.2)
        await asyncio.sleep(0.1)

    watching = [world.host(name).start(body) for name, body in (("watcher", watch()), ("follower", follow()))]
    await workers(world, etcd, work, count=2)
    async with etcd.client(timeout=30) as client:
        last = await until_known(lambda: client.put("w/end", ""))
        await until_known(lambda: client.put("l/end", ""))
        while not seen or seen[-1][0] < last.header.revision or b"l/end" not in state:
            await asyncio.sleep(0.1)
        assert [revision for revision, _, _ in seen] == sorted({revision for revision, _, _ in seen})
        assert state == {kv.key: kv.value for kv in await client.get_prefix("l/")}
        final = {key: (revision, value) for revision, key, value in seen}
        assert final == {kv.key: (kv.mod_revision, kv.value) for kv in await client.get_prefix("w/")}
        again: list[tuple[int, bytes, bytes]] = []
        async for batch in client.watch("w/", prefix=True, since=1):
            again += [(batch.revision, event.key, event.value) for event in batch]
            if batch.revision == last.header.revision:
                break
        assert seen == again
    for task in watching:
        task.cancel()


async def compactions(world: World) -> None:
    """The follower is cut off while its next revision is compacted: the difference brings the deletes too."""
    etcd = await world.etcd(size=1)
    state: dict[bytes, bytes] = {}
    resyncs = 0

    async def follow() -> None:
        nonlocal resyncs
        async with etcd.client() as client:
            async for batch in client.watch_list("l/", page_keys=3):
                resyncs += batch.is_resync
                for event in batch:
                    if event.is_delete:
                        del state[event.key]
                    else:
                        state[event.key] = event.value

    following = world.host("follower").start(follow())
    async with etcd.client(timeout=30) as client:
        for _ in range(4):
            world.host("follower").pause()
            for _ in range(10):
                key = f"l/{world.random.randrange(8)}"
                put = await client.put(key, str(world.now))
                if world.random.random() < 0.4:
                    await client.delete(f"l/{world.random.randrange(8)}")
            if world.random.random() < 0.7:
                await client.compact(put.header.revision)
            await asyncio.sleep(world.random.uniform(0, 30))
            world.host("follower").resume()
            await asyncio.sleep(world.random.uniform(0, 2))
        await client.put("l/end", "")
        while b"l/end" not in state:
            await asyncio.sleep(0.1)
        assert state == {kv.key: kv.value for kv in await client.get_prefix("l/")}
    following.cancel()


async def histories(world: World) -> None:
    """All that clients do with a few keys is linearizable, a write without an answer once or never."""
    etcd = await world.etcd(size=3)
    history = History()

    async def work(client: AsyncClient, number: int) -> None:
        recorded = history.record_async(client)
        for step in range(10):
            key, value = f"{world.random.randrange(3)}", f"{number}.{step} {world.now}"
            with suppress(tercet.TercetError):
                match world.random.randrange(5):
                    case 0:
                        await recorded.put(key, value)
                    case 1:
                        await recorded.put_if_absent(key, value)
                    case 2:
                        await recorded.delete(key)
                    case _:
                        found = await recorded.get(key)
                        if found is not None:
                            await recorded.replace(key, found.value, value)
            await asyncio.sleep(world.random.uniform(0, 0.2))

    moving = world.host("operator").start(move_leaders(world, etcd))
    await workers(world, etcd, work)
    moving.cancel()
    assert len(history.operations) > 60
    check_linearizable(history)


async def move_leaders(world: World, etcd: SimulatedCluster) -> None:
    while True:
        await asyncio.sleep(world.random.uniform(0.5, 3))
        leader = etcd.leader
        if leader is not None:
            with suppress(tercet.TercetError):
                async with AsyncClient(leader.endpoint, timeout=3) as client:
                    status = await client.maintenance.status()
                    others = [one.id for one in await client.cluster.list_members() if one.id != status.header.member_id]
                    await client.maintenance.move_leader(world.random.choice(others))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scenario", [locks, pauses, elections, watches, compactions, histories])
def test_a_seed(scenario: Callable[[World], Awaitable[None]], seed: int) -> None:
    run_seed(scenario, seed)
