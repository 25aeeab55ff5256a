"""The write-ahead log on an event loop: one thread writes, and what is appended meanwhile is its next batch.

    loop:    append(A)  append(B) append(C)                                 A.then()            B.then() C.then()
    thread:             write A, fdatasync ........ write B+C, fdatasync ......

At most one fdatasync is in flight, so the busier the member, the larger the batch (group commit). The thread takes its next
batch without a turn of the loop in between. Callbacks (`then`) run on the loop, in the order of appending.

A second thread does what may take long: it reserves the next segment (`WAL.prepare_next`) and removes old ones (`release`).

Invariants: a `then` runs only after its batch is durable; no `then` runs after a failure. A failure is reported once, by
`on_failure`, and is final: the member stops. An exception from a `then` is a failure too: raft missed a step, and the state of
the member is unknown.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.storage.processor_wait import ProcessorWait
from tercet.storage.wal import WAL

Then = Callable[[], None]
_Item = tuple[HardState | None, Sequence[Entry], Snapshot | None, Then]

BATCH_ITEMS_MAX: Final = 4096  # a bound on what one fdatasync waits for

# On a fast disk the loop itself writes a lone small batch: two thread wake-ups cost more than the fdatasync that they would
# hide (with one put in flight, 60 of 190 us). On a slow disk, or under load, the thread writes. Time in which the thread that
# writes waits for a processor is not the disk's: on a busy machine each further wake-up of a thread costs some milliseconds.
INLINE_ENTRIES_MAX: Final = 2
INLINE_SECONDS_MAX: Final = 0.0006
_SYNCS_AVERAGED: Final = 8
_STALL_MAX: Final = 4  # times the limit: what one sync counts for at most

logger = logging.getLogger(__name__)


class ThreadedLogStore:
    """A `LogStore` over a `WAL` and an event loop. All methods belong to the loop's thread.

    on_failure: called once, on the loop, with the StorageFailure after which nothing becomes durable, or what a `then` raised.
    observe_sync: called on the loop with the seconds of each write and fdatasync; observe_snapshot: the same, of those with a
    snapshot record.
    inline_seconds_max: the loop itself writes to a disk that syncs faster than this; 0: never.
    """

    def __init__(
        self,
        wal: WAL,
        loop: AbstractEventLoop,
        *,
        on_failure: Callable[[Exception], None],
        observe_sync: Callable[[float], None] | None = None,
        observe_snapshot: Callable[[float], None] | None = None,
        inline_seconds_max: float = INLINE_SECONDS_MAX,
    ) -> None:
        self.wal = wal
        self._loop = loop
        self._on_failure = on_failure
        self._observe_sync = observe_sync
        self._observe_snapshot = observe_snapshot
        self._failed = False
        self._closed = False
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._inline_seconds_max = inline_seconds_max
        self._sync_seconds = inline_seconds_max  # moving average; the disk must prove fast first
        self._loop_waits: ProcessorWait | None = None  # of the loop's thread; made when it is first needed
        self._queued = 0  # in the thread, or durable with their `then` still to run
        self._commit: _Item | None = None  # the newest commit index, for the next batch that needs an fdatasync
        self._durable: deque[tuple[list[_Item], float, float]] = deque()  # from the thread: batch, seconds, of the disk
        self._due: deque[Then] = deque()
        self._failure: Exception | None = None
        self._chores: SimpleQueue[int | None] = SimpleQueue()  # index to release; 0: only prepare the next segment
        self._prepared_behind = wal.newest_segment
        self._writer = Thread(target=self._write, name="tercet-wal", daemon=True)
        self._housekeeper = Thread(target=self._run_chores, name="tercet-wal-housekeeping", daemon=True)
        self._writer.start()
        self._housekeeper.start()
        self._chores.put(0)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        """Queue one batch, or write it now and return True. The caller must not change `entries` afterwards.

        sync=False is for a commit index, which a crash may take back: it reaches the disk with the next batch that needs an
        fdatasync, and nothing waits for it.
        """
        if self._failed or self._closed:
            return False
        if not sync:
            self._commit = (hard_state, (), None, _nothing)
            return True
        if self._may_write_inline(len(entries)):
            return self._write_inline((hard_state, entries, None, then))
        self._put((hard_state, entries, None, then))
        return False

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        """Record that reading may start after `snapshot`; the backend that holds its state must be durable already."""
        if not self._failed and not self._closed:
            self._put((None, (), snapshot, then))

    def release(self, index: int) -> None:
        """Entries up to `index` are no longer needed: remove segments that hold no later one, in the background."""
        self._chores.put(index)

    def close(self) -> None:
        """Wait until all is durable, run the callbacks that are due, and close the files."""
        if self._closed:
            return
        self._closed = True
        self._put_commit()
        self._queue.put(None)
        self._chores.put(None)
        self._writer.join()
        self._housekeeper.join()
        if self._loop_waits is not None:
            self._loop_waits.close()
        self._deliver()
        if self._failure is None or self.wal.has_failed:  # a log that has failed writes nothing more
            self.wal.close()

    def _may_write_inline(self, entries: int) -> bool:
        """The thread is idle, every `then` has run, and recent syncs were fast."""
        idle = not self._queued and not self._due and self._failure is None
        return idle and entries <= INLINE_ENTRIES_MAX and self._sync_seconds < self._inline_seconds_max

    def _write_inline(self, item: _Item) -> bool:
        """Write and wait, on the loop. False: it failed, and `on_failure` runs on the next turn."""
        batch = [item]
        if self._commit is not None:
            batch.insert(0, self._commit)
            self._commit = None
        waits = self._waits_of_loop()
        waited = 0.0 if waits is None else waits.seconds()
        started = perf_counter()
        try:
            self._make_durable(batch)
        except Exception as error:  # as in the thread: any error is final
            self._failure = error
            self._loop.call_soon(self._deliver)
            return False
        seconds = perf_counter() - started
        self._observe(seconds, seconds if waits is None else seconds - (waits.seconds() - waited))
        return True

    def _waits_of_loop(self) -> ProcessorWait | None:
        """None while writes are fast, whatever they wait for: to ask takes two system calls."""
        if self._sync_seconds < self._inline_seconds_max / 2:
            return None
        if self._loop_waits is None:
            self._loop_waits = ProcessorWait()
        return self._loop_waits

    def _observe(self, seconds: float, disk_seconds: float) -> None:
        """disk_seconds: without what is known to have been spent waiting for a processor. Negative if the thread lost its
        processor between the readings of the two clocks.
        """
        counted = min(max(disk_seconds, 0.0), _STALL_MAX * self._inline_seconds_max)
        self._sync_seconds += (counted - self._sync_seconds) / _SYNCS_AVERAGED
        if self._observe_sync is not None:
            self._observe_sync(seconds)

    def _put(self, item: _Item) -> None:
        self._put_commit()
        self._queued += 1
        self._queue.put(item)

    def _put_commit(self) -> None:
        if self._commit is not None:
            self._queued += 1
            self._queue.put(self._commit)
            self._commit = None

    def _deliver(self) -> None:
        """On the loop: run the callbacks of what the thread has made durable."""
        while self._durable and not self._failed:
            batch, seconds, disk_seconds = self._durable.popleft()
            self._queued -= len(batch)
            self._due.extend(item[3] for item in batch)
            self._observe(seconds, disk_seconds)
            if self._observe_snapshot is not None and any(item[2] is not None for item in batch):
                self._observe_snapshot(seconds)
        self._run_due()
        if self._failure is not None:
            self._fail(self._failure)

    def _run_due(self) -> None:
        due = self._due
        try:
            while due:
                due.popleft()()
        except Exception as error:
            due.clear()
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._on_failure(error)

    def _write(self) -> None:
        """The writer thread."""
        waits = ProcessorWait()
        try:
            closing = False
            while not closing:
                batch, closing = self._take_batch()
                if batch:
                    waited, started = waits.seconds(), perf_counter()
                    self._make_durable(batch)
                    seconds = perf_counter() - started
                    self._durable.append((batch, seconds, seconds - (waits.seconds() - waited)))
                    self._wake_loop()
        except Exception as error:
            # Including bugs of ours: if this thread ended silently, the member would wait forever.
            self._failure = error
            self._wake_loop()
        finally:
            waits.close()

    def _take_batch(self) -> tuple[list[_Item], bool]:
        """Wait for one item and take all that are queued. Returns True with the last batch."""
        item = self._queue.get()
        batch: list[_Item] = []
        try:
            while item is not None:
                batch.append(item)
                if len(batch) >= BATCH_ITEMS_MAX:
                    return batch, False
                item = self._queue.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _make_durable(self, batch: list[_Item]) -> None:
        wal = self.wal
        for hard_state, entries, snapshot, _ in batch:
            if snapshot is None:
                wal.append(hard_state, entries)
            else:
                wal.save_snapshot(snapshot)
        wal.sync()
        if wal.newest_segment != self._prepared_behind:
            self._prepared_behind = wal.newest_segment
            self._chores.put(0)

    def _wake_loop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver)

    def _run_chores(self) -> None:
        """The housekeeping thread. A full disk is only logged: if that matters, the writer meets it too, and fails."""
        while (index := self._chores.get()) is not None:
            try:
                self.wal.prepare_next()
                if index:
                    before = self.wal.segments
                    self.wal.release(index)
                    for path in before[: len(before) - len(self.wal.segments)]:
                        logger.info("purged %s", path)
            except StorageFailure as failure:
                if self.wal.has_failed:
                    self._failure = failure
                    self._wake_loop()
                    return
                logger.warning("write-ahead log housekeeping: %s", failure)


def _nothing() -> None:
    """The `then` of a commit index."""
