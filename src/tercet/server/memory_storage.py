"""The storage of an embedded member in memory.

A `MemoryStorage` is what a disk is to a member: it outlives the MemberServer, and a member that was stopped or killed starts
again from what it had stored.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tercet.errors import CorruptRecord
from tercet.server.member_storage import Paths, Seconds
from tercet.storage import Backend, LogStore
from tercet.storage.loop_log_store import LoopLogStore
from tercet.storage.memory_backend import MemoryBackend
from tercet.storage.memory_filesystem import MemoryFileSystem
from tercet.storage.wal import WAL

_SEGMENT_BYTES: Final = 1 << 20


class MemoryStorage:
    """Nothing is stored on disk, except a database while it is received from a peer.

    sync_seconds: how long each sync of the log takes, to simulate a slow disk.
    """

    def __init__(self) -> None:
        self.files: MemoryFileSystem = MemoryFileSystem()
        self.segment_bytes = _SEGMENT_BYTES
        self.sync_seconds = 0.0
        self._backend: MemoryBackend | None = None
        scratch = Path(tempfile.gettempdir()) / f"tercet-{os.getpid()}-{id(self):x}"
        self.paths = Paths(scratch, Path("/wal"), scratch)
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)  # of a member that ended without a stop

    async def begin(self, closing: AsyncExitStack) -> None:
        """The directory is made by who first writes there: most members never need it, and one that is killed leaves it."""
        closing.callback(shutil.rmtree, self.paths.data, ignore_errors=True)

    @property
    def database_path(self) -> str:
        return "in memory"

    def has_database(self) -> bool:
        return self._backend is not None

    def set_aside_database(self) -> None:
        self._backend = None

    def discard_damaged(self) -> None:
        """Nothing is kept."""

    def open_backend(
        self,
        loop: AbstractEventLoop,
        *,
        on_failure: Callable[[Exception], None],
        on_corruption: Callable[[CorruptRecord], None],
        observe_commit: Seconds,
    ) -> Backend:
        if self._backend is None:
            self._backend = MemoryBackend()
        return self._backend

    def open_log(
        self,
        wal: WAL,
        loop: AbstractEventLoop,
        closing: AsyncExitStack,
        *,
        on_failure: Callable[[Exception], None],
        observe_sync: Seconds,
        observe_snapshot: Seconds,
    ) -> LogStore:
        log_store = LoopLogStore(wal, loop, on_failure=on_failure, sync_seconds=lambda: self.sync_seconds)
        closing.callback(log_store.close)
        return log_store

    def crash(self) -> None:
        """The member was killed: lose what a disk would lose, which is what was not synced."""
        self.files.lose_unsynced()
        if self._backend is not None:
            self._backend.crash()
