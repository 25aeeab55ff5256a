"""One defragmentation on its way: a compact copy, made in the background, and a journal of what is put meanwhile.

    begin     the journal holds what is being committed; from now on each commit's changes go into it too
    copy      LMDB copies a point in time, in a thread; commits go on
    go over   the next commit writes the journal to the copy, not its own changes to the old file, and renames the copy

The journal may hold changes that the copy has already: put again they change nothing, since a later change of a key replaces
the earlier one. A crash before the rename leaves the old file, which got every commit until then; one after it leaves the new
file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Thread

import lmdb

from tercet.errors import StorageFailure
from tercet.storage.lmdb_file import LmdbFile, lmdb_failure
from tercet.storage.os_filesystem import storage_failure
from tercet.storage.write_buffer import Buffer, new_buffer

Then = Callable[[], None]
Failed = Callable[[StorageFailure], None]

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Defragmentation:
    """`copy` is set when the long part is over."""

    source: LmdbFile
    path: str
    waiters: list[tuple[Then, Failed | None]]
    journal: Buffer = field(default_factory=new_buffer)
    copy: LmdbFile | None = None
    thread: Thread | None = None

    def make_copy(self) -> StorageFailure | None:
        """The long part, without Python's global lock."""
        try:
            self.source.env.copy(self.path, compact=True)
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except lmdb.Error as error:
            return lmdb_failure(self.path, error)
        except OSError as error:
            return storage_failure("fsync", self.path, error)
        return None

    def thens(self) -> list[Then]:
        return [then for then, _ in self.waiters]

    def tell_failure(self, failure: StorageFailure) -> None:
        for then, failed in self.waiters:
            if failed is not None:
                failed(failure)
            else:
                logger.warning("defragmentation: %s", failure)
                then()
