"""Where a member keeps its log and its database: on disk, or in memory for embedded members (memory_storage.py).

Databases received from peers are files in either case, below `paths.snapshots`.
"""

from __future__ import annotations

import logging
import os
import stat
from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple, Protocol

from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError, CorruptRecord
from tercet.log_fields import fields
from tercet.replica.damaged_database import DatabaseFile
from tercet.server.bootstrap import UNFINISHED
from tercet.storage import Backend, DirectoryLock, FileSystem, LmdbBackend, LogStore, OsFileSystem
from tercet.storage.lmdb_damaged import discard_damaged, set_aside
from tercet.storage.log_store import ThreadedLogStore
from tercet.storage.os_filesystem import make_directories, reason
from tercet.storage.wal import SEGMENT_BYTES, WAL

logger = logging.getLogger(__name__)

Seconds = Callable[[float], None]
"""Observes how long something took."""


class Paths(NamedTuple):
    """Directories of a member."""

    data: Path
    wal: Path
    snapshots: Path

    @classmethod
    def of(cls, config: ServerConfig) -> Paths:
        data = Path(config.data_dir)
        wal = Path(config.wal_dir) if config.wal_dir else data / "member" / "wal"
        return cls(data, wal, data / "member" / "snap")

    @property
    def database(self) -> Path:
        return self.snapshots / "db"

    def create(self) -> None:
        """Create the directories with mode 0700. Raises ConfigError."""
        unfinished = self.data / UNFINISHED
        # os.path: False for a directory that may not be read, which is refused below; Path.exists raises.
        if os.path.exists(unfinished) and not os.path.exists(self.snapshots):
            raise ConfigError(
                f"{unfinished} is left by an interrupted restore: restore again, or delete it to start without data"
            )
        for directory in (self.data, self.wal.parent, self.snapshots):
            try:
                make_directories(os.path.abspath(directory))
            except OSError as error:
                raise ConfigError(f"cannot create directory {directory}: {reason(error)}") from error
            if not os.access(directory, os.W_OK | os.X_OK):
                raise ConfigError(f"cannot access data directory {directory}: permission denied")
        for directory in (self.data, self.data / "member", self.snapshots):
            _warn_if_others_may_enter(str(directory))


def _warn_if_others_may_enter(directory: str) -> None:
    mode = os.stat(directory).st_mode
    if mode & 0o777 != 0o700:
        error = (
            f'directory "{directory}" exist, but the permission is "{stat.filemode(mode)}". '
            'The recommended permission is "-rwx------" to prevent possible unprivileged access to the data'
        )
        logger.warning("check file permission", extra=fields(error=error))


class MemberStorage(DatabaseFile, Protocol):
    """What `open_member` and MemberServer need of a place to store."""

    @property
    def paths(self) -> Paths: ...
    @property
    def files(self) -> FileSystem:
        """Of the write-ahead log in `paths.wal`."""
        ...

    @property
    def segment_bytes(self) -> int:
        """Of a segment of the log."""
        ...

    async def begin(self, closing: AsyncExitStack) -> None:
        """Create and lock what is used from here on; `closing` releases it. Raises ConfigError or StorageFailure."""
        ...

    def open_backend(
        self,
        loop: AbstractEventLoop,
        *,
        on_failure: Callable[[Exception], None],
        on_corruption: Callable[[CorruptRecord], None],
        observe_commit: Seconds,
    ) -> Backend:
        """Raises StorageFailure."""
        ...

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
        """The log store over `wal`; `closing` closes it."""
        ...


class DiskStorage:
    """--data-dir, --wal-dir and --unsafe-no-fsync."""

    def __init__(self, config: ServerConfig) -> None:
        self.paths = Paths.of(config)
        self.files: FileSystem = OsFileSystem(sync=not config.unsafe_no_fsync)
        self.segment_bytes = SEGMENT_BYTES
        self._batch_seconds = config.backend_batch_interval_seconds
        self._batch_operations = config.backend_batch_limit

    async def begin(self, closing: AsyncExitStack) -> None:
        self.paths.create()
        lock = DirectoryLock(self.paths.data)
        closing.callback(lock.release)
        taken = fields(path=lock.path)
        await lock.wait(on_slow=lambda: logger.info("db file is flocked by another process, or taking too long", extra=taken))

    @property
    def database_path(self) -> str:
        return str(self.paths.database)

    def has_database(self) -> bool:
        return self.paths.database.exists()

    def set_aside_database(self) -> None:
        set_aside(self.database_path)

    def discard_damaged(self) -> None:
        discard_damaged(self.database_path)

    def open_backend(
        self,
        loop: AbstractEventLoop,
        *,
        on_failure: Callable[[Exception], None],
        on_corruption: Callable[[CorruptRecord], None],
        observe_commit: Seconds,
    ) -> Backend:
        return LmdbBackend(
            str(self.paths.database),
            loop=loop,
            batch_seconds=self._batch_seconds,
            batch_operations=self._batch_operations,
            on_failure=on_failure,
            on_corruption=on_corruption,
            observe_commit=observe_commit,
        )

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
        log_store = ThreadedLogStore(
            wal, loop, on_failure=on_failure, observe_sync=observe_sync, observe_snapshot=observe_snapshot
        )
        closing.callback(log_store.close)
        return log_store
