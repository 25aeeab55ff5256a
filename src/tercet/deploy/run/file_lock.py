"""One change of a cluster at a time: whoever comes second is told so at once.

The lock is on the cluster file itself, so that nothing is left behind: it ends with the process, however that ends. Reading
(plan, status, health, logs) needs no lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from tercet.errors import ConfigError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this cluster file. Raises ConfigError if another process holds it, or there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{path}: this cluster is being changed by another tercet deploy: wait until it has ended"
            ) from error
        yield
    finally:
        os.close(descriptor)
