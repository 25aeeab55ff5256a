"""The log store between loop and disk: order, group commit, and no callback after a failure."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import ConfState, Entry, HardState, Snapshot
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage.log_store import ThreadedLogStore
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered
from tests.support.waiting import scaled

SEGMENT_BYTES = 16 << 10


class GatedFileSystem(SimulatedFileSystem):
    """A disk as slow as the test wants: an fdatasync returns only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def use_power(self, action: str) -> None:
        if action.startswith("fdatasync"):
            assert self.gate.wait(timeout=scaled(10))
        super().use_power(action)


def run(test: Callable[[GatedFileSystem, WAL], Coroutine[Any, Any, None]]) -> GatedFileSystem:
    fs = GatedFileSystem()
    wal = WAL.create(fs, "wal", b"whose", segment_bytes=SEGMENT_BYTES)
    asyncio.run(asyncio.wait_for(test(fs, wal), timeout=scaled(20)))
    return fs


def recovered(fs: SimulatedFileSystem) -> Recovered:
    return WAL.open(fs, "wal", segment_bytes=SEGMENT_BYTES)[1]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_callbacks_run_on_the_loop_in_order_once_durable() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=0)
        done: list[tuple[int, bool]] = []

        def note(index: int) -> None:
            done.append((index, threading.current_thread() is threading.main_thread()))

        fs.gate.clear()
        for index in range(1, 51):
            store.append(HardState(1, 1, 0), [Entry(1, index)], then=partial(note, index))
        await asyncio.sleep(0.02)
        assert done == []
        syncs = fs.syncs
        fs.gate.set()
        await until(lambda: len(done) == 50)
        assert done == [(index, True) for index in range(1, 51)]
        assert fs.syncs - syncs <= 6, "waiting writes form one batch (and the next segment may be created in the meantime)"
        store.close()

    assert [entry.index for entry in recovered(run(test)).entries] == list(range(1, 51))


def test_a_commit_index_waits_for_the_next_fsync() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=0)
        done: list[str] = []
        store.append(HardState(1, 1, 0), [Entry(1, 1)], then=lambda: done.append("entry"))
        await until(lambda: done == ["entry"] and wal._spare is not None)
        syncs = fs.syncs
        assert store.append(HardState(1, 1, 1), (), then=_never_called, sync=False), "nothing waits for a commit index"
        store.append(None, [Entry(1, 2)], then=lambda: done.append("next"))
        await until(lambda: done == ["entry", "next"])
        assert fs.syncs == syncs + 1, "a commit index alone needs no fsync"
        assert recovered(fs).hard_state == HardState(1, 1, 1)

        syncs = fs.syncs
        fs.gate.clear()
        store.append(None, [Entry(1, 3)], then=lambda: done.append("slow"))
        assert store.append(HardState(1, 1, 2), (), then=_never_called, sync=False)
        assert store.append(HardState(1, 1, 3), (), then=_never_called, sync=False)
        fs.gate.set()
        await until(lambda: done == ["entry", "next", "slow"])
        await asyncio.sleep(0.02)
        assert fs.syncs == syncs + 1, "not even while the thread is busy"
        store.close()

    assert recovered(run(test)).hard_state == HardState(1, 1, 3)


def test_on_a_fast_disk_the_loop_writes_small_batches_in_order() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=10.0)
        done: list[int] = []
        index, at_once = 0, False
        while not at_once and index < 50:  # the thread measures that the disk is fast
            index += 1
            at_once = store.append(HardState(1, 1, 0), [Entry(1, index)], then=partial(done.append, index))
            if not at_once:
                await until(partial(done.__contains__, index))
        assert at_once
        assert index not in done, "`then` is not called for a batch that is durable on return"
        assert recovered(fs).entries[-1].index == index

        many = [Entry(1, at) for at in range(index + 1, index + 10)]
        assert not store.append(None, many, then=partial(done.append, 100)), "the thread writes a large batch"
        last = [Entry(1, index + 10)]
        assert not store.append(None, last, then=partial(done.append, 101)), "the thread is busy"
        await until(lambda: done[-2:] == [100, 101])
        store.close()

    run(test)


