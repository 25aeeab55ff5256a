"""Defragmentation: a compact copy, made in the background, and a journal of the changes committed meanwhile.

    begin      the journal holds the commit in progress; from now on each commit's changes go into it too
    copy       LMDB copies a point in time, in a thread of its own; commits go on
    hand over  the next commit writes the journal to the copy, instead of its own changes to the old file, and renames the copy

The journal is a list of the buffers that were committed, in order: merging a large one takes long. It may hold changes that the
copy already has. Putting them again is harmless: a later change of a key replaces the earlier one. A crash before the rename
leaves the old file, which has every commit so far; a crash after it leaves the new file.
"""

from __future__ import annotations

import logging
import os
from asyncio import AbstractEventLoop
from collections.abc import Callable
from threading import Thread

import lmdb

from tercet.disk_sync import sync_file
from tercet.errors import StorageFailure
from tercet.storage.callbacks import Callback, Callbacks
from tercet.storage.lmdb_file import LmdbFile, discard_unfinished, lmdb_failure
from tercet.storage.os_filesystem import storage_failure
from tercet.storage.write_buffer import Buffer

Failed = Callable[[StorageFailure], None]

logger = logging.getLogger(__name__)


class Defragmentation:
    """One in progress. `copy` is set once the copy is complete."""

    def __init__(self, source: LmdbFile, path: str) -> None:
        self.source = source
        self.path = path
        self.waiters: list[tuple[Callback, Failed | None]] = []
        self.journal: list[Buffer] = []
        self.copy: LmdbFile | None = None
        self.thread: Thread | None = None

    def make_copy(self) -> StorageFailure | None:
        """Takes long; releases the interpreter's lock."""
        try:
            self.source.env.copy(self.path, compact=True)
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sync_file(fd)
            finally:
                os.close(fd)
        except lmdb.Error as error:
            return lmdb_failure(self.path, error)
        except OSError as error:
            return storage_failure("fsync", self.path, error)
        return None

    def callbacks(self) -> list[Callback]:
        return [then for then, _ in self.waiters]

    def report(self, failure: StorageFailure) -> None:
        for then, failed in self.waiters:
            if failed is not None:
                failed(failure)
            else:
                logger.warning("defragmentation failed: %s", failure)
                then()


class Defragmenter:
    """Starts defragmentations, one at a time. All methods belong to one thread, the loop's.

    request_commit: called when a copy is complete, for the commit that switches to it.
    """

    def __init__(
        self,
        directory: str,
        *,
        map_bytes: int,
        loop: AbstractEventLoop | None,
        callbacks: Callbacks,
        request_commit: Callback,
    ) -> None:
        self.current: Defragmentation | None = None
        self._directory = directory
        self._map_bytes = map_bytes
        self._loop = loop
        self._callbacks = callbacks
        self._request_commit = request_commit
        self._count = 0
        self._copying: set[Defragmentation] = set()  # abandoned ones too, until their thread ends

    def start(self, file: LmdbFile, in_progress: list[Buffer], then: Callback, failed: Failed | None) -> None:
        """Defragment `file`. If that is in progress already, both requests end together.

        in_progress: changes being committed; the copy may or may not contain them.
        """
        if self.current is not None:
            self.current.waiters.append((then, failed))
            return
        self._count += 1
        defragmentation = Defragmentation(file, os.path.join(self._directory, f"defragmented-{self._count}.tmp"))
        defragmentation.waiters.append((then, failed))
        defragmentation.journal += in_progress
        file.views.add(defragmentation)  # keeps the file open while it is copied
        self.current = defragmentation
        self._copying.add(defragmentation)
        if self._loop is None:
            self._copied(defragmentation, defragmentation.make_copy())
        else:
            defragmentation.thread = Thread(target=self._copy_in_thread, args=(defragmentation,), name="tercet-defragment")
            defragmentation.thread.start()

    def finish(self) -> list[Callback]:
        """The copy is the current file. Returns the callbacks to run."""
        defragmentation, self.current = self.current, None
        return defragmentation.callbacks() if defragmentation is not None else []

    def abandon(self) -> None:
        """Another file has become current, and its requests are done with that; or the backend closes."""
        defragmentation = self.current
        if defragmentation is None:
            return
        self.current = None
        if defragmentation.copy is not None:
            defragmentation.copy.close()
            discard_unfinished(defragmentation.path)
        self._callbacks.schedule(defragmentation.callbacks())

    def close(self) -> None:
        """Abandon, and wait for the threads."""
        self.abandon()
        for defragmentation in list(self._copying):
            if defragmentation.thread is not None:
                defragmentation.thread.join()
            self._copied(defragmentation, None)

    def _copy_in_thread(self, defragmentation: Defragmentation) -> None:
        failure = defragmentation.make_copy()
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._copied, defragmentation, failure)

    def _copied(self, defragmentation: Defragmentation, failure: StorageFailure | None) -> None:
        if defragmentation not in self._copying:
            return  # the backend has been closed
        self._copying.discard(defragmentation)
        defragmentation.source.views.discard(defragmentation)
        defragmentation.source.close_if_unused()
        if self.current is not defragmentation:
            discard_unfinished(defragmentation.path)  # it was abandoned
            return
        if failure is None:
            try:
                defragmentation.copy = LmdbFile(defragmentation.path, map_bytes=self._map_bytes)
            except StorageFailure as error:
                failure = error
        if failure is not None:
            self.current = None
            discard_unfinished(defragmentation.path)
            defragmentation.report(failure)
            return
        self._request_commit()
