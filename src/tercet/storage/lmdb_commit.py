"""When a commit of the backend begins, and its way from the buffer to the disk.

    begin    100 ms after the first change, after 10,000 operations, or on request; only between two entries
    flush    slices of 2,500 operations into LMDB's write transaction, one a turn of the loop (lmdb_writer.py): 0.3 us a key
    commit   in the writer thread, together with the index and term of the last entry applied
    end      the file has the changes: drop the sealed buffer, renew the read transaction, run the callbacks

A commit that finds a complete defragmented copy writes to it instead, and makes it the current file.

Invariant: a commit holds all that was put before the last `applied`, and nothing put after it.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from time import perf_counter
from typing import Final

from tercet.errors import require
from tercet.storage.buffered_file import BufferedFile
from tercet.storage.callbacks import Callback, Callbacks
from tercet.storage.lmdb_defragmentation import Defragmenter
from tercet.storage.lmdb_file import Changes, LmdbFile, generation_path, promote
from tercet.storage.lmdb_writer import LmdbWriter
from tercet.storage.write_buffer import Buffer, slices

SLICE_OPERATIONS: Final = 2500  # flushed in one turn of the loop: under a millisecond
SLICE_BYTES: Final = 4 << 20  # of values, about: the system needs up to a millisecond for each new MiB
DISCARD_OPERATIONS: Final = 10_000  # freed in one turn
DISCARD_BYTES: Final = 16 << 20

Point = tuple[int, int]
"""Index and term of the last entry applied."""

logger = logging.getLogger(__name__)


class _Commit:
    """One commit in progress."""

    __slots__ = ("file", "flushed", "point", "sizes", "slices", "started", "waiters")

    def __init__(self, file: LmdbFile, changes: Iterator[Sequence[Changes]], point: Point, waiters: list[Callback]) -> None:
        self.file = file
        self.slices = changes
        self.point = point
        self.waiters = waiters
        self.started = perf_counter()
        self.flushed = False  # the writer has all slices, and the order to commit
        self.sizes = (0, 0)


class CommitScheduler:
    """Commits what `content` buffers. All methods belong to one thread, the loop's.

    batch_seconds, batch_operations: a commit begins after so long, or after so many operations.
    on_commit: called after each commit, with its seconds.
    Without a loop no commit begins by itself, and `commit` blocks.
    """

    def __init__(
        self,
        content: BufferedFile,
        generation: int,
        directory: str,
        *,
        loop: AbstractEventLoop | None,
        callbacks: Callbacks,
        defragmenter: Defragmenter,
        batch_seconds: float,
        batch_operations: int,
        on_commit: Callable[[float], None],
    ) -> None:
        self._content = content
        self._generation = generation
        self._directory = directory
        self._loop = loop
        self._callbacks = callbacks
        self._defragmenter = defragmenter
        self._batch_seconds = batch_seconds
        self._batch_operations = batch_operations
        self._on_commit = on_commit
        self._writer = LmdbWriter(loop)
        # Of all operations put so far: those before the last `applied`, and those in a commit, begun or ended.
        self._closed_operations = 0
        self._sealed_operations = 0
        self._point = self._sealed_point = self.durable = content.file.point()
        self.sizes = content.file.sizes()
        self._waiters: list[Callback] = []
        self._wanted = False
        self._commit: _Commit | None = None
        self._timer: TimerHandle | None = None

    @property
    def is_between_entries(self) -> bool:
        """Whether all that was put is part of an entry that `applied` has closed."""
        return self._content.operations == self._closed_operations

    @property
    def _has_closed_changes(self) -> bool:
        """Is there anything to commit? What a compaction removes belongs to no entry, and has no point of its own."""
        return self._point != self._sealed_point or self._closed_operations != self._sealed_operations

    def applied(self, index: int, term: int) -> None:
        if self._callbacks.failure is not None:
            raise self._callbacks.failure
        self._point = (index, term)
        self._closed_operations = operations = self._content.operations
        if self._commit is None:
            if self._wanted or operations - self._sealed_operations >= self._batch_operations:
                self._begin()
            elif self._timer is None and self._loop is not None:
                self._timer = self._loop.call_later(self._batch_seconds, self.request)

    def commit(self, then: Callback | None) -> None:
        self._callbacks.raise_failure()
        if then is not None:
            self._waiters.append(then)
        if self._loop is None and self.is_between_entries:
            self.commit_now()
        else:
            self.request()

    def commit_now(self) -> None:
        """Commit and wait. Raises StorageFailure."""
        require(self.is_between_entries, "commit in the middle of an entry", self._point)
        self.finish()
        self.request()
        self.finish()

    def request(self) -> None:
        """Begin a commit now, or else as soon as the one in progress or the current entry ends."""
        self._wanted = True
        self._begin_if_wanted()

    def finish(self) -> None:
        """Wait for the commit in progress and for those that begin at its end. Raises the failure of any of them."""
        while self._commit is not None and self._callbacks.failure is None:
            while self._flush_slice():
                pass
            self._writer.wait()
        self._callbacks.raise_failure()

    def replace(self, file: LmdbFile, point: Point) -> None:
        """Make `file` the current generation, instead of all that was put before. No commit may be in progress.

        Raises StorageFailure; it is not known then which of the two files a restart finds, so the backend fails.
        """
        self._callbacks.raise_failure()
        try:
            promote(file, self._next_path())
        except Exception as error:
            self._callbacks.fail(error)
            raise
        old = self._content.file
        self._content.replace(file)
        self._sealed_operations = self._closed_operations = self._content.operations
        self._point = self._sealed_point = self.durable = point
        self.sizes = file.sizes()
        self._retire(old)
        waiters, self._waiters = self._waiters, []
        self._callbacks.schedule(waiters)

    def close(self) -> None:
        """Commit what is closed, and stop the writer."""
        try:
            if self._callbacks.failure is None and self.is_between_entries:
                self.commit_now()
        finally:
            self._cancel_timer()
            self._writer.do(self._content.file.abort)
            self._writer.stop()

    # --- one commit, in the order of its steps

    def _begin_if_wanted(self) -> None:
        if self._wanted and self._commit is None and self.is_between_entries and self._callbacks.failure is None:
            self._begin()

    def _begin(self) -> None:
        self._cancel_timer()
        self._wanted = False
        waiters, self._waiters = self._waiters, []
        content, defragmentation = self._content, self._defragmenter.current
        copy = defragmentation.copy if defragmentation is not None else None
        if not self._has_closed_changes and copy is None:
            self._callbacks.schedule(waiters)  # nothing has changed
            return
        file, changes = content.file, content.seal()
        self._sealed_operations, self._sealed_point = content.operations, self._point
        buffers = changes
        if defragmentation is not None:
            defragmentation.journal += changes
            if copy is not None:
                file, buffers = copy, defragmentation.journal
        in_slices = chain.from_iterable(map(partial(slices, operations=SLICE_OPERATIONS, size_bytes=SLICE_BYTES), buffers))
        self._commit = _Commit(file, in_slices, self._point, waiters)
        if self._loop is None:
            self.finish()
        else:
            self._flush()

    def _flush(self) -> None:
        """One slice a turn of the loop."""
        if self._flush_slice():
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    def _flush_slice(self) -> bool:
        """Hand the next slice to the writer, and after the last one the order to commit. Returns whether slices are left."""
        commit = self._commit
        if commit is None or commit.flushed or self._callbacks.failure is not None:
            return False
        changes = next(commit.slices, None)
        if changes is None:
            commit.flushed = True
            self._writer.start(partial(self._commit_in_thread, commit), partial(self._committed, commit))
            return False
        try:
            self._writer.do(partial(commit.file.write, changes))
        except Exception as error:
            self._callbacks.fail(error)
            return False
        return True

    def _commit_in_thread(self, commit: _Commit) -> None:
        commit.file.commit(*commit.point)
        commit.sizes = commit.file.sizes()
        if commit.file is not self._content.file:
            promote(commit.file, self._next_path())

    def _committed(self, commit: _Commit, error: Exception | None) -> None:
        if error is not None:
            self._callbacks.fail(error)
        else:
            self._callbacks.call(partial(self._end, commit))

    def _end(self, commit: _Commit) -> None:
        self._commit = None
        self.durable, self.sizes = commit.point, commit.sizes
        old = self._content.file
        self._on_commit(perf_counter() - commit.started)
        defragmentation = self._defragmenter.current
        buffers = list(self._content.sealed) if defragmentation is None else []  # else its journal holds them
        self._content.committed(commit.file)
        self._callbacks.schedule(commit.waiters)
        if commit.file is not old:
            self._retire(old)
            buffers = defragmentation.journal if defragmentation is not None else []
            self._callbacks.schedule(self._defragmenter.finish())
        self._discard(buffers)
        if self._content.operations - self._sealed_operations >= self._batch_operations:
            self._wanted = True
        if self._wanted:
            self._begin_if_wanted()
        elif self._has_closed_changes and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._batch_seconds, self.request)

    # --- helpers

    def _discard(self, buffers: list[Buffer]) -> None:
        """Free large buffers in slices: a million values at once take 0.1 s of a turn, and so do 300 MiB of them."""
        if self._loop is None:
            return
        left, left_bytes = DISCARD_OPERATIONS, DISCARD_BYTES
        while buffers:
            for changes in buffers[-1].values():
                while changes:
                    value = changes.popitem()[1]
                    left -= 1
                    left_bytes -= 0 if value is None else len(value)
                    if left <= 0 or left_bytes <= 0:
                        self._loop.call_soon(self._discard, buffers)
                        return
            buffers.pop()

    def _next_path(self) -> str:
        return generation_path(self._directory, self._generation + 1)

    def _retire(self, old: LmdbFile) -> None:
        """A new generation is current. Remove the old one in the thread: unlinking and unmapping a large file takes time."""
        self._generation += 1
        self._writer.start(old.retire, _log_failure)
        if self._loop is None:
            self._writer.wait()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _log_failure(error: Exception | None) -> None:
    """A file that could not be removed now is removed at the next start."""
    if error is not None:
        logger.warning("database: %s", error)