def test_time_spent_waiting_for_a_processor_is_not_the_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine each write takes long, and a thread more would make it longer."""
    waited = 0.0

    def waits_for_processor(action: str) -> None:
        nonlocal waited
        if action.startswith("fdatasync"):
            time.sleep(0.1)
            waited += 0.1

    monkeypatch.setattr(os, "pread", lambda fd, size, offset: b"0 %d 0\n" % (waited * 1e9))

    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        monkeypatch.setattr(fs, "use_power", waits_for_processor)
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=0.05)
        done: list[int] = []
        at_once = 0
        for index in range(1, 201):  # a pause of this process does count as the disk's time
            if store.append(None, [Entry(1, index)], then=partial(done.append, index)):
                at_once += 1
            else:
                await until(partial(done.__contains__, index))
            if at_once == 8:
                break
        store.close()
        assert at_once == 8

    run(test)


def test_a_wait_that_is_longer_than_the_write_does_not_make_the_disk_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread can lose its processor between the readings of the two clocks: 0 still means that only the thread writes."""
    waited = 0

    def pread(fd: int, size: int, offset: int) -> bytes:
        nonlocal waited
        waited += 10**9
        return b"0 %d 0\n" % waited

    monkeypatch.setattr(os, "pread", pread)

    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=0)
        done: list[int] = []
        for index in range(1, 13):
            assert not store.append(None, [Entry(1, index)], then=partial(done.append, index))
            await until(partial(done.__contains__, index))
        store.close()

    run(test)


def test_a_failed_fsync_is_reported_once_and_no_callback_runs_after_it() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        failures: list[Exception] = []
        done: list[str] = []
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=failures.append, inline_seconds_max=0)
        fs.gate.clear()
        store.append(None, [Entry(1, 1)], then=lambda: done.append("first"))
        store.append(None, [Entry(1, 2)], then=lambda: done.append("second"))
        fs.fail_syncs = True
        fs.gate.set()
        await until(lambda: bool(failures))
        fs.fail_syncs = False
        store.append(None, [Entry(1, 3)], then=lambda: done.append("third"))
        store.append(HardState(1, 1, 1), (), then=lambda: done.append("commit"), sync=False)
        store.save_snapshot(Snapshot(1, 1, ConfState()), then=lambda: done.append("mark"))
        await asyncio.sleep(0.02)
        store.close()
        assert done == []
        assert len(failures) == 1
        assert isinstance(failures[0], StorageFailure)
        assert "fdatasync" in str(failures[0])

    run(test)


def test_d21_a_full_disk_fails_the_log() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        failures: list[Exception] = []
        acknowledged: list[int] = []
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=failures.append, inline_seconds_max=0)
        await until(lambda: len(fs.list("wal")) == 2)
        fs.space_left = 0
        for index in range(1, 101):
            store.append(None, [Entry(1, index, bytes(1000))], then=partial(acknowledged.append, index))
            while not failures and acknowledged[-1:] != [index]:
                await asyncio.sleep(0)
        store.close()
        assert "no space left" in str(failures[0])
        fs.space_left = None
        found = recovered(fs)
        assert len(found.entries) >= len(acknowledged) >= 10
        assert acknowledged == list(range(1, len(acknowledged) + 1))

    run(test)


def test_segments_are_created_and_removed_in_the_background() -> None:
    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=_never, inline_seconds_max=0)
        done: list[int] = []
        for index in range(1, 101):
            store.append(HardState(1, 1, index), [Entry(1, index, bytes(1000))], then=lambda: done.append(1))
            await asyncio.sleep(0)
        store.save_snapshot(Snapshot(90, 1, ConfState(voters=(1,))), then=lambda: done.append(1))
        await until(lambda: len(done) == 101)
        before = len(wal.segments)
        store.release(80)
        await until(lambda: len(wal.segments) < before)
        store.close()

    found = recovered(run(test))
    assert found.snapshot is not None
    assert [entry.index for entry in found.entries] == list(range(91, 101))


def test_an_exception_in_a_callback_fails_the_log() -> None:
    """Raft missed a step, so later callbacks would build on an unknown state."""

    async def test(fs: GatedFileSystem, wal: WAL) -> None:
        failures: list[Exception] = []
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=failures.append, inline_seconds_max=0)
        done: list[int] = []
        fs.gate.clear()
        store.append(None, [Entry(1, 1)], then=lambda: done.append(1))
        store.append(None, [Entry(1, 2)], then=_fails)
        store.append(None, [Entry(1, 3)], then=lambda: done.append(3))
        fs.gate.set()
        await until(lambda: bool(failures))
        store.append(None, [Entry(1, 4)], then=lambda: done.append(4))
        await asyncio.sleep(0.01)
        store.close()
        assert (done, len(failures), str(failures[0])) == ([1], 1, "a bug above")

    run(test)


def _never(error: Exception) -> None:
    raise AssertionError(error)


def _never_called() -> None:
    raise AssertionError


def _fails() -> None:
    raise ValueError("a bug above")
