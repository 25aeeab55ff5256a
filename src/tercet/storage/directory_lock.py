"""One process per data directory: a member would read another's writes to its log as damage.

A `flock` on the file `lock` in the directory. The kernel releases it when the process ends, however it ends. As in etcd, a
second process waits without a bound, and logs that after 10 seconds: `acquire` blocks, `wait` lets the event loop run.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from time import monotonic, sleep
from typing import Final

from tercet.storage.os_filesystem import FILE_MODE, storage_failure

SLOW_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.1


class DirectoryLock:
    """Not held until acquired. The directory must exist. Raises StorageFailure if the file cannot be opened or locked."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = os.path.join(directory, "lock")
        self._fd: int | None = None

    @property
    def is_held(self) -> bool:
        return self._fd is not None

    def try_acquire(self) -> bool:
        """False if another process or another DirectoryLock holds it."""
        if self._fd is not None:
            return True
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
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

    def acquire(self, *, on_slow: Callable[[], None], slow_seconds: float = SLOW_SECONDS) -> None:
        """Wait for it without a bound. `on_slow` is called once, after `slow_seconds`."""
        poll = _Poll(self, on_slow, slow_seconds)
        while not poll.succeeds():
            sleep(_POLL_SECONDS)

    async def wait(self, *, on_slow: Callable[[], None], slow_seconds: float = SLOW_SECONDS) -> None:
        """As `acquire`, without blocking the loop; may be cancelled."""
        poll = _Poll(self, on_slow, slow_seconds)
        while not poll.succeeds():
            await asyncio.sleep(_POLL_SECONDS)

    def release(self) -> None:
        """The file stays: after a removal and a new creation two processes could each lock their own `lock`."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Poll:
    """One wait: repeated attempts, and one call of `on_slow`."""

    def __init__(self, lock: DirectoryLock, on_slow: Callable[[], None], slow_seconds: float) -> None:
        self._lock = lock
        self._on_slow: Callable[[], None] | None = on_slow
        self._slow_at = monotonic() + slow_seconds

    def succeeds(self) -> bool:
        if self._lock.try_acquire():
            return True
        if self._on_slow is not None and monotonic() >= self._slow_at:
            on_slow, self._on_slow = self._on_slow, None
            on_slow()
        return False
