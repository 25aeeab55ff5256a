"""How does the loop append without ever waiting for the disk? One thread writes; what arrives meanwhile is its next batch.

    loop:    append(A)  append(B) append(C)                                 A.then()            B.then() C.then()
    thread:             write A, fdatasync ........ write B+C, fdatasync ......

At most one fdatasync is in flight, so the busier the member, the larger the batch (group commit). The thread takes its next
batch by itself, without a turn of the loop in between; `then`s run on the loop, in the order of appending.

A second thread keeps house, where removing a file or reserving 64 MB may take as long as it likes: `WAL.prepare_next`,
`release`.

What this file must never do: run a `then` whose batch is not durable, or any `then` after a failure. Failure is told once, by
`on_failure`, and is final: the member stops. A `then` that raises is such a failure, too: what should have followed from the
promise did not, and a member that went on would not know itself.
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
from tercet.storage.wal import WAL

Then = Callable[[], None]
_Item = tuple[HardState | None, Sequence[Entry], Snapshot | None, Then]

BATCH_ITEMS_MAX: Final = 4096  # a bound on what one fdatasync waits for

# A lone small batch on a quick disk is written by the loop itself: two thread wake-ups cost more than the fdatasync that they
# would hide (a put at a time: 60 of 190 us). A disk that is slow, or a member that is busy, gets the thread.
HERE_ENTRIES_MAX: Final = 2
HERE_SECONDS_MAX: Final = 0.0006
_SYNCS_AVERAGED: Final = 8

logger = logging.getLogger(__name__)


class ThreadedLogStore:
    """A `LogStore` over a `WAL` and an event loop. All methods belong to the loop's thread.

    on_failure: called once, on the loop, with the StorageFailure after which nothing is durable, or what a `then` raised.
    observe_sync: called on the loop with the seconds of each write and fdatasync.
    here_seconds_max: a disk that syncs quicker than this is waited for by the loop itself; 0: never.
    """

    def __init__(
        self,
        wal: WAL,
        loop: AbstractEventLoop,
        *,
        on_failure: Callable[[Exception], None],
        observe_sync: Callable[[float], None] | None = None,
        here_seconds_max: float = HERE_SECONDS_MAX,
    ) -> None:
        self.wal = wal
        self._loop = loop
        self._on_failure = on_failure
        self._observe_sync = observe_sync
        self._failed = False
        self._closed = False
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._here_seconds_max = here_seconds_max
        self._sync_seconds = here_seconds_max  # of late, on average; at first the disk has to show that it is quick
        self._queued = 0  # given to the thread, its `then` still to come
        self._riders: list[_Item] = []  # commit indexes that wait for a batch worth an fdatasync
        self._durable: deque[tuple[list[_Item], float]] = deque()  # from the thread to the loop
        self._due: deque[Then] = deque()
        self._failure: Exception | None = None
        self._chores: SimpleQueue[int | None] = SimpleQueue()  # 0: only make the next segment
        self._prepared_behind = wal.newest_segment
        self._writer = Thread(target=self._write, name="tercet-wal", daemon=True)
        self._keeper = Thread(target=self._keep_house, name="tercet-wal-housekeeping", daemon=True)
        self._writer.start()
        self._keeper.start()
        self._chores.put(0)

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        """Queue one batch, or write it at once and return True. `entries` must not be changed afterwards.

        sync=False promises nothing that a crash may not take back (only the commit index moved): its `then` waits for what was
        appended before it, not for its own bytes, which reach the disk with the next batch that needs it.
        """
        if self._failed or self._closed:
            return False
        if sync and self._may_write_here(len(entries)):
            return self._write_here((hard_state, entries, None, then))
        if sync or self._queued:
            self._put((hard_state, entries, None, then))
        else:
            self._riders.append((hard_state, entries, None, _nothing))
            self._due.append(then)
            self._loop.call_soon(self._run_due)
        return False

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        """Record that the log may be read from behind `snapshot`; the backend that holds its state is durable already."""
        if not self._failed and not self._closed:
            self._put((None, (), snapshot, then))

    def release(self, index: int) -> None:
        """Entries up to `index` are not needed: remove whole segments of them, in the background."""
        self._chores.put(index)

    def close(self) -> None:
        """Wait until all is written and durable, then let go of the files. `then`s still due run here."""
        if self._closed:
            return
        self._closed = True
        self._put_riders()
        self._queue.put(None)
        self._chores.put(None)
        self._writer.join()
        self._keeper.join()
        self._deliver()
        if self._failure is None:
            self.wal.close()

    def _may_write_here(self, entries: int) -> bool:
        """The thread is idle, every `then` so far has run, and the disk has been quick of late."""
        idle = not self._queued and not self._due and self._failure is None
        return idle and entries <= HERE_ENTRIES_MAX and self._sync_seconds < self._here_seconds_max

    def _write_here(self, item: _Item) -> bool:
        """Write and wait, on the loop. False: it failed, which is told on the next turn."""
        batch = [*self._riders, item]
        self._riders.clear()
        started = perf_counter()
        try:
            self._make_durable(batch)
        except Exception as error:  # as in the thread: whatever it is, nothing is promised any more
            self._failure = error
            self._loop.call_soon(self._deliver)
            return False
        self._observe(perf_counter() - started)
        return True

    def _observe(self, seconds: float) -> None:
        self._sync_seconds += (seconds - self._sync_seconds) / _SYNCS_AVERAGED
        if self._observe_sync is not None:
            self._observe_sync(seconds)

    def _put(self, item: _Item) -> None:
        if self._riders:
            self._put_riders()
        self._queued += 1
        self._queue.put(item)

    def _put_riders(self) -> None:
        for rider in self._riders:
            self._queued += 1
            self._queue.put(rider)
        self._riders.clear()

    def _deliver(self) -> None:
        """On the loop: what the thread has finished."""
        while self._durable and not self._failed:
            batch, seconds = self._durable.popleft()
            self._queued -= len(batch)
            self._due.extend(item[3] for item in batch)
            self._observe(seconds)
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
        try:
            closing = False
            while not closing:
                batch, closing = self._take_batch()
                if batch:
                    started = perf_counter()
                    self._make_durable(batch)
                    self._durable.append((batch, perf_counter() - started))
                    self._wake_loop()
        except Exception as error:
            # Also our own bugs must not end this thread in silence: the member would wait for ever.
            self._failure = error
            self._wake_loop()

    def _take_batch(self) -> tuple[list[_Item], bool]:
        """Wait for one item, take all that is there; True with the last batch."""
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

    def _keep_house(self) -> None:
        """The housekeeping thread. What fails here costs no promise: the writer meets the same trouble when it counts."""
        while (index := self._chores.get()) is not None:
            try:
                self.wal.prepare_next()
                if index:
                    self.wal.release(index)
            except StorageFailure as failure:
                logger.warning("write-ahead log housekeeping: %s", failure)


def _nothing() -> None:
    """The `then` of a rider: its own was run when all before it was durable."""
