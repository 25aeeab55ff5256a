"""Reads in slices: they take turns, are bounded, and are cancelled with their client."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest

from tercet.errors import TIMEOUT, TOO_MANY_REQUESTS
from tercet.mvcc import Budget, Steps, Store
from tercet.mvcc.work import TURN_WORK
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError
from tercet.services.scheduler import BEGIN_WORK, SLICE_WORK, Scheduler
from tests.mvcc.dict_backend import DictBackend
from tests.services.harness import run, served
from tests.support.fakes import uses_fakes

pytestmark = uses_fakes  # `Work` is an interpreted subclass of Steps

KEYS = 3000
ALL: dict[str, Any] = {"key": b"\0", "range_end": b"\0"}


class Work(Steps):
    """`total` units of work; each step is recorded."""

    def __init__(self, total: int, record: list[str], name: str = "", size: int = 0, error: Exception | None = None) -> None:
        self.left = total
        self.record = record
        self.name = name
        self.pins = 0
        self._size = size
        self._error = error

    def step(self, budget: Budget) -> bool:
        self.record.append(self.name)
        if self._error is not None:
            raise self._error
        done = min(self.left, budget.left)
        self.left -= done
        budget.left -= done
        return self.left > 0

    @property
    def size_bytes(self) -> int:
        return self._size

    def pin(self) -> None:
        self.pins += 1

    def unpin(self) -> None:
        self.pins -= 1


def scenario(test: Callable[[Scheduler, Store], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def start() -> None:
        await test(Scheduler(asyncio.get_running_loop(), **options), Store(DictBackend()))

    asyncio.run(start())


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_work_beyond_the_budget_of_a_turn_waits() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        assert scheduler.try_now(Work(TURN_WORK // 2, record))
        assert not scheduler.try_now(Work(TURN_WORK, record)), "half of the turn's budget is left"
        assert not scheduler.try_now(Work(1, record)), "none of it is left"
        assert len(record) == 2
        await turns(2)
        assert scheduler.try_now(Work(1, record))

    scenario(test)


def test_what_many_clients_begin_in_one_turn_is_bounded() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        works = [Work(SLICE_WORK + 1, []) for _ in range(100)]
        assert not any(scheduler.begin(work) for work in works)
        assert sum(SLICE_WORK + 1 - work.left for work in works) <= TURN_WORK + BEGIN_WORK
        await turns(2)
        assert scheduler.begin(Work(1, []))

    scenario(test)


def test_jobs_take_turns() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        ended: list[str] = []
        for name in "abc":
            scheduler.start(Work(4 * SLICE_WORK, record, name), store, lambda error, name=name: ended.append(name))
        scheduler.start(Work(1, record, "small"), store, lambda error: ended.append("small"))
        await turns(10)
        assert record[:8] == ["a", "b", "c", "small", "a", "b", "c", "a"]
        assert (ended[0], sorted(ended[1:])) == ("small", ["a", "b", "c"])

    scenario(test)


def test_a_turn_of_the_loop_does_a_bounded_amount_of_work() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        work = Work(10 * TURN_WORK, [])
        scheduler.start(work, store, lambda error: None)
        lefts = [work.left]
        while work.left:
            await asyncio.sleep(0)
            lefts.append(work.left)
        assert max(before - after for before, after in pairwise(lefts)) <= TURN_WORK

    scenario(test)


def test_a_job_is_pinned_until_it_completes_fails_or_is_cancelled() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        works = [Work(10, []), Work(10, [], error=ValueError("broken")), Work(10, []), Work(10, [])]
        outcomes: list[Exception | None] = []
        jobs = [scheduler.start(work, store, outcomes.append) for work in works]
        assert [work.pins for work in works] == [1, 1, 1, 1]
        assert jobs[2] is not None
        scheduler.cancel(jobs[2])
        await turns(3)
        assert [work.pins for work in works] == [0, 0, 0, 0]
        assert [type(outcome) for outcome in outcomes] == [type(None), ValueError, type(None)], (
            "the cancelled job does not report"
        )
        scheduler.start(works[0], store, outcomes.append)
        scheduler.close()
        assert works[0].pins == 0

    scenario(test)


def test_responses_beyond_the_memory_bound_are_made_one_at_a_time() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        for name in "ab":
            scheduler.start(Work(6 * SLICE_WORK, record, name, size=60), store, lambda error: None)
        await turns(10)
        assert record == ["a"] * 6 + ["b"] * 6

    scenario(test, held_bytes_max=100)


def test_too_many_waiting_reads_are_rejected() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        outcomes: list[Exception | None] = []
        for _ in range(3):
            scheduler.start(Work(10, []), store, outcomes.append)
        assert outcomes == [TOO_MANY_REQUESTS]
        await turns(3)
        assert outcomes[1:] == [None, None]

    scenario(test, jobs_max=2)


def test_cancelled_jobs_hold_nothing_and_leave_their_places_to_others() -> None:
    """They are not searched for: thousands that end with a connection would make a long turn."""

    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        works = [Work(100 * TURN_WORK, record, "first", size=1 << 20) for _ in range(10)]
        kept = [weakref.ref(work) for work in works]
        jobs = [scheduler.start(work, store, _unexpected) for work in works]
        works.clear()
        for job in jobs:
            assert job is not None
            scheduler.cancel(job)
            scheduler.cancel(job)
        done: list[Exception | None] = []
        for _ in range(10):
            assert scheduler.start(Work(10, record, "second"), store, done.append) is not None
        await turns(5)
        assert done == [None] * 10
        assert record == ["second"] * 10
        assert not any(work() for work in kept)

    scenario(test, jobs_max=10)


def test_what_a_cancelled_job_holds_is_freed_in_later_turns() -> None:
    """To free the million records of a sorted range takes 50 ms."""

    class Large(Work):
        def discard(self, budget: Budget) -> bool:
            return self.step(budget)

    async def test(scheduler: Scheduler, store: Store) -> None:
        works = [Large(5 * TURN_WORK, [], str(number)) for number in range(2)]
        jobs = [scheduler.start(work, store, _unexpected) for work in works]
        for job in jobs:
            assert job is not None
            scheduler.cancel(job)
        assert all(work.left == 5 * TURN_WORK for work in works)
        for _ in range(20):
            left = sum(work.left for work in works)
            await turns(1)
            assert left - TURN_WORK <= sum(work.left for work in works) <= max(0, left - SLICE_WORK)
        assert not left
        references = [weakref.ref(work) for work in works]
        works.clear()
        assert not any(reference() for reference in references)

    scenario(test)


def test_a_task_that_is_cancelled_takes_its_read_along() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        works = [Work(100 * TURN_WORK, record) for _ in range(5)]
        tasks = [asyncio.ensure_future(scheduler.finish(work, store)) for work in works]
        await turns(3)
        assert [work.pins for work in works] == [1] * 5
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert [work.pins for work in works] == [0] * 5
        steps = len(record)
        await turns(5)
        assert len(record) == steps, "nobody waits for them"

    scenario(test)


def test_a_read_of_a_store_replaced_by_a_snapshot_times_out() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        outcomes: list[Exception | None] = []
        scheduler.start(Work(10, []), store, outcomes.append)
        store.is_replaced = True
        await turns(3)
        assert outcomes == [TIMEOUT]

    scenario(test)


# Through the services.


async def filled(member: Any) -> None:
    ops = [rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"%04d" % number)) for number in range(KEYS)]
    for at in range(0, KEYS, 8):
        await member.call("KV/Txn", rpc_pb2.TxnRequest(success=ops[at : at + 8]), rpc_pb2.TxnResponse)


def test_a_put_during_a_large_range_is_served_and_not_seen_by_the_range() -> None:
    async def test() -> None:
        async with served() as member:
            await filled(member)
            request = rpc_pb2.RangeRequest(**ALL, sort_target=rpc_pb2.RangeRequest.VALUE)
            reading = asyncio.ensure_future(member.call("KV/Range", request, rpc_pb2.RangeResponse))
            await turns(3)
            put = await member.call("KV/Put", rpc_pb2.PutRequest(key=b"new"), rpc_pb2.PutResponse)
            assert not reading.done()
            answer = await reading
            assert (answer.count, len(answer.kvs)) == (KEYS, KEYS)
            assert answer.header.revision == put.header.revision - 1

    run(test())


def test_a_range_is_cancelled_with_its_client() -> None:
    async def test() -> None:
        async with served() as member:
            await filled(member)
            reading = asyncio.ensure_future(member.call("KV/Range", rpc_pb2.RangeRequest(**ALL), rpc_pb2.RangeResponse))
            await turns(3)
            assert member.scheduler._count_open
            reading.cancel()
            await turns(2)
            assert not member.scheduler._count_open
            assert not member.replica.store.pins._counts

    run(test())


def test_a_compaction_does_not_abort_a_range_in_progress() -> None:
    async def test() -> None:
        async with served() as member:
            await filled(member)
            old = rpc_pb2.RangeRequest(**ALL, revision=member.replica.revision)
            await member.call("KV/DeleteRange", rpc_pb2.DeleteRangeRequest(**ALL), rpc_pb2.DeleteRangeResponse)
            reading = asyncio.ensure_future(member.call("KV/Range", old, rpc_pb2.RangeResponse))
            await turns(3)
            await member.call(
                "KV/Compact", rpc_pb2.CompactionRequest(revision=member.replica.revision), rpc_pb2.CompactionResponse
            )
            while member.replica.compaction.step(1000) and not reading.done():
                await asyncio.sleep(0)
            assert len((await reading).kvs) == KEYS
            with pytest.raises(RpcError, match="compacted"):
                await member.call("KV/Range", old, rpc_pb2.RangeResponse)

    run(test())


def test_a_write_txn_returns_its_own_reads_despite_later_writes() -> None:
    async def test() -> None:
        async with served() as member:
            await filled(member)
            request = rpc_pb2.TxnRequest(
                success=[
                    rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"new")),
                    rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(**ALL)),
                ]
            )
            writing = asyncio.ensure_future(member.call("KV/Txn", request, rpc_pb2.TxnResponse))
            await turns(5)
            await member.call("KV/Put", rpc_pb2.PutRequest(key=b"newer"), rpc_pb2.PutResponse)
            answer = await writing
            assert answer.responses[1].response_range.count == KEYS + 1
            assert answer.header.revision == answer.responses[1].response_range.header.revision

    run(test())


def test_a_job_of_a_backlogged_connection_is_held_back_and_delays_no_other() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        record: list[str] = []
        done: list[str] = []
        backlogged = True
        held = Work(3 * SLICE_WORK, record, "held")
        scheduler.start(held, store, lambda error: done.append("held"), is_backlogged=lambda: backlogged)
        await turns(3)
        assert record == []
        assert scheduler.try_now(Work(1, record, "other")), "a job that is held back takes nothing from other reads"
        await asyncio.sleep(0.1)
        assert "held" not in record
        assert held.pins == 1, "what it reads is not compacted"
        backlogged = False
        while not done:
            await asyncio.sleep(0.01)
        assert held.pins == 0

    scenario(test)


def test_a_job_is_not_held_back_for_ever() -> None:
    async def test(scheduler: Scheduler, store: Store) -> None:
        loop = asyncio.get_running_loop()
        done: list[Exception | None] = []
        cancelled = scheduler.start(Work(1, []), store, done.append, is_backlogged=lambda: True)
        assert cancelled is not None
        await asyncio.sleep(0.05)
        scheduler._held_seconds_max = 0.5  # not before: a pause of the process must not end both
        began = loop.time()
        scheduler.start(Work(1, []), store, done.append, is_backlogged=lambda: True)
        scheduler.cancel(cancelled)
        while not done:
            await asyncio.sleep(0.05)
        assert loop.time() - began >= 0.4
        assert done == [None]

    scenario(test)


def test_a_job_that_is_done_keeps_nothing_alive() -> None:
    """A call refers to its job, and the job's `then` to the call: the answer would stay until the next garbage collection."""

    class Call:
        job: object = None

        def finish(self, error: Exception | None) -> None: ...

        def is_backlogged(self) -> bool:
            return False

    async def test(scheduler: Scheduler, store: Store) -> None:
        gc.disable()
        try:
            for end in ("done", "cancelled"):
                call, steps = Call(), Work(2 * TURN_WORK, [])
                alive = weakref.ref(steps), weakref.ref(call)
                job = scheduler.start(steps, store, call.finish, is_backlogged=call.is_backlogged)
                call.job = job
                if end == "cancelled":
                    assert job is not None
                    scheduler.cancel(job)
                await turns(20)
                del call, steps, job
                assert [one() for one in alive] == [None, None]
        finally:
            gc.enable()

    scenario(test)


def _unexpected(error: Exception | None) -> None:
    raise AssertionError("a cancelled job has ended")
