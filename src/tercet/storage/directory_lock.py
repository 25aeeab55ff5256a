"""One process per data directory: a member would read another's writes to its log as damage.

A `flock` on the directory itself, not on a file in it that could be removed. The kernel releases it when the process ends,
however it ends. As in etcd, a second process waits without a bound, and logs that after 10 seconds.

The write-ahead log and the database are locked as well (wal.py, lmdb_file.py), for processes that reach the same files by
different data directories; those are refused at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from time import monotonic
from typing import Final

from tercet.storage.os_filesystem import storage_failure

SLOW_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1


class DirectoryLock:
    """Not held until acquired. The directory must exist. Raises StorageFailure if the file cannot be opened or locked."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = os.fspath(directory)
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """False if another process or another DirectoryLock holds it."""
        if self._fd is not None:
            return True
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise storage_failure("open", self.path, error) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError as error:
            os.close(fd)
            raise storage_failure("lock", self.path, error) from error
        self._fd = fd
        return True

    async def wait(self, *, on_slow: Callable[[], None], slow_seconds: float = SLOW_SECONDS) -> None:
        """Wait for it without a bound; may be cancelled. `on_slow` is called once, after `slow_seconds`."""
        slow_at = monotonic() + slow_seconds
        reported = False
        while not self.try_acquire():
            if not reported and monotonic() >= slow_at:
                reported = True
                on_slow()
            await asyncio.sleep(_POLL_SECONDS)

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
