"""Local lock: one change of a cluster at a time on this machine.

The lock is a flock on the cluster file itself, so it leaves no file behind and ends with the process. Read-only commands (plan,
status, health, logs) take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tercet.errors import ConfigError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this cluster file. Raises ConfigError if another process holds it, or the file does not exist."""
    try:
        descriptor = _opened(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{path}: locked by another tercet deploy process; wait until it has finished") from error
        except OSError as error:
            raise ConfigError(f"{path}: cannot be locked: {error.strerror}") from error
        yield
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """For writing, where that is allowed: NFS refuses an exclusive lock of a file that is open for reading."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
