"""Recipes whose n-th write, for each n, is lost on the way or is cut short by a cancellation: nothing stays behind.

What has no lease of its own (queues, counters) raises Indeterminate instead; that is theirs to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest

import tercet
from tercet import AsyncClient
from tercet.client.lease import Lease
from tercet.client.recipes.election import Election
from tercet.client.recipes.queue import PriorityQueue, Queue
from tercet.embed.cluster import Cluster
from tests.client.nth_write import FAULTS, NthWrite
from tests.client.typed import client_of, run
from tests.support.waiting import scaled

_WRITES_MAX = 20
Body = Callable[[AsyncClient, Lease], Awaitable[object]]


@pytest.fixture(scope="module")
def nth() -> NthWrite:
    return NthWrite()


@pytest.fixture(scope="module")
def member(nth: NthWrite) -> Iterator[Cluster]:
    with Cluster(1, wrap_handlers=nth.wrap) as cluster:
        yield cluster


async def attempt(nth: NthWrite, number: int, fault: str, body: Awaitable[object]) -> BaseException | None:
    """Run `body`, and let its n-th write meet the fault. Returns what it raised."""
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(body)
    nth.arm(number, fault, lambda: loop.call_soon_threadsafe(task.cancel))
    await asyncio.wait((task,))
    return asyncio.CancelledError() if task.cancelled() else task.exception()


async def settled(client: AsyncClient, prefix: str, count: int = 0) -> None:
    """Wait until as many keys are left: what is given up in the background needs a moment."""
    async with asyncio.timeout(scaled(30)):
        while await client.count(prefix) != count:
            await asyncio.sleep(0.01)


async def lock(client: AsyncClient, lease: Lease) -> None:
    async with client.lock("r", lease=lease):
        pass


async def lock_of_its_own(client: AsyncClient, _: Lease) -> None:
    async with client.lock("r"):
        pass


async def attempts_to_lock(client: AsyncClient, lease: Lease) -> None:
    async with client.lock("r"):
        assert not await client.lock("r", lease=lease).try_acquire()
        assert not await client.lock("r", lease=lease).acquire(timeout=0.02)


async def rw_lock(client: AsyncClient, lease: Lease) -> None:
    async with client.rw_lock("r", lease=lease).read():
        pass
    async with client.rw_lock("r", lease=lease).write():
        pass


async def semaphore(client: AsyncClient, lease: Lease) -> None:
    permit = client.semaphore("r", 1, lease=lease)
    async with permit:
        pass
    async with permit:
        pass


async def election(client: AsyncClient, lease: Lease) -> None:
    async with client.election("r", lease=lease).lead("a") as leading:
        await leading.proclaim("b")


async def party(client: AsyncClient, _: Lease) -> None:
    async with client.party("r").join("a"):
        pass


async def double_barrier(client: AsyncClient, _: Lease) -> None:
    async def enter() -> None:
        async with client.double_barrier("r", 2):
            pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(enter())
        tasks.create_task(enter())


async def partitioner(client: AsyncClient, _: Lease) -> None:
    async with client.partitioner("r", ["a", "b"]) as shares:
        while len((await anext(shares)).owned) < 2:
            pass
        async with client.partitioner("r", ["a", "b"]) as others:
            while not (await anext(shares)).lost:
                pass
            waiting = asyncio.create_task(anext(shares))
            assert (await anext(others)).owned
            waiting.cancel()
            await asyncio.wait((waiting,))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    "body",
    [lock, lock_of_its_own, attempts_to_lock, rw_lock, semaphore, election, party, double_barrier, partitioner],
    ids=lambda body: body.__name__,
)
def test_nothing_stays_behind_while_the_lease_lives(nth: NthWrite, member: Cluster, body: Body, fault: str) -> None:
    """A key under a lease that goes on living would keep all others waiting for ever."""

    async def test() -> None:
        async with client_of(member.endpoints[0], "held") as client, client.lease(600) as lease:
            for number in range(1, _WRITES_MAX):
                error = await attempt(nth, number, fault, body(client, lease))
                is_met = nth.is_met
                nth.arm(0, "", lambda: None)
                await client.delete("r/ready")  # stays where all processes of a double barrier have died
                await settled(client, "r")
                if not is_met:
                    assert number >= 3
                    break
                cancelled = fault.startswith("cancelled")
                assert isinstance(error, asyncio.CancelledError) if cancelled else error is None, (number, error)

    run(test(), 120)


@pytest.mark.parametrize("name", ["queue", "priority_queue"])
@pytest.mark.parametrize("fault", ["cancelled before", "cancelled after"])
def test_a_cancelled_get_takes_nothing(nth: NthWrite, member: Cluster, name: str, fault: str) -> None:
    async def test() -> None:
        async with client_of(member.endpoints[0], name) as client:
            queue: Queue | PriorityQueue = getattr(client, name)("q")
            await queue.put("a")
            await queue.put("b")
            for get in (queue.get, queue.get_now):
                assert isinstance(await attempt(nth, 1, fault, get()), asyncio.CancelledError)
                assert await queue.length() == 2
            assert sorted([await queue.get(), await queue.get()]) == [b"a", b"b"]

    run(test())


def test_resigning_ends_a_campaign_that_waits(member: Cluster) -> None:
    async def test() -> None:
        async with client_of(member.endpoints[0], "resign") as client, client.lease(600) as lease, AsyncExitStack() as leaving:
            await leaving.enter_async_context(client.election("e").lead("leader"))
            for given in (None, lease):
                candidate = client.election("e", lease=given)
                campaign = asyncio.create_task(candidate.campaign("candidate"))
                await settled(client, "e/", 2)
                await candidate.resign()
                assert not await campaign
                assert await client.count("e/") == 1

                block = asyncio.create_task(enter(candidate))
                await settled(client, "e/", 2)
                await candidate.resign()
                with pytest.raises(tercet.LockLost, match="released while this block waited"):
                    await block

    async def enter(candidate: Election) -> None:
        async with candidate:
            pass

    run(test())


def test_holders_of_one_lease_have_keys_of_their_own(member: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the clock is coarse, as on Windows and in a simulation."""
    monkeypatch.setattr("tercet.client.lease.time", SimpleNamespace(time_ns=lambda: 1))

    async def test() -> None:
        async with client_of(member.endpoints[0], "coarse") as client, client.lease(600) as lease:
            async with client.rw_lock("rw", lease=lease).write():
                assert not await client.rw_lock("rw", lease=lease).write().try_acquire()
            async with client.semaphore("s", 1, lease=lease):
                assert not await client.semaphore("s", 1, lease=lease).try_acquire()

    run(test())


def test_a_double_barrier_serves_the_same_processes_round_after_round(member: Cluster) -> None:
    async def test() -> None:
        async with client_of(member.endpoints[0], "rounds") as client:
            inside: list[int] = []

            async def rounds() -> None:
                for number in range(5):
                    async with client.double_barrier("d", 3):
                        inside.append(number)

            async with asyncio.TaskGroup() as tasks:
                for _ in range(3):
                    tasks.create_task(rounds())
            assert inside == [number for number in range(5) for _ in range(3)]
            assert await client.count("d") == 0

    run(test())


def test_a_cache_that_is_entered_again_begins_anew(member: Cluster) -> None:
    async def test() -> None:
        async with client_of(member.endpoints[0], "again") as client:
            cache = client.cache("c/")
            await client.put("c/a", "1")
            async with cache:
                assert list(cache) == [b"c/a"]
            await client.delete("c/a")
            await client.put("c/b", "2")
            async with cache:
                assert list(cache) == [b"c/b"]

    run(test())
