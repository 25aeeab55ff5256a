"""The member's data: buckets in an LMDB file, a buffer before it, one thread that writes.

    put, delete    ->  active buffer                 a dictionary: 0.2 us
    commit begins  ->  sealed buffer, a new active   after 100 ms or 10,000 operations, or when asked
      flush        ->  LMDB's write transaction      slices, the loop waiting (see lmdb_writer.py): 0.3 us a key
      commit       ->  the disk                      in the thread, with the index of the last entry applied
    commit ends    ->  sealed is dropped, the read transaction renewed

Reads look into active, sealed and the file, in this order. The write-ahead log makes commits lazy: what a crash takes from the
buffers is applied again from the log, and exactly once, since a commit holds whole entries and the index up to which they go.

Defragmentation and the reception of a snapshot build a new file beside this one and end in one step, a rename (the directory:
lmdb_file.py). A defragmentation copies while commits go on; the commit that ends it writes what they put meanwhile to the copy,
and goes over to that (lmdb_defragmentation.py).

What this file must never do: commit what was put after the last `applied`, or commit less than what was put before it.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from threading import Thread
from time import perf_counter
from typing import Any, Final

import lmdb

from tercet.errors import StorageFailure, require
from tercet.storage.interfaces import Bucket, ReadView, Staged
from tercet.storage.lmdb_commit import Commit, log_failure
from tercet.storage.lmdb_defragmentation import Defragmentation
from tercet.storage.lmdb_file import (
    MAP_BYTES,
    LmdbFile,
    chunks,
    discard_unfinished,
    generation_path,
    lmdb_failure,
    open_newest,
    promote,
    unpacked,
)
from tercet.storage.lmdb_rebuild import StagedFile, stage
from tercet.storage.lmdb_views import VIEW_SECONDS_MAX, LmdbViews
from tercet.storage.lmdb_writer import LmdbWriter
from tercet.storage.long_keys import KEY_BYTES_MAX, pack_key, successor, unpack, with_change
from tercet.storage.write_buffer import changes_between, merge_into, new_buffer, overlay, slices

SLICE_OPERATIONS: Final = 2500  # flushed in one turn of the loop: under a millisecond

_NOTHING: Final = new_buffer()  # stands for a sealed buffer where there is none; never written to


class LmdbBackend:
    """See `interfaces.Backend`. All methods belong to one thread, the loop's.

    path: a directory of its own, made if it is missing.
    loop: where callbacks run and timers live. Without one nothing happens by itself: commits wait for `commit` and block.
    batch_seconds, batch_operations: a commit is begun after so long, or so many operations.
    on_failure: called once, with what the disk refused; from then on `applied` and commits raise it too.
    observe_commit: called with the seconds of each commit.
    """

    def __init__(
        self,
        path: str,
        *,
        loop: AbstractEventLoop | None = None,
        batch_seconds: float = 0.1,
        batch_operations: int = 10_000,
        map_bytes: int = MAP_BYTES,
        view_seconds_max: float = VIEW_SECONDS_MAX,
        on_failure: Callable[[Exception], None] | None = None,
        observe_commit: Callable[[float], None] | None = None,
    ) -> None:
        self.on_failure = on_failure
        self.observe_commit = observe_commit
        self._path = path
        self._loop = loop
        self._batch_seconds = batch_seconds
        self._batch_operations = batch_operations
        self._map_bytes = map_bytes
        self._file, self._generation = open_newest(path, map_bytes=map_bytes)
        self._writer = LmdbWriter(loop)
        self._views = LmdbViews(seconds_max=view_seconds_max, loop=loop, call=self._call)
        self._read: Any = None
        self._renew_reading()
        self._active = new_buffer()
        self._sealed = _NOTHING
        self._operations = 0  # put and deleted in this life; tells what is new
        self._closed_operations = 0  # of these, before the last `applied`
        self._sealed_operations = 0  # of these, already on their way or there
        self._point = self._durable = self._sealed_point = self._file.point()
        self._sizes = self._file.sizes()
        self._waiting: list[Callable[[], None]] = []
        self._commit_wanted = False
        self._commit: Commit | None = None
        self._timer: TimerHandle | None = None
        self._defragmentation: Defragmentation | None = None
        self._defragmentations = 0
        self._staged_numbers = count(1)
        self._copying: set[Defragmentation] = set()  # also those that were abandoned
        self._failure: Exception | None = None
        self._closed = False

    # --- writing

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        if len(key) > KEY_BYTES_MAX:
            self._change_long(bucket, key, value)
            return
        self._active[bucket][key] = value
        self._operations += 1

    def delete(self, bucket: Bucket, key: bytes) -> None:
        if len(key) > KEY_BYTES_MAX:
            self._change_long(bucket, key, None)
            return
        self._active[bucket][key] = None
        self._operations += 1

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are in the buffer. Raises what made an earlier commit fail."""
        if self._failure is not None:
            raise self._failure
        self._point = (index, term)
        self._closed_operations = operations = self._operations
        if self._commit is None:
            if self._commit_wanted or operations - self._sealed_operations >= self._batch_operations:
                self._begin_commit()
            elif self._timer is None and self._loop is not None:
                self._timer = self._loop.call_later(self._batch_seconds, self._on_timer)

    # --- reading

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        if len(key) <= KEY_BYTES_MAX:
            return self._get_stored(bucket, key)
        stored = pack_key(key)
        pack = self._get_stored(bucket, stored)
        return None if pack is None else unpack(stored, pack).get(key)

    def get_many(self, bucket: Bucket, keys: Sequence[bytes]) -> list[bytes | None]:
        get = self.get
        return [get(bucket, key) for key in keys]

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """start <= key < end, ascending. What is written while a scan goes on is seen if it lies ahead."""
        return unpacked(self._scan_stored(bucket, start, end), start, end)

    # --- commits

    @property
    def path(self) -> str:
        return self._path

    @property
    def applied_index(self) -> int:
        return self._durable[0]

    @property
    def applied_term(self) -> int:
        return self._durable[1]

    def commit(self, then: Callable[[], None] | None = None) -> None:
        """Begin to make durable all that `applied` has closed. In the middle of an entry it begins at its end."""
        if self._failure is not None:
            raise self._failure
        if then is not None:
            self._waiting.append(then)
        self._commit_wanted = True
        if self._loop is None and self._operations == self._closed_operations:
            self.commit_now()
        else:
            self._commit_if_wanted()

    def commit_now(self) -> None:
        """Commit what `applied` has closed, and wait. Raises StorageFailure. Between entries only."""
        require(self._operations == self._closed_operations, "commit in the middle of an entry", self._point)
        self._finish_commit()
        self._commit_wanted = True
        self._commit_if_wanted()
        self._finish_commit()
        if self._failure is not None:
            raise self._failure

    def view(self, then: Callable[[ReadView], None]) -> None:
        """A point in time that holds all that has been applied so far. Views cost while they are open: see lmdb_view.py."""
        self.commit(partial(self._views.hand_over, lambda: self._file, then))

    def open_view_seconds(self) -> list[float]:
        return self._views.seconds()

    def size(self) -> int:
        """Bytes of the file after the last commit."""
        return self._sizes[0]

    def size_in_use(self) -> int:
        return self._sizes[1]

    def close(self) -> None:
        """Commit what is closed, then let go of everything. Open views end."""
        if self._closed:
            return
        self._closed = True
        if self._defragmentation is not None:
            self._abandon(self._defragmentation)
        for defragmentation in list(self._copying):
            if defragmentation.thread is not None:
                defragmentation.thread.join()
            self._copied(defragmentation, None)
        try:
            if self._failure is None and self._operations == self._closed_operations:
                self.commit_now()
        finally:
            self._cancel_timer()
            self._writer.do(self._file.abort)
            self._writer.stop()
            self._views.close()
            self._read.abort()
            self._file.close()

    # --- maintenance

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        """See `interfaces.Backend`. Asked for again while one is on its way, both end together."""
        if self._failure is not None:
            raise self._failure
        if self._defragmentation is not None:
            self._defragmentation.waiters.append((then, failed))
            return
        self._defragmentations += 1
        path = os.path.join(self._path, f"defragmented-{self._defragmentations}.tmp")
        defragmentation = Defragmentation(self._file, path, [(then, failed)])
        merge_into(defragmentation.journal, self._sealed)  # being committed: the copy may begin before or after that
        self._file.views.add(defragmentation)  # the file stays open while it is copied
        self._defragmentation = defragmentation
        self._copying.add(defragmentation)
        if self._loop is None:
            self._copied(defragmentation, defragmentation.make_copy())
        else:
            defragmentation.thread = Thread(target=self._copy_in_thread, args=(defragmentation,), name="tercet-defragment")
            defragmentation.thread.start()

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> StagedFile:
        """See `interfaces.Backend`."""
        path = os.path.join(self._path, f"received-{next(self._staged_numbers)}.tmp")
        return stage(path, items, (index, term), map_bytes=self._map_bytes)

    def install(self, staged: Staged) -> tuple[int, int]:
        """See `interfaces.Backend`. A defragmentation on its way ends with this, which does its work too."""
        if self._failure is not None:
            raise self._failure
        require(isinstance(staged, StagedFile) and not staged.is_spent, "adopts what was not staged here", staged)
        assert isinstance(staged, StagedFile)
        self._finish_commit()
        file, staged.is_spent = staged.file, True
        try:
            promote(file, self._next_path())
        except StorageFailure as failure:  # which of the two a crash would leave is not known
            self._fail(failure)
            raise
        if self._defragmentation is not None:
            self._abandon(self._defragmentation)
        self._active = new_buffer()
        self._sealed_operations = self._closed_operations = self._operations
        self._point = self._sealed_point = self._durable = staged.point
        self._sizes = file.sizes()
        self._go_over_to(file)
        waiters, self._waiting = self._waiting, []
        self._run(waiters)
        return staged.point

    # --- helpers of writing and reading

    def _change_long(self, bucket: Bucket, key: bytes, value: bytes | None) -> None:
        """One key of a pack: read, change and put the pack (see long_keys.py)."""
        stored = pack_key(key)
        self._active[bucket][stored] = with_change(stored, self._get_stored(bucket, stored), key, value)
        self._operations += 1

    def _get_stored(self, bucket: Bucket, key: bytes) -> bytes | None:
        changes = self._active[bucket]
        if key in changes:
            return changes[key]
        if self._sealed is not _NOTHING:
            changes = self._sealed[bucket]
            if key in changes:
                return changes[key]
        try:
            value: bytes | None = self._get_from_file(key, None, self._tables[bucket])
        except lmdb.Error as error:
            raise lmdb_failure(self._file.path, error) from error
        return value

    def _scan_stored(self, bucket: Bucket, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Records as they are stored, buffers laid over the file. After a change it begins anew behind the last record."""
        at = start if len(start) <= KEY_BYTES_MAX else pack_key(start)
        while True:
            read, operations = self._read, self._operations
            changes = changes_between((self._sealed, self._active), bucket, at, end)
            records = chain.from_iterable(chunks(read, self._tables[bucket], at))
            try:
                for record in overlay(records, changes):
                    yield record
                    if self._read is not read or self._operations != operations:
                        at = successor(record[0])
                        break
                else:
                    return
            except lmdb.Error as error:
                raise lmdb_failure(self._file.path, error) from error

    def _renew_reading(self) -> None:
        if self._read is not None:
            self._read.abort()
        self._read = self._file.begin()
        self._tables = self._file.tables
        self._get_from_file = self._read.get

    # --- helpers of commits, in the order in which they are called

    def _on_timer(self) -> None:
        self._timer = None
        self._commit_wanted = True
        self._commit_if_wanted()

    def _commit_if_wanted(self) -> None:
        """Begin, unless one is on its way or an entry is half applied: then the end of that does."""
        if self._commit is None and self._commit_wanted and self._operations == self._closed_operations:
            self._begin_commit()

    def _begin_commit(self) -> None:
        self._cancel_timer()
        self._commit_wanted = False
        waiters, self._waiting = self._waiting, []
        copy = self._defragmentation.copy if self._defragmentation else None
        if self._point == self._sealed_point and self._operations == self._sealed_operations and copy is None:
            self._run(waiters)  # nothing is new
            return
        self._sealed, self._active = self._active, new_buffer()
        self._sealed_operations, self._sealed_point = self._operations, self._point
        file, changes = self._file, self._sealed
        if self._defragmentation is not None:
            merge_into(self._defragmentation.journal, self._sealed)
            if copy is not None:
                file, changes = copy, self._defragmentation.journal
        self._commit = Commit(file, slices(changes, SLICE_OPERATIONS), self._point, waiters, perf_counter())
        if self._loop is None:
            self._finish_commit()
        else:
            self._flush()

    def _flush(self) -> None:
        """One slice a turn of the loop."""
        if self._flush_slice():
            assert self._loop is not None
            self._loop.call_soon(self._flush)

    def _flush_slice(self) -> bool:
        """Have the writer put the next slice; behind the last one, have it commit. Returns whether there is more to flush."""
        commit = self._commit
        if commit is None or commit.flushed or self._failure is not None:
            return False
        changes = next(commit.slices, None)
        if changes is None:
            commit.flushed = True
            self._writer.start(partial(self._end_in_thread, commit), partial(self._committed, commit))
            return False
        try:
            self._writer.do(partial(commit.file.write, changes))
        except Exception as error:
            self._fail(error)
            return False
        return True

    def _end_in_thread(self, commit: Commit) -> None:
        commit.file.commit(*commit.point)
        commit.sizes = commit.file.sizes()
        if commit.file is not self._file:
            promote(commit.file, self._next_path())

    def _committed(self, commit: Commit, error: Exception | None) -> None:
        if error is not None:
            self._fail(error)
        else:
            self._call(partial(self._take_over, commit))

    def _take_over(self, commit: Commit) -> None:
        """What was on its way is in the file: read from there."""
        self._commit = None
        self._sealed = _NOTHING
        self._durable, self._sizes = commit.point, commit.sizes
        self._views.close_old()
        defragmentation = self._defragmentation
        if commit.file is self._file:
            self._renew_reading()
        else:
            self._defragmentation = None
            self._go_over_to(commit.file)
        if self.observe_commit is not None:
            self.observe_commit(perf_counter() - commit.started)
        self._run(commit.waiters)
        if self._defragmentation is None and defragmentation is not None:
            self._run(defragmentation.thens())
        if self._operations - self._sealed_operations >= self._batch_operations:
            self._commit_wanted = True
        if self._commit_wanted:
            self._commit_if_wanted()
        elif self._point != self._sealed_point and self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._batch_seconds, self._on_timer)

    def _finish_commit(self) -> None:
        """Wait for the commit that is on its way, if any, and for those that it lets begin."""
        while self._commit is not None and self._failure is None:
            while self._flush_slice():
                pass
            self._writer.wait()
        if self._failure is not None:
            raise self._failure

    def _go_over_to(self, file: LmdbFile) -> None:
        """Another generation is the truth now; the old one lives on while somebody reads from it."""
        old, self._file = self._file, file
        self._generation += 1
        self._renew_reading()
        self._writer.start(old.retire, log_failure)  # to remove and unmap a large file takes its time
        if self._loop is None:
            self._writer.wait()

    def _next_path(self) -> str:
        return generation_path(self._path, self._generation + 1)

    def _run(self, waiters: Iterable[Callable[[], None]]) -> None:
        for then in waiters:
            if self._loop is None:
                then()
            else:
                self._loop.call_soon(self._call, then)

    def _call(self, then: Callable[[], None]) -> None:
        """What goes wrong in it has nobody else to hear it, and the member must not go on without what should have followed."""
        try:
            then()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The end of this backend: what the disk refused once, it is not asked again."""
        if self._failure is None:
            self._failure = error
            self._cancel_timer()
            if self.on_failure is not None:
                self.on_failure(error)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- helpers of defragmentation

    def _copy_in_thread(self, defragmentation: Defragmentation) -> None:
        failure = defragmentation.make_copy()
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._copied, defragmentation, failure)

    def _copied(self, defragmentation: Defragmentation, failure: StorageFailure | None) -> None:
        if defragmentation not in self._copying:
            return  # the backend was closed meanwhile
        self._copying.discard(defragmentation)
        defragmentation.source.views.discard(defragmentation)
        defragmentation.source.close_if_unused()
        if self._defragmentation is not defragmentation:
            discard_unfinished(defragmentation.path)  # abandoned meanwhile
            return
        if failure is None:
            try:
                defragmentation.copy = LmdbFile(defragmentation.path, map_bytes=self._map_bytes)
            except StorageFailure as error:
                failure = error
        if failure is not None:
            self._defragmentation = None
            discard_unfinished(defragmentation.path)
            defragmentation.tell_failure(failure)
            return
        self._commit_wanted = True
        self._commit_if_wanted()

    def _abandon(self, defragmentation: Defragmentation) -> None:
        self._defragmentation = None
        if defragmentation.copy is not None:
            defragmentation.copy.close()
            discard_unfinished(defragmentation.path)
        self._run(defragmentation.thens())
