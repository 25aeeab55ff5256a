"""The member's data: buckets of sorted keys in an LMDB file, with a buffer in memory for what is not committed yet.

    buffered_file.py         put, delete, get, scan: the buffer on top of the file
    lmdb_commit.py           when a commit begins, and its steps
    lmdb_writer.py           the one thread that writes
    lmdb_scrub.py            reads everything once in a while, to find damage
    lmdb_views.py            points in time for readers in other threads
    lmdb_defragmentation.py  a compact copy replaces the file
    lmdb_rebuild.py          a received snapshot replaces the file
    lmdb_damaged.py          a damaged file, until it is replaced
    lmdb_file.py             one database file, and the directory of its generations

The write-ahead log lets commits be lazy. What a crash takes from the buffer is applied again from the log, and exactly once: a
commit holds whole entries, and the index of the last one.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count

from tercet.errors import CorruptRecord, StorageFailure, require
from tercet.storage.buffered_file import BufferedFile
from tercet.storage.callbacks import Callbacks
from tercet.storage.interfaces import Bucket, ReadView, Staged
from tercet.storage.lmdb_commit import CommitScheduler
from tercet.storage.lmdb_damaged import discard_damaged
from tercet.storage.lmdb_defragmentation import Defragmenter
from tercet.storage.lmdb_file import MAP_BYTES, LmdbFile, open_newest
from tercet.storage.lmdb_rebuild import StagedFile, stage
from tercet.storage.lmdb_scrub import SCRUB_SECONDS, Scrubber
from tercet.storage.lmdb_views import VIEW_SECONDS_MAX, LmdbViews


class LmdbBackend(BufferedFile):
    """See `interfaces.Backend`. All methods belong to one thread, the loop's.

    A subclass of BufferedFile, so that put and get, which a member calls most, need no further call.

    path: a directory of its own, created if it is missing.
    loop: where callbacks and timers run. Without one no commit begins by itself, and `commit` blocks.
    batch_seconds, batch_operations: a commit begins after so long, or after so many operations.
    on_failure: called once, with the first error; `applied` and commits raise it from then on.
    on_corruption: called once for each record with a wrong checksum that a read or the scrub meets; reads raise it as well.
    observe_commit: called with the seconds of each commit.
    scrub_seconds: between two chunks of the scrub.
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
        on_corruption: Callable[[CorruptRecord], None] | None = None,
        observe_commit: Callable[[float], None] | None = None,
        scrub_seconds: float = SCRUB_SECONDS,
    ) -> None:
        file, generation = open_newest(path, map_bytes=map_bytes)
        super().__init__(file, self._report_corruption)
        self._path = path
        self._loop = loop
        self._report = on_corruption
        self._reported: set[str] = set()
        self._map_bytes = map_bytes
        self._observe_commit = observe_commit
        self._staged_numbers = count(1)
        self._closed = False
        self._callbacks = Callbacks(loop, on_failure)
        self._views = LmdbViews(seconds_max=view_seconds_max, loop=loop, call=self._callbacks.call)
        self._defragmenter = Defragmenter(
            path, map_bytes=map_bytes, loop=loop, callbacks=self._callbacks, request_commit=self._request_commit
        )
        self._commits = CommitScheduler(
            self,
            generation,
            path,
            loop=loop,
            callbacks=self._callbacks,
            defragmenter=self._defragmenter,
            batch_seconds=batch_seconds,
            batch_operations=batch_operations,
            on_commit=self._on_commit,
        )
        self._scrubber = (
            Scrubber(self._views, self._current_file, loop, self._report_corruption, seconds=scrub_seconds)
            if loop is not None
            else None
        )

    @property
    def path(self) -> str:
        return self._path

    # --- commits

    @property
    def applied_index(self) -> int:
        return self._commits.durable[0]

    @property
    def applied_term(self) -> int:
        return self._commits.durable[1]

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are in the buffer. Raises the error that failed the backend."""
        self._commits.applied(index, term)

    def commit(self, then: Callable[[], None] | None = None) -> None:
        """Begin to make durable all that `applied` has closed; in the middle of an entry, at its end."""
        self._commits.commit(then)

    def commit_now(self) -> None:
        """Commit what `applied` has closed, and wait. Raises StorageFailure. Between entries only."""
        self._commits.commit_now()

    def size(self) -> int:
        """Bytes of the file after the last commit."""
        return self._commits.sizes[0]

    def size_in_use(self) -> int:
        return self._commits.sizes[1]

    # --- views

    def view(self, then: Callable[[ReadView], None]) -> None:
        """A point in time that holds all that has been applied so far. It pins pages while it is open: see lmdb_view.py."""
        self.commit(partial(self._views.open, self._current_file, then))

    def open_view_seconds(self) -> list[float]:
        return self._views.seconds()

    # --- maintenance

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        """See `interfaces.Backend`. A request during a defragmentation ends together with it."""
        self._callbacks.raise_failure()
        self._defragmenter.start(self.file, self.sealed, then, failed)

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> StagedFile:
        """See `interfaces.Backend`."""
        path = os.path.join(self._path, f"received-{next(self._staged_numbers)}.tmp")
        return stage(path, items, (index, term), map_bytes=self._map_bytes)

    def install(self, staged: Staged) -> tuple[int, int]:
        """See `interfaces.Backend`. Ends a defragmentation in progress: the new file is compact."""
        require(isinstance(staged, StagedFile) and not staged.is_spent, "installs what this backend did not stage", staged)
        assert isinstance(staged, StagedFile)
        self._commits.finish()
        staged.is_spent = True
        self._commits.replace(staged.file, staged.point)
        self._defragmenter.abandon()
        discard_damaged(self._path)
        return staged.point

    def close(self) -> None:
        """Commit what `applied` has closed, and release everything. Open views end."""
        if self._closed:
            return
        self._closed = True
        if self._scrubber is not None:
            self._scrubber.stop()
        try:
            self._commits.close()  # first: the commit in progress may be to a defragmented copy
        finally:
            self._callbacks.close()
            self._defragmenter.close()
            self._views.close()
            super().close()

    # --- callbacks of the parts

    def _current_file(self) -> LmdbFile:
        return self.file

    def _report_corruption(self, record: CorruptRecord) -> None:
        """Of a read in any thread."""
        if self._report is None or str(record) in self._reported:
            return
        self._reported.add(str(record))
        if self._loop is None:
            self._report(record)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._callbacks.call, partial(self._deliver, record))

    def _deliver(self, record: CorruptRecord) -> None:
        if self._report is not None and not self._closed:  # a database that does not load is closed at once
            self._report(record)

    def _request_commit(self) -> None:
        self._commits.request()

    def _on_commit(self, seconds: float) -> None:
        self._views.close_old()
        if self._observe_commit is not None:
            self._observe_commit(seconds)
