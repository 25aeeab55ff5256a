"""Queues, counters, parties, barriers, transactions, partitions and caches, on a real etcd and on tercet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

import tercet
from tercet import AsyncClient
from tercet.client.recipes.stm import STM
from tests.client.conftest import Server
from tests.client.test_streams import relay
from tests.client.typed import client_of, run

Result = TypeVar("Result")


def check(server: Server, name: str, body: Callable[[AsyncClient], Awaitable[None]]) -> None:
    async def test() -> None:
        async with client_of(server.endpoint, name) as client:
            await body(client)

    run(test())


async def is_waiting(task: asyncio.Future[Result], rounds: int = 5) -> bool:
    """Whether a task is not done although the server has answered other requests since."""
    for _ in range(rounds):
        await asyncio.sleep(0.01)
    return not task.done()


class TestQueue:
    def test_items_leave_in_the_order_in_which_they_came(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            queue = client.queue("q")
            for item in ("a", "b", "c"):
                await queue.put(item)
            assert await queue.length() == 3
            assert [await queue.get() for _ in range(3)] == [b"a", b"b", b"c"]
            assert await queue.get_now() is None

        check(server, "queue", body)

    def test_a_consumer_waits_for_an_item(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            getting = asyncio.create_task(client.queue("q").get())
            assert await is_waiting(getting)
            await client.queue("q").put("late")
            assert await getting == b"late"

        check(server, "late", body)

    def test_each_item_goes_to_one_of_many_consumers(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            getting = [asyncio.create_task(client.queue("q").get()) for _ in range(20)]
            await asyncio.gather(*(client.queue("q").put(str(number)) for number in range(20)))
            assert sorted(await asyncio.gather(*getting)) == sorted(b"%d" % number for number in range(20))
            assert await client.queue("q").length() == 0

        check(server, "shared", body)

    def test_priorities_come_before_order(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            queue = client.priority_queue("p")
            for item, priority in (("b1", 5), ("c", 65535), ("b2", 5), ("a", 0)):
                await queue.put(item, priority)
            keys = [kv.key for kv in await client.get_prefix("p/")]
            assert keys[:2] == [b"p/00000/0000000000000000", b"p/00005/0000000000000000"]
            assert [await queue.get() for _ in range(4)] == [b"a", b"b1", b"b2", b"c"]
            with pytest.raises(ValueError, match="0 to 65535"):
                await queue.put("x", 65536)

        check(server, "priority", body)

    def test_concurrent_puts_of_one_priority_get_different_numbers(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            queue = client.priority_queue("p")
            await asyncio.gather(*(queue.put(str(number), 7) for number in range(8)))
            assert sorted([await queue.get() for _ in range(8)]) == [b"%d" % number for number in range(8)]

        check(server, "numbers", body)


class TestCounter:
    def test_no_addition_is_lost(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            counter = client.counter("c")
            assert await counter.value() == 0
            sums = await asyncio.gather(*(counter.add() for _ in range(20)))
            assert sorted(sums) == list(range(1, 21))
            assert await counter.add(-30) == -10

        check(server, "counter", body)

    def test_a_key_that_holds_no_number_is_an_error(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            await client.put("c", "many")
            with pytest.raises(tercet.InvalidArgument, match="holds no number"):
                await client.counter("c").add()

        check(server, "no_number", body)


class TestParty:
    def test_members_come_and_go(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            party = client.party("workers")
            seen = party.observe()
            assert await anext(seen) == ()
            async with party.join("first"):
                assert [kv.value for kv in await anext(seen)] == [b"first"]
                async with party.join("second") as second:
                    assert [kv.value for kv in await anext(seen)] == [b"first", b"second"]
                    await second.set_value("renamed")
                    assert [kv.value for kv in await anext(seen)] == [b"first", b"renamed"]
                assert [kv.value for kv in await party.members()] == [b"first"]

        check(server, "party", body)


class TestBarrier:
    def test_waiters_go_on_when_it_is_released(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            barrier = client.barrier("b")
            await barrier.wait()
            await barrier.hold()
            with pytest.raises(tercet.AlreadyExists):
                await barrier.hold()
            waiting = asyncio.create_task(barrier.wait())
            assert await is_waiting(waiting)
            await barrier.release()
            await waiting

        check(server, "barrier", body)

    def test_processes_start_and_end_together(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            inside: list[int] = []
            left: list[int] = []
            go = asyncio.Event()

            async def process(number: int) -> None:
                async with client.double_barrier("d", 3):
                    inside.append(number)
                    if number == 2:
                        await go.wait()
                left.append(number)

            processes = [asyncio.create_task(process(number)) for number in range(2)]
            assert await is_waiting(asyncio.gather(*processes))
            assert inside == []
            processes.append(asyncio.create_task(process(2)))
            while len(inside) < 3:
                await asyncio.sleep(0.01)
            assert await is_waiting(processes[0])
            assert left == []
            go.set()
            await asyncio.gather(*processes)
            assert sorted(left) == [0, 1, 2]
            assert await client.count("d") == 0

        check(server, "double", body)

    def test_one_too_many_is_refused(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.double_barrier("d", 1):
                with pytest.raises(tercet.FailedPrecondition):
                    await client.double_barrier("d", 1).enter()
                assert await client.count("d/waiters/") == 1

        check(server, "too_many", body)


class TestStm:
    def test_concurrent_transfers_keep_the_sum(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            await client.put("a", "100")

            async def transfer(txn: STM) -> int:
                a, b = int(await txn.get("a") or 0), int(await txn.get("b") or 0)
                txn.put("a", str(a - 1))
                txn.put("b", str(b + 1))
                assert await txn.get("a") == str(a - 1).encode(), "a transaction reads its own writes"
                return a + b

            sums = await asyncio.gather(*(client.stm(transfer, prefetch=("a", "b")) for _ in range(10)))
            assert set(sums) == {100}, "all reads of a run are of one revision"
            assert [kv.value for kv in await client.get_prefix("")] == [b"90", b"10"]

        check(server, "stm", body)

    @pytest.mark.parametrize(("isolation", "runs"), [("snapshot", 2), ("serializable", 1)])
    def test_a_blind_write_conflicts_in_a_snapshot_only(self, server: Server, isolation: str, runs: int) -> None:
        async def body(client: AsyncClient) -> None:
            count = 0

            async def blind(txn: STM) -> None:
                nonlocal count
                count += 1
                await txn.get("read")
                if count == 1:
                    await client.put("written", "by another")
                txn.put("written", "by the transaction")

            await client.stm(blind, isolation=isolation)  # type: ignore[arg-type]
            kv = await client.get("written")
            assert kv is not None
            assert (kv.value, count) == (b"by the transaction", runs)

        check(server, f"blind_{isolation}", body)

    def test_a_delete_and_an_exception(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            await client.put("a", "1")

            async def delete(txn: STM) -> None:
                txn.delete("a")
                assert await txn.get("a") is None

            async def fail(txn: STM) -> None:
                txn.put("b", "1")
                raise LookupError

            await client.stm(delete)
            with pytest.raises(LookupError):
                await client.stm(fail)
            assert await client.count("") == 0

        check(server, "delete", body)


class TestPartitioner:
    def test_every_item_belongs_to_one_process_at_a_time(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            items = [f"shard-{number}" for number in range(6)]
            owners: dict[bytes, int] = {}
            shares: dict[int, frozenset[bytes]] = {}

            async def process(number: int) -> None:
                working: frozenset[bytes] = frozenset()
                async with client.partitioner("p", items) as partitioner:
                    try:
                        async for share in partitioner:
                            for item in working - share.owned:
                                assert owners.pop(item) == number
                            for item in share.owned - working:
                                assert owners.setdefault(item, number) == number, "two processes own it"
                            assert share.lost.isdisjoint(share.owned)
                            working = shares[number] = share.owned
                    finally:
                        for item in working:
                            del owners[item]
                        shares.pop(number, None)

            async def settled(sizes: list[int]) -> None:
                while sorted(map(len, shares.values())) != sizes or len(owners) != 6:
                    for task in tasks:
                        if task.done() and not task.cancelled():
                            task.result()
                    await asyncio.sleep(0.01)

            tasks = [asyncio.create_task(process(0))]
            await settled([6])
            tasks.append(asyncio.create_task(process(1)))
            await settled([3, 3])
            tasks.append(asyncio.create_task(process(2)))
            await settled([2, 2, 2])
            tasks[0].cancel()
            await settled([3, 3])
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        check(server, "partition", body)


class TestCache:
    def test_it_holds_the_keys_and_follows_their_changes(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            await client.put("c/a", "1")
            await client.put("d", "outside")
            async with client.cache("c/") as cache:
                assert dict(cache.items()).keys() == {b"c/a"}
                assert cache["c/a"].text() == "1"
                await client.put("c/b", "2")
                await client.delete("c/a")
                await cache.sync()
                assert list(cache) == [b"c/b"]
                assert "c/a" not in cache
                assert cache.get("c/a") is None

        check(server, "cache", body)

    def test_sync_does_not_wait_for_a_change_under_the_prefix(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.cache("c/") as cache:
                revision = (await client.put("elsewhere", "")).header.revision
                await cache.sync()
                assert cache.revision >= revision

        check(server, "elsewhere", body)

    def test_changes_are_reported(self, server: Server) -> None:
        async def body(client: AsyncClient) -> None:
            async with client.cache("c/") as cache:
                batches: list[int] = []
                cache.on_change(lambda batch: batches.append(len(batch.events)))
                changes = cache.changes()
                waiting = asyncio.ensure_future(anext(changes))
                revision = (await client.put("c/a", "1")).header.revision
                assert await waiting >= revision
                assert batches == [1]

        check(server, "changes", body)

    def test_it_survives_a_lost_connection_and_a_compaction(self, server: Server) -> None:
        async def test() -> None:
            async with (
                relay(server.client_port) as between,
                client_of(server.endpoint, "survive") as writer,
                client_of(between.endpoint, "survive") as client,
                client.cache("") as cache,
            ):
                await writer.put("a", "1")
                await cache.sync()
                between.is_closed = True
                between.cut()
                await writer.delete("a")
                await writer.compact((await writer.put("b", "2")).header.revision)
                assert list(cache) == [b"a"], "readable meanwhile"
                between.is_closed = False
                await cache.sync()
                while list(cache) == [b"a"]:  # etcd 3.5.1 may report progress before it has sent what it reports
                    await asyncio.sleep(0.02)
                assert list(cache) == [b"b"]

        run(test())
