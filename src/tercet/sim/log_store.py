"""Log store of a member: production's write-ahead log, with scheduled events in place of the writer thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from random import Random
from typing import Final, NamedTuple

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.sim.acknowledgements import Durable
from tercet.sim.clock import MILLISECOND
from tercet.sim.disk import Disk, PowerCut
from tercet.storage.wal import WAL

Then = Callable[[], None]
Schedule = Callable[[int, Then], None]
"""Run an action in so many microseconds, unless the member crashes before."""

_INLINE_CHANCE: Final = 0.3  # of a single batch on an idle log: it is written before `append` returns


class _Item(NamedTuple):
    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    then: Then


class SimulatedLogStore:
    """See `interfaces.LogStore`; behaves like `ThreadedLogStore`.

    `durable` is what the disk holds for certain. At most one sync is in flight, and what arrives meanwhile is the next batch. A
    failure is reported once, and no `then` runs after it.
    """

    def __init__(
        self,
        wal: WAL,
        durable: Durable,
        disk: Disk,
        random: Random,
        schedule: Schedule,
        *,
        on_failure: Callable[[StorageFailure], None],
    ) -> None:
        self.wal = wal
        self.durable = durable
        self._disk = disk
        self._random = random
        self._schedule = schedule
        self._on_failure = on_failure
        self._queue: list[_Item] = []
        self._in_flight: list[_Item] = []
        self._unsynced: list[_Item] = []  # the newest commit index, if it waits for a batch to be written with
        self._failed = False
        self.when_writing: Callable[[int], None] | None = None  # called at the start of a write with its duration

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        if not sync:
            self._unsynced = [_Item(hard_state, entries, None, _nothing)]
            return True
        item = _Item(hard_state, entries, None, then)
        if not (self._in_flight or self._queue or self._failed) and self._random.random() < _INLINE_CHANCE:
            return self._write_inline(item)
        self._put(item)
        return False

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        self._put(_Item(None, (), snapshot, then))

    def release(self, index: int) -> None:
        self._schedule(self._random.randint(0, 50 * MILLISECOND), partial(self._release, index))

    def crash(self) -> None:
        """The process ends. Of a write in flight nothing, a part or all has reached the page cache or the disk."""
        if not self._in_flight or self._random.random() < 0.3:
            return
        self._disk.syncs_left = self._random.choice((0, 0, 0, 1, 2, 3))
        with suppress(PowerCut, StorageFailure):
            self._write()
        self._disk.syncs_left = None

    def _write_inline(self, item: _Item) -> bool:
        """As production does for a small batch on a fast disk."""
        self._in_flight = [*self._unsynced, item]
        self._unsynced.clear()
        try:
            self._write()
        except StorageFailure as failure:
            self._failed = True
            self._schedule(0, partial(self._on_failure, failure))
            return False
        finally:
            self._in_flight = []
        return True

    def _put(self, item: _Item) -> None:
        self._queue += [*self._unsynced, item]
        self._unsynced.clear()
        if not self._in_flight:
            self._begin()

    def _begin(self) -> None:
        self._in_flight, self._queue = self._queue, []
        latency = self._disk.latency()
        self._schedule(latency, self._finish)
        if self.when_writing is not None:
            self.when_writing(latency)

    def _finish(self) -> None:
        if self._failed:
            return
        try:
            self._write()
            if self._random.random() < 0.5:
                self.wal.prepare_next()
        except StorageFailure as failure:
            self._failed = True
            self._on_failure(failure)
            return
        done, self._in_flight = self._in_flight, []
        if self._queue:
            self._begin()
        for item in done:
            item.then()

    def _write(self) -> None:
        for item in self._in_flight:
            if item.snapshot is not None:
                self.wal.save_snapshot(item.snapshot)
            else:
                self.wal.append(item.hard_state, item.entries)
        self.wal.sync()
        for item in self._in_flight:
            self._note_durable(item)

    def _note_durable(self, item: _Item) -> None:
        term, vote, last_index, last_term = self.durable
        if item.snapshot is not None:
            # One of a later term than the log's end replaces a log that reaches its index: no entry of that log after its index
            # comes from a leader that had the snapshot's (paper §5.3, §7).
            if item.snapshot.index > last_index or item.snapshot.term > last_term:
                last_index, last_term = item.snapshot.index, item.snapshot.term
            if item.snapshot.term > term:
                term, vote = item.snapshot.term, 0
        if item.hard_state is not None:
            term, vote = item.hard_state.term, item.hard_state.vote
        if item.entries:
            last_index, last_term = item.entries[-1].index, item.entries[-1].term
        self.durable = Durable(term, vote, last_index, last_term)

    def _release(self, index: int) -> None:
        if not self._failed:
            self.wal.release(index)


def _nothing() -> None:
    """`then` of a commit index written with a later batch: the original ran when it was queued."""
