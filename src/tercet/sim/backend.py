"""A member's backend: commits take time and cover a prefix of what was applied, as in storage/lmdb_backend.py.

    put, delete    change the current content at once
    commit begins  100 ms after a change, or when asked: everything up to the last `applied`, while new changes go on
    commit ends    some milliseconds later: durable, and its callbacks run
A crash leaves the content of the last commit that ended; one in progress is lost or kept as a whole. Power cuts, a full disk
and read errors come from the member's disk. A record may rot: what reads it gets CorruptRecord, until another content is
installed, or another database takes the place of this one (database_file.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random
from typing import Final

from tercet.errors import CorruptRecord, StorageFailure, require
from tercet.sim.bit_rot import BitRot
from tercet.sim.clock import MILLISECOND
from tercet.sim.disk import Disk
from tercet.storage.interfaces import Bucket, ReadView, Staged
from tercet.storage.memory_tables import StagedTables, Tables, TablesView, Undo, new_tables, revert, size_bytes, write_point

Then = Callable[[], None]
Schedule = Callable[[int, Then], None]

COMMIT_INTERVAL: Final = 100 * MILLISECOND


class SimulatedBackend:
    """See `interfaces.Backend`. It belongs to the disk: `start` begins an incarnation, `crash` ends one."""

    def __init__(self, disk: Disk, random: Random) -> None:
        self._disk = disk
        self._random = random
        self._tables = new_tables()
        self._reader = TablesView(self._tables)
        self._schedule: Schedule = _no_schedule
        self._on_failure: Callable[[StorageFailure], None] = _no_failure
        self._check_applied: Callable[[int], None] = _no_check
        self._open: Undo = {}  # changes since the last `applied`
        self._closed: Undo = {}  # changes before it that no commit has taken up
        self._sealed: Undo = {}  # changes in the commit in progress
        self._point = self._durable = self._sealed_point = (0, 0)
        self._waiting: list[Then] = []
        self._sealed_waiting: list[Then] | None = None  # None: no commit is in progress
        self._commit_number = 0
        self._commit_wanted = False
        self._timer_is_set = False
        self._bytes = 0
        self.rot = BitRot(random)

    def start(
        self,
        schedule: Schedule,
        on_failure: Callable[[StorageFailure], None],
        on_corruption: Then,
        *,
        check_applied: Callable[[int], None],
    ) -> None:
        """check_applied: called with each index up to which all entries are said to be put."""
        self._check_applied = check_applied
        self._schedule = schedule
        self._on_failure = on_failure
        self.rot.start(schedule, on_corruption)

    def crash(self) -> None:
        """Lose what no commit holds; a commit in progress is durable or lost by chance."""
        if self._sealed_waiting is not None and self._random.random() < 0.5:
            self._make_durable()
        for undo in (self._open, self._closed, self._sealed):
            revert(self._tables, undo)
            undo.clear()
        self._point = self._sealed_point = self._durable
        self._waiting.clear()
        self._sealed_waiting = None
        self._commit_number += 1
        self._commit_wanted = self._timer_is_set = False
        self._bytes = size_bytes(self._tables)
        if self.rot.key not in self._tables[Bucket.KEY]:
            self.rot.key = None
        self._schedule = _no_schedule

    # --- writing and reading

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        require(bool(key), "a key is empty", bucket)
        table = self._tables[bucket]
        before = table.get(key)
        self._open.setdefault((bucket, key), before)
        table[key] = value
        self._bytes += len(value) - len(before) if before is not None else len(key) + len(value)

    def delete(self, bucket: Bucket, key: bytes) -> None:
        before = self._tables[bucket].pop(key, None)
        if before is not None:
            self._open.setdefault((bucket, key), before)
            self._bytes -= len(key) + len(before)
        if bucket is Bucket.KEY and key == self.rot.key:
            self.rot.key = None

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        self._disk.before_read()
        if bucket is Bucket.KEY and key == self.rot.key:
            raise self.rot.found(key)
        return self._reader.get(bucket, key)

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self._reader.scan(bucket, start, end):
            if bucket is Bucket.KEY and key == self.rot.key:
                raise self.rot.found(key)
            yield key, value

    def applied(self, index: int, term: int) -> None:
        self._check_applied(index)
        for place, before in self._open.items():
            self._closed.setdefault(place, before)
        self._open.clear()
        self._point = (index, term)
        if self._commit_wanted:
            self._commit_if_wanted()
        elif not self._timer_is_set:
            self._timer_is_set = True
            self._schedule(COMMIT_INTERVAL, self._on_timer)

    # --- commits

    @property
    def path(self) -> str:
        return "in memory"

    @property
    def applied_index(self) -> int:
        return self._durable[0]

    @property
    def applied_term(self) -> int:
        return self._durable[1]

    def commit(self, then: Then | None = None) -> None:
        if then is not None:
            self._waiting.append(then)
        self._commit_wanted = True
        self._commit_if_wanted()

    def commit_now(self) -> None:
        require(not self._open, "commit in the middle of an entry", self._point)
        self._finish_commit()
        self._commit_wanted = True
        self._commit_if_wanted()
        self._finish_commit()

    def view(self, then: Callable[[ReadView], None]) -> None:
        def open_view() -> None:
            tables = {bucket: table.copy() for bucket, table in self._tables.items()}
            for undo in (self._open, self._closed, self._sealed):
                revert(tables, undo)
            then(TablesView(tables) if self.rot.key is None else _DamagedView(tables, self.rot.key))

        self.commit(open_view)

    def open_view_seconds(self) -> list[float]:
        """Views are copies: they pin nothing."""
        return []

    def defragment(self, then: Then, *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        self.commit(then)

    def _on_timer(self) -> None:
        self._timer_is_set = False
        self._commit_wanted = True
        self._commit_if_wanted()

    def _commit_if_wanted(self) -> None:
        if self._sealed_waiting is not None or self._open or not self._commit_wanted:
            return
        self._commit_wanted = False
        waiting, self._waiting = self._waiting, []
        if self._point == self._durable and not self._closed:
            _run(waiting, self._schedule)
            return
        self._sealed, self._closed = self._closed, {}
        self._sealed_point, self._sealed_waiting = self._point, waiting
        self._commit_number += 1
        self._schedule(self._disk.latency(), partial(self._end_commit, self._commit_number))

    def _end_commit(self, number: int) -> None:
        if number != self._commit_number or self._sealed_waiting is None:
            return  # it was finished by `commit_now`
        try:
            self._disk.before_write()
            self._disk.before_sync()
        except StorageFailure as failure:
            self._on_failure(failure)
            return
        waiting = self._make_durable()
        _run(waiting, self._schedule)
        if self._commit_wanted:
            self._commit_if_wanted()

    def _finish_commit(self) -> None:
        """Wait for the commit in progress."""
        if self._sealed_waiting is not None:
            self._disk.before_sync()
            _run(self._make_durable(), self._schedule)

    def _make_durable(self) -> list[Then]:
        waiting, self._sealed_waiting = self._sealed_waiting or [], None
        self._sealed = {}
        self._durable = self._sealed_point
        # The keys are part of the commit alone: no later change of this content may show a point of its own.
        write_point(self._tables, self._durable)
        return waiting

    # --- snapshots

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> StagedTables:
        staged = StagedTables(items, index=index, term=term)
        self._disk.before_write()
        return staged

    def install(self, staged: Staged) -> tuple[int, int]:
        assert isinstance(staged, StagedTables)
        require(not staged.is_spent, "installs what was discarded", staged)
        self._finish_commit()
        self._disk.before_sync()  # a power cut before the rename
        staged.is_spent = True
        self._tables = staged.tables
        self.rot.key = None
        self._reader = TablesView(self._tables)
        self._open.clear()
        self._closed.clear()
        self._point = self._sealed_point = staged.point
        self._bytes = size_bytes(self._tables)
        _run(self._make_durable(), self._schedule)
        waiting, self._waiting = self._waiting, []
        _run(waiting, self._schedule)
        self._disk.before_sync()  # and after it
        return self._point

    def size(self) -> int:
        return self._bytes

    size_in_use = size

    def close(self) -> None:
        if not self._open:
            self.commit_now()


class _DamagedView(TablesView):
    """A view that shows a record with a wrong checksum."""

    def __init__(self, tables: Tables, rotten: bytes) -> None:
        super().__init__(tables)
        self._rotten = rotten

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(bucket, start, end):
            if bucket is Bucket.KEY and key == self._rotten:
                raise CorruptRecord(f"wrong checksum of record {key.hex()}", key)
            yield key, value


def _no_check(index: int) -> None: ...


def is_within_entry(backend: SimulatedBackend) -> bool:
    """Whether an entry has changed something and is not applied as a whole."""
    return bool(backend._open)


def _no_schedule(delay: int, then: Then) -> None:
    """Between incarnations nothing runs."""


def _no_failure(failure: StorageFailure) -> None:
    raise failure


def _run(waiting: Iterable[Then], schedule: Schedule) -> None:
    for then in waiting:
        schedule(0, then)
