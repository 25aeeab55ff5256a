"""What does a member find on its disk after a crash? What was synced; of the rest each sector is there or not, by chance.

The write-ahead log is production's own, over a file system that forgets (sim/filesystem.py). Around it: syncs
that take (virtual) time, syncs that fail, and power cuts in the middle of a write, between any two syncs of one change of
the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, NamedTuple

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.sim.clock import MICROSECONDS, MILLISECOND
from tercet.sim.faults import Faults
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage.interfaces import File
from tercet.storage.wal import WAL

SEGMENT_BYTES: Final = 16 * 1024  # small, so that a short run crosses from segment to segment

Then = Callable[[], None]
Plan = Callable[[int, Then], None]
"""Run something on the member in so many microseconds, if it still lives then."""


class PowerCut(Exception):
    """The machine is off, in the middle of whatever it was doing."""


class Disk:
    """A member's file system over all of its lives. `syncs_left`: the power fails instead of the sync after so many."""

    def __init__(self) -> None:
        self.files = SimulatedFileSystem()
        self.syncs_left: int | None = None

    def open(self, path: str, *, create: bool = False) -> File:
        return _CuttableFile(self.files.open(path, create=create), self)

    def exists(self, path: str) -> bool:
        return self.files.exists(path)

    def list(self, directory: str) -> list[str]:
        return self.files.list(directory)

    def make_directory(self, path: str) -> None:
        self.files.make_directory(path)

    def rename(self, old: str, new: str) -> None:
        self.files.rename(old, new)

    def remove(self, path: str) -> None:
        self.files.remove(path)

    def sync_directory(self, path: str) -> None:
        self.before_sync()
        self.files.sync_directory(path)

    def before_sync(self) -> None:
        if self.syncs_left is not None:
            if self.syncs_left == 0:
                raise PowerCut
            self.syncs_left -= 1

    def crash(self, random: Random) -> None:
        """The power is off and on again."""
        self.syncs_left = None
        self.files.crash(random)


class _CuttableFile:
    """A file whose sync may be the moment of the power cut: what was written is in the cache, and nowhere else."""

    __slots__ = ("_disk", "_file", "allocate", "close", "pread", "pwrite", "size", "truncate")

    def __init__(self, file: File, disk: Disk) -> None:
        self._file = file
        self._disk = disk
        self.pwrite = file.pwrite
        self.pread = file.pread
        self.allocate = file.allocate
        self.truncate = file.truncate
        self.size = file.size
        self.close = file.close

    def datasync(self) -> None:
        self._disk.before_sync()
        self._file.datasync()


_WRITTEN_AT_ONCE = 0.3  # the share of lone batches that find the disk quick


class _Item(NamedTuple):
    hard_state: HardState | None
    entries: Sequence[Entry]
    snapshot: Snapshot | None
    then: Then


class SimulatedLogStore:
    """A `LogStore` as production's is (storage/log_store.py), with a planned event in the place of its thread.

    One sync is in flight; what arrives meanwhile is the next batch; a failure is told once and no `then` runs after it.
    """

    def __init__(
        self,
        wal: WAL,
        disk: Disk,
        random: Random,
        faults: Callable[[], Faults],
        plan: Plan,
        *,
        on_failure: Callable[[StorageFailure], None],
    ) -> None:
        self.wal = wal
        self._disk = disk
        self._random = random
        self._faults = faults
        self._plan = plan
        self._on_failure = on_failure
        self._queue: list[_Item] = []
        self._in_flight: list[_Item] = []
        self._riders: list[_Item] = []
        self._failed = False
        self.when_writing: Callable[[int], None] | None = None  # told, once a write has begun, how long it will take

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        item = _Item(hard_state, entries, None, then)
        if sync and not (self._in_flight or self._queue or self._failed) and self._random.random() < _WRITTEN_AT_ONCE:
            return self._write_at_once(item)
        if sync or self._in_flight:
            self._put(item)
        else:
            self._riders.append(item._replace(then=_nothing))
            self._plan(0, then)
        return False

    def _write_at_once(self, item: _Item) -> bool:
        """As production does for a small batch on a quick disk."""
        self._in_flight = [*self._riders, item]
        self._riders.clear()
        self._disk.files.fail_syncs = self._random.random() < self._faults().failed_sync
        try:
            self._write()
        except StorageFailure as failure:
            self._failed = True
            self._plan(0, partial(self._on_failure, failure))
            return False
        finally:
            self._disk.files.fail_syncs = False
            self._in_flight = []
        return True

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        self._put(_Item(None, (), snapshot, then))

    def release(self, index: int) -> None:
        self._plan(self._random.randint(0, 50 * MILLISECOND), partial(self._keep_house, index))

    def crash(self) -> None:
        """The power fails. Of a write in flight nothing may have reached the cache, or some of it, or all of it the disk."""
        if not self._in_flight or self._random.random() < 0.3:
            return
        self._disk.syncs_left = self._random.choice((0, 0, 0, 1, 2, 3))
        try:
            self._write()
        except (PowerCut, StorageFailure):
            return

    def _put(self, item: _Item) -> None:
        self._queue += [*self._riders, item]
        self._riders.clear()
        if not self._in_flight:
            self._begin()

    def _begin(self) -> None:
        self._in_flight, self._queue = self._queue, []
        latency = self._latency()
        self._plan(latency, self._finish)
        if self.when_writing is not None:
            self.when_writing(latency)

    def _finish(self) -> None:
        if self._failed:
            return
        self._disk.files.fail_syncs = self._random.random() < self._faults().failed_sync
        try:
            self._write()
            if self._random.random() < 0.5:
                self.wal.prepare_next()
        except StorageFailure as failure:
            self._failed = True
            self._on_failure(failure)
            return
        finally:
            self._disk.files.fail_syncs = False
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

    def _keep_house(self, index: int) -> None:
        if not self._failed:
            self.wal.release(index)

    def _latency(self) -> int:
        if self._random.random() < self._faults().slow_sync:
            return self._random.randint(10 * MILLISECOND, 2 * MICROSECONDS)
        return self._random.randint(MILLISECOND // 2, 10 * MILLISECOND)


def _nothing() -> None:
    pass
