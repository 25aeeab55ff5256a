"""Locks, permits and elections: order, fencing, loss, and the same keys as etcdctl."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tercet
from tercet import AsyncClient
from tercet.client.recipes.held_key import HeldKey
from tests.client.conftest import Server
from tests.client.test_recipes import check, is_waiting
from tests.support.etcd import binary
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import environment
from tests.support.waiting import scaled


async def blocked(client: AsyncClient, held: HeldKey, count: int) -> asyncio.Task[bool]:
    """A task that acquires, once its key is the `count`-th of the prefix."""
    task = asyncio.create_task(held.acquire())
    while await client.count(held._name + b"/") < count:
        await asyncio.sleep(0.01)
    assert await is_waiting(task)
    return task


class TestLock:
    def test_it_goes_from_one_to_the_next_in_order_with_rising_tokens(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            locks = [client.lock("l") for _ in range(4)]
            assert await locks[0].acquire()
            waiting = [await blocked(client, lock, number + 2) for number, lock in enumerate(locks[1:])]
            assert [kv.key for kv in await locks[0].line()] == [lock.key for lock in locks]
            tokens = [lock.token for lock in locks]
            assert tokens == sorted(tokens)
            for number in range(3):
                await locks[number].release()
                assert await waiting[number]
                assert [lock.is_held for lock in locks] == [place == number + 1 for place in range(4)]
            await locks[3].release()
            assert await client.count("l/") == 0

        check(server, "order", body)

    def test_an_attempt_and_a_wait_with_a_limit_leave_no_key(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.lock("l"):
                other = client.lock("l")
                assert not await other.try_acquire()
                assert not await other.acquire(timeout=0.1)
                assert await client.count("l/") == 1
            assert await other.try_acquire()
            await other.release()

        check(server, "attempt", body)

    def test_a_cancelled_wait_leaves_no_key(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.lock("l"):
                waiting = await blocked(client, client.lock("l"), 2)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await client.count("l/") == 1

        check(server, "cancelled", body)

    def test_a_waiter_in_the_middle_of_the_line_may_leave(self, server: Server) -> None:
        """The next waiter watches its key; it must go on waiting for the owner."""

        async def body(client: AsyncClient) -> None:
            owner, last = client.lock("l"), client.lock("l")
            await owner.acquire()
            middle = await blocked(client, client.lock("l"), 2)
            waiting = await blocked(client, last, 3)
            middle.cancel()
            assert await is_waiting(waiting, 20)
            await owner.release()
            assert await waiting
            await last.release()

        check(server, "middle", body)

    def test_a_lost_lease_cancels_the_block_and_the_wait(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            entered = asyncio.Event()
            lock = client.lock("l", ttl_seconds=6)  # the loss is found at the next renewal, after a third of it

            async def hold() -> None:
                async with lock:
                    entered.set()
                    await asyncio.sleep(60)

            holding = asyncio.create_task(hold())
            await entered.wait()
            other = client.lock("l", ttl_seconds=6)
            waiting = await blocked(client, other, 2)
            assert lock.lease is not None
            assert other.lease is not None
            await client.revoke_lease(other.lease)
            await client.revoke_lease(lock.lease)
            with pytest.raises(tercet.LeaseLost):
                await waiting
            with pytest.raises(tercet.LeaseLost):
                await holding

        check(server, "lost", body)

    def test_d34_a_guarded_transaction_changes_nothing_after_the_lock_is_lost(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            lease = await client.lease(60).start()
            lock = client.lock("l", lease=lease)
            await lock.acquire()
            put = client.put_op("guarded", "1")
            assert await client.txn(then=[put], guard=lock)
            await client.delete(lock.key)  # an administrator breaks the lock
            with pytest.raises(tercet.LockLost):
                await client.txn(then=[client.put_op("guarded", "2")], guard=lock)
            async with client.lock("l", lease=lease) as again:
                assert again.key == lock.key
                with pytest.raises(tercet.LockLost):  # held under the same key, but with another token
                    await client.txn(then=[client.put_op("guarded", "3")], guard=lock)
            kv = await client.get("guarded")
            assert kv is not None
            assert kv.value == b"1"
            await lease.revoke()

        check(server, "guard", body)

    def test_one_lease_holds_several_locks_and_outlives_them(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.lease(60) as lease:
                async with client.lock("a", lease=lease) as a, client.lock("b", lease=lease) as b:
                    assert a.key == b"a/%x" % lease.id
                    assert b.key == b"b/%x" % lease.id
                assert await client.count("") == 0
                assert not lease.is_lost

        check(server, "several", body)

    def test_releasing_what_is_not_held_does_nothing(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            lock = client.lock("l")
            await lock.release()
            await lock.acquire()
            with pytest.raises(RuntimeError, match="already by this object"):
                await lock.acquire()
            await lock.release()
            assert (lock.key, lock.token, lock.is_held, lock.lease) == (b"", 0, False, None)

        check(server, "twice", body)


class TestRWLock:
    def test_readers_share_and_writers_exclude(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            rw = client.rw_lock("rw")
            first, second, writer, late = rw.read(), rw.read(), rw.write(), rw.read()
            await first.acquire()
            await second.acquire()
            assert not await rw.write().try_acquire()
            writing = asyncio.create_task(writer.acquire())
            while await client.count("rw/write/") < 1:
                await asyncio.sleep(0.01)
            reading = asyncio.create_task(late.acquire())
            while await client.count("rw/read/") < 3:
                await asyncio.sleep(0.01)
            await first.release()
            assert await is_waiting(writing)
            assert await is_waiting(reading), "a reader does not overtake a writer"
            await second.release()
            assert await writing
            assert await is_waiting(reading)
            assert not await rw.read().try_acquire()
            await writer.release()
            assert await reading
            await late.release()

        check(server, "rw", body)


class TestSemaphore:
    def test_as_many_hold_as_there_are_permits(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            permits = [client.semaphore("s", 2) for _ in range(4)]
            assert await permits[0].acquire()
            assert await permits[1].acquire()
            assert not await client.semaphore("s", 2).try_acquire()
            waiting = [await blocked(client, permit, number + 3) for number, permit in enumerate(permits[2:])]
            assert [kv.key for kv in await permits[0].holders()] == [permits[0].key, permits[1].key]
            await permits[1].release()
            assert await waiting[0]
            assert await is_waiting(waiting[1])
            await permits[0].release()
            assert await waiting[1]
            for permit in permits[2:]:
                await permit.release()

        check(server, "semaphore", body)


class TestElection:
    def test_leaders_follow_each_other_and_observers_see_each_value(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            election = client.election("e")
            assert await election.leader() is None
            seen = election.observe()
            first = asyncio.ensure_future(anext(seen))
            async with client.election("e").lead("one") as one:
                assert (await first).value == b"one"
                await one.proclaim("one again")
                assert (await anext(seen)).value == b"one again"
                two = client.election("e")
                campaigning = asyncio.create_task(two.campaign("two"))
                while len(await election.line()) < 2:
                    await asyncio.sleep(0.01)
                assert await is_waiting(campaigning)
                with pytest.raises(tercet.LockLost):
                    await two.proclaim("not a leader")
            assert await campaigning
            assert (await anext(seen)).value == b"two"
            await two.resign()
            assert await election.leader() is None

        check(server, "election", body)

    def test_the_same_lease_again_replaces_the_value(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.lease(60) as lease:
                await client.election("e", lease=lease).campaign("a")
                await client.election("e", lease=lease).campaign("b")
                leader = await client.election("e").leader()
                assert leader is not None
                assert (leader.value, leader.version) == (b"b", 2)

        check(server, "again", body)

    def test_a_deposed_leader_cannot_proclaim(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            election = client.election("e")
            await election.campaign("a")
            await client.delete(election.key)
            with pytest.raises(tercet.LockLost):
                await election.proclaim("b")

        check(server, "deposed", body)


@pytest.fixture(params=["3.5", pytest.param("newer", marks=needs_newer_etcd)])
def etcdctl(request: pytest.FixtureRequest) -> str:
    if request.param == "3.5":
        return binary("etcdctl")
    return str(Path(newer_etcd()[0]).with_name("etcdctl"))


@asynccontextmanager
async def running(etcdctl: str, server: Server, *words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """etcdctl in the background; its first line of output is waited for by the test."""
    process = await asyncio.create_subprocess_exec(
        etcdctl, f"--endpoints={server.endpoint}", *words, stdout=subprocess.PIPE, env=environment({}, None)
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), scaled(30))).decode().rstrip("\n")


async def ended(process: asyncio.subprocess.Process) -> None:
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.wait(), scaled(30))


class TestLikeEtcdctl:
    def test_we_wait_for_a_lock_that_etcdctl_holds(self, server: Server, etcdctl: str) -> None:
        async def body(client: AsyncClient) -> None:
            async with running(etcdctl, server, "lock", "we_wait/l") as process:
                key = await line(process)
                lock = client.lock("l")
                assert not await lock.try_acquire()
                waiting = await blocked(client, lock, 2)
                assert (await lock.line())[0].key.decode() == key.removeprefix("we_wait/")
                await ended(process)
                assert await waiting
                await lock.release()

        check(server, "we_wait", body)

    def test_etcdctl_waits_for_a_lock_that_we_hold(self, server: Server, etcdctl: str) -> None:
        async def body(client: AsyncClient) -> None:
            lock = client.lock("l")
            await lock.acquire()
            async with running(etcdctl, server, "lock", "it_waits/l") as process:
                while len(await lock.line()) < 2:
                    await asyncio.sleep(0.01)
                reading = asyncio.create_task(line(process))
                assert await is_waiting(reading)
                await lock.release()
                assert (await reading).startswith("it_waits/l/")
                await ended(process)

        check(server, "it_waits", body)

    def test_we_follow_a_leader_that_etcdctl_elects(self, server: Server, etcdctl: str) -> None:
        async def body(client: AsyncClient) -> None:
            seen = client.election("e").observe()
            first = asyncio.ensure_future(anext(seen))
            async with running(etcdctl, server, "elect", "follow/e", "theirs") as process:
                assert (await first).value == b"theirs"
                assert (await line(process)).startswith("follow/e/")  # etcdctl knows it: it resigns when it is stopped
                assert await line(process) == "theirs"
                ours = client.election("e")
                campaigning = asyncio.create_task(ours.campaign("ours"))
                while len(await ours.line()) < 2:
                    await asyncio.sleep(0.01)
                assert await is_waiting(campaigning)
                await ended(process)
                assert await campaigning
                assert (await anext(seen)).value == b"ours"
                await ours.resign()

        check(server, "follow", body)

    def test_etcdctl_follows_us_and_is_elected_after_us(self, server: Server, etcdctl: str) -> None:
        async def body(client: AsyncClient) -> None:
            async with (
                client.election("e").lead("ours") as ours,
                running(etcdctl, server, "elect", "-l", "after/e") as listening,
                running(etcdctl, server, "elect", "after/e", "theirs") as campaigning,
            ):
                assert await line(listening) == f"after/{ours.key.decode()}"
                assert await line(listening) == "ours"
                await ours.proclaim("ours!")
                assert [await line(listening), await line(listening)][1] == "ours!"
                while len(await ours.line()) < 2:
                    await asyncio.sleep(0.01)
                reading = asyncio.create_task(line(campaigning))
                assert await is_waiting(reading)
                await ours.resign()
                await reading
                assert await line(campaigning) == "theirs"
                assert [await line(listening), await line(listening)][1] == "theirs"
                await ended(campaigning)

        check(server, "after", body)
