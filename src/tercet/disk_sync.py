"""Bring what was written to a file onto its disk, by the call of the system that also reaches the disk itself."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# macOS: its fsync leaves data in the cache of the drive, and it has no fdatasync. Source: macOS fsync(2), fcntl(2).
_FULL_SYNC: Final[int | None] = getattr(fcntl, "F_FULLFSYNC", None)
_WRITE_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def sync_file(fd: int) -> None:
    """Data and metadata of a file, or the entries of a directory. Raises OSError."""
    if _FULL_SYNC is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, _FULL_SYNC)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """The entries of a directory, after a file in it was created, renamed or removed. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync directories, such as some of networks
            raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write to a full disk raises an OSError that names no file: here it names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in _WRITE_ERRORS:
            error.filename = str(path)
        raise


def sync_data(fd: int) -> None:
    """Data of a file, and its size. Raises OSError."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        sync_file(fd)
