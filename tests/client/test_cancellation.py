"""Calls that are cancelled at any step leave neither lease nor key nor task, and what callbacks raise ends nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import tercet
from tercet import STM, AsyncClient
from tercet.client import lease_keeper
from tests.client.typed import run
from tests.support.waiting import scaled, until

STEPS_MAX = 200


async def hold(block: Any) -> None:
    async with block:
        await asyncio.sleep(0)


async def take(items: Any) -> None:
    async with items:
        await anext(items)


async def double(txn: STM) -> None:
    txn.put("n", (await txn.get("n") or b"") * 2)


CALLS: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "lease": lambda client: hold(client.lease(60)),
    "lock": lambda client: hold(client.lock("l")),
    "rw_lock": lambda client: hold(client.rw_lock("l").write()),
    "semaphore": lambda client: hold(client.semaphore("l", 1)),
    "election": lambda client: hold(client.election("l").lead("v")),
    "party": lambda client: hold(client.party("l").join("v")),
    "double_barrier": lambda client: hold(client.double_barrier("l", 1)),
    "cache": lambda client: hold(client.cache("l")),
    "partitioner": lambda client: take(client.partitioner("l", ["a", "b"])),
    "watch": lambda client: take(client.watch("n", since=1)),
    "stm": lambda client: client.stm(double),
}


async def until_no_lease(client: AsyncClient) -> None:
    async with asyncio.timeout(scaled(60)):
        while await client.list_leases():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("name", CALLS)
def test_a_call_cancelled_at_any_step_leaves_nothing(name: str) -> None:
    async def test() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with tercet.Server() as server, server.client() as client:
            await client.put("n", "1")
            await hold(client.lease(60))  # the stream of renewals has been opened, as later
            before = len(asyncio.all_tasks())
            is_done = False
            for steps in itertools.count():
                task = asyncio.ensure_future(CALLS[name](client))
                for _ in range(steps):
                    await asyncio.sleep(0)
                is_done = task.done()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                await until_no_lease(client)
                left = [kv.key for kv in await client.get_prefix("l")]
                assert not set(left) - {b"l/ready"}, steps  # of a double barrier; the next one tells it from its own
                await until(lambda: len(asyncio.all_tasks()) <= before, what=f"the tasks of step {steps} end")
                if is_done:
                    break
                assert steps < STEPS_MAX
        assert not errors

    run(test())


def test_closing_the_client_revokes_what_was_granted_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "_LAST_SECONDS", scaled(60))  # on a slow machine the request may take longer

    async def test() -> None:
        async with tercet.Server() as server, server.client() as watching:
            async with server.client() as client:
                granting = asyncio.ensure_future(client.lease(60).start())
                await asyncio.sleep(0)
                granting.cancel()
                with suppress(asyncio.CancelledError):
                    await granting
            await until_no_lease(watching)

    run(test())


def test_the_limit_of_an_acquisition_includes_its_lease() -> None:
    async def test() -> None:
        async with AsyncClient("127.0.0.1:1", timeout=None) as client:
            assert not await client.lock("l").acquire(timeout=0.01)

    run(test())


def test_an_object_acquires_once_at_a_time() -> None:
    async def test() -> None:
        async with tercet.Server() as server, server.client() as client:
            lock = client.lock("l")
            first, second = await asyncio.gather(lock.acquire(), lock.acquire(), return_exceptions=True)
            assert first is True
            assert isinstance(second, RuntimeError)
            await lock.release()
            await until_no_lease(client)
            assert await lock.acquire(timeout=0)
            assert not await client.lock("l").acquire(timeout=0)
            await lock.release()

    run(test())


def test_a_guard_that_is_not_held_is_lost() -> None:
    async def test() -> None:
        async with tercet.Server() as server, server.client() as client:
            lock = client.lock("l")
            puts = [client.put_op("a", "1")]
            with pytest.raises(tercet.LockLost, match="not held"):
                await client.txn(then=puts, guard=lock)
            await lock.acquire()
            await lock.release()
            with pytest.raises(tercet.LockLost, match="not held"):
                await client.txn(then=puts, guard=lock)
            assert await client.get("a") is None

    run(test())


def raise_error(*_: object) -> None:
    raise ZeroDivisionError


def test_what_a_callback_of_a_lost_lease_raises_ends_no_other_lease() -> None:
    async def test() -> None:
        async with tercet.Server() as server, server.client() as client, client.lease(60) as other:

            async def lose() -> None:
                async with client.lease(2) as lease:
                    lease._callbacks.insert(0, raise_error)  # before the one that cancels the block
                    await client.revoke_lease(lease)
                    await asyncio.Event().wait()

            with pytest.raises(tercet.LeaseLost):
                await lose()
            pump = client._streams.leases._pump
            assert pump is not None
            assert not pump.done()
            assert not other.is_lost

    run(test())


def test_what_a_callback_of_a_cache_raises_leaves_it_current() -> None:
    async def test() -> None:
        async with tercet.Server() as server, server.client() as client, client.cache("c/") as cache:
            cache.on_change(raise_error)
            for value in ("1", "2"):
                await client.put("c/a", value)
                async with asyncio.timeout(scaled(60)):
                    await cache.sync()
                assert cache["c/a"].text() == value

    run(test())


def test_a_client_closed_under_a_cache_leaves_no_error_behind() -> None:
    async def test() -> None:
        errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with tercet.Server() as server:
            client = server.client()
            async with client.cache("c/"):
                await client.close()
        await asyncio.sleep(0)
        assert not errors

    run(test())
