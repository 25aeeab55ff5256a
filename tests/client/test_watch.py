"""Typed watches on a real etcd: batches, filters, resuming, compaction, slow consumers."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

import tercet
from tercet import AsyncClient, Event, ListBatch, Watcher
from tests.client.test_streams import relay
from tests.client.typed import client_of, run
from tests.support.etcd import Etcd
from tests.support.waiting import until

Change = tuple[str, bytes, bytes]


def shown(event: Event) -> Change:
    return ("delete" if event.is_delete else "create" if event.is_create else "put", event.key, event.value)


async def take(watch: Watcher, count: int) -> list[Change]:
    """The next `count` events."""
    found: list[Change] = []
    while len(found) < count:
        found += [shown(event) for event in await anext(watch)]
    return found


def test_a_batch_holds_all_changes_of_one_revision(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "batch") as client, client.watch("", prefix=True, prev_kv=True) as watch:
            first = await client.txn(then=[client.put_op("a", "1"), client.put_op("b", "2")])
            second = await client.txn(then=[client.put_op("a", "3"), client.delete_op("b")])
            batch = await anext(watch)
            assert batch.revision == first.header.revision
            assert [shown(event) for event in batch] == [("create", b"a", b"1"), ("create", b"b", b"2")]
            batch = await anext(watch)
            assert batch.revision == second.header.revision <= batch.header.revision
            assert [shown(event) for event in batch] == [("put", b"a", b"3"), ("delete", b"b", b"")]
            assert [event.prev_kv and event.prev_kv.value for event in batch] == [b"1", b"2"]

    run(test())


def test_several_revisions_of_one_response_are_batches_of_their_own(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "history") as client:
            revisions = [(await client.put("a", str(number))).header.revision for number in range(5)]
            watch = client.watch("a", since=revisions[0])
            assert [(await anext(watch)).revision for _ in revisions] == revisions
            watch.close()

    run(test())


def test_closing_a_watch_ends_an_iteration_that_waits(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "closed") as client:
            async with client.watch("a") as watch:
                waiting = asyncio.create_task(anext(watch.events(), None))
                await asyncio.sleep(0.01)
                watch.close()
                assert await waiting is None
            fresh = client.watch("a")
            entering = asyncio.create_task(fresh.__aenter__())
            await asyncio.sleep(0)
            fresh.close()
            await entering
            assert await anext(fresh, None) is None

    run(test())


def test_filters_and_ranges(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "filter") as client:
            start = (await client.put("a", "1")).header.revision
            await client.put("c", "1")
            await client.delete("a")
            await client.put("b", "2")
            assert await take(client.watch("", prefix=True, since=start, only="delete"), 1) == [("delete", b"a", b"")]
            puts = await take(client.watch("", prefix=True, since=start, only="put"), 3)
            assert puts == [("create", b"a", b"1"), ("create", b"c", b"1"), ("create", b"b", b"2")]
            assert await take(client.watch("b", end="d", since=start), 2) == [puts[1], puts[2]]
            assert await take(client.watch("b", since=start), 1) == [puts[2]]

    run(test())


def test_events_are_flattened(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "flat") as client:
            start = await client.txn(then=[client.put_op("a", "1"), client.put_op("b", "2")])
            found: list[Change] = []
            async for event in client.watch("", prefix=True, since=start.header.revision).events():
                found.append(shown(event))
                if len(found) == 2:
                    break
            assert found == [("create", b"a", b"1"), ("create", b"b", b"2")]

    run(test())


def test_progress_is_delivered_only_where_it_is_asked_for(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with (
            client_of(shared_etcd.endpoint, "progress") as client,
            client.watch("a", progress=True) as watch,
            client.watch("a") as other,
        ):
            revision = (await client.put("b", "")).header.revision
            await watch.request_progress()
            batch = await anext(watch)
            assert batch.events == ()
            assert batch.revision >= revision
            await client.put("a", "1")
            assert (await anext(other)).events

    run(test())


def test_a_watch_loses_nothing_and_repeats_nothing_when_its_connection_is_cut(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with (
            relay(shared_etcd.client_port) as between,
            client_of(shared_etcd.endpoint, "cut") as writer,
            client_of(between.endpoint, "cut") as client,
            client.watch("", prefix=True) as watch,
        ):
            for number in range(5):
                between.cut()
                await writer.put(f"{number}", "")
                assert await take(watch, 1) == [("create", b"%d" % number, b"")]
            assert watch.resumes == 5

    run(test())


def test_a_compacted_watch_raises_compacted(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "compacted") as client:
            await client.put("a", "1")
            revision = (await client.put("a", "2")).header.revision
            await client.compact(revision)
            with pytest.raises(tercet.Compacted) as caught:
                await anext(client.watch("a", since=1))
            assert caught.value.compact_revision == revision

    run(test())


async def _next_list(batches: AsyncIterator[ListBatch]) -> tuple[bool, list[Change]]:
    batch = await anext(batches)
    return batch.is_resync, sorted(shown(event) for event in batch)


def test_a_list_that_misses_a_compaction_gets_the_difference_with_deletes(shared_etcd: Etcd) -> None:
    """Watching again alone would lose the delete of b."""

    async def test() -> None:
        async with (
            relay(shared_etcd.client_port) as between,
            client_of(shared_etcd.endpoint, "resync") as writer,
            client_of(between.endpoint, "resync") as client,
        ):
            for key in "abc":
                await writer.put(key, "1")
            batches = client.watch_list("", page_keys=2)
            assert await _next_list(batches) == (True, [("create", key, b"1") for key in (b"a", b"b", b"c")])
            await writer.put("a", "2")
            assert await _next_list(batches) == (False, [("put", b"a", b"2")])
            between.is_closed = True
            between.cut()
            await writer.delete("b")
            await writer.put("c", "2")
            await writer.compact((await writer.put("d", "1")).header.revision)
            between.is_closed = False
            assert await _next_list(batches) == (
                True,
                [("create", b"d", b"1"), ("delete", b"b", b""), ("put", b"c", b"2")],
            )
            await writer.delete("d")
            assert await _next_list(batches) == (False, [("delete", b"d", b"")])

    run(test())


def test_a_slow_consumer_gets_everything_and_delays_nobody(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with (
            client_of(shared_etcd.endpoint, "slow") as client,
            client.watch("", prefix=True, responses_max=3) as slow,
            client.watch("", prefix=True) as quick,
        ):
            for number in range(40):
                await client.put(f"{number:02}", "x" * 1000)
                await take(quick, 1)  # one response for each put; the buffer of `slow` is full after three
            assert await take(slow, 40) == [("create", b"%02d" % number, b"x" * 1000) for number in range(40)]

    run(test())


def test_a_forgotten_watch_is_cancelled(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "forgotten") as client:
            start = (await client.put("a", "1")).header.revision
            async for _ in client.watch("a", since=start):
                break
            gc.collect()
            await until(lambda: not client._streams.watches(require_leader=True)._watches)

    run(test())


def test_closing_the_client_ends_its_watches(shared_etcd: Etcd) -> None:
    async def test() -> None:
        client = AsyncClient(shared_etcd.endpoint)
        async with client.watch("a") as watch:
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            await client.close()
            with pytest.raises(tercet.ClientClosed):
                await waiting

    run(test())


def test_two_thousand_watches_share_one_stream(shared_etcd: Etcd) -> None:
    async def test() -> None:
        async with client_of(shared_etcd.endpoint, "many") as client:
            watches = [client.watch(f"{number}") for number in range(2000)]
            await asyncio.gather(*(watch.__aenter__() for watch in watches))
            await client.txn(then=[client.put_op(f"{number}", "") for number in range(0, 2000, 20)])
            for number in range(0, 2000, 20):
                assert await take(watches[number], 1) == [("create", b"%d" % number, b"")]

    run(test())
