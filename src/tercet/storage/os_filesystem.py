"""`FileSystem` on the operating system.

Every error of the system becomes a `StorageFailure` with action, path and offset: the member must stop, and the operator must
know where to look. A short write is continued.

Invariant: a failed fsync is never retried. Linux marks the pages clean after the failure, so a second fsync would succeed
although the data is lost.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Final

from tercet.disk_sync import sync_data, sync_file
from tercet.errors import StorageFailure

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def storage_failure(action: str, path: str, error: OSError) -> StorageFailure:
    """An error of the system in the form that all messages of storage have."""
    return StorageFailure(f"{action} {path}: {reason(error)}")


def reason(error: OSError) -> str:
    """The system's text, in lower case as in etcd's messages: "no such file or directory"."""
    return (error.strerror or str(error)).lower()


def lock(fd: int, path: str) -> None:
    """`flock` an open file, without waiting. The kernel releases it when the file is closed, or the process ends."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StorageFailure(f"{path} is locked by another process") from None
    except OSError as error:
        raise storage_failure("lock", path, error) from error


def make_directories(path: str) -> None:
    """Create a directory and its missing parents, durably, all for the owner only (Go's MkdirAll; os.makedirs sets the mode of
    the last one alone). Raises OSError.
    """
    try:
        os.mkdir(path, DIRECTORY_MODE)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        os.mkdir(path, DIRECTORY_MODE)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return
    with suppress(PermissionError):  # one that may be searched and not read cannot be opened
        sync_directory(os.path.dirname(path) or ".")


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(fd)
    finally:
        os.close(fd)


class OsFile:
    """One open file descriptor; see `interfaces.File`."""

    __slots__ = ("_fd", "_sync", "path")

    def __init__(self, path: str, fd: int, sync: bool) -> None:
        self.path = path
        self._fd = fd
        self._sync = sync

    def pwrite(self, data: bytes, offset: int) -> None:
        try:
            written = os.pwrite(self._fd, data, offset)
            while written < len(data):
                written += os.pwrite(self._fd, memoryview(data)[written:], offset + written)
        except OSError as error:
            raise storage_failure(f"write {len(data)} bytes at offset {offset} of", self.path, error) from error

    def pread(self, count: int, offset: int) -> bytes:
        """Up to `count` bytes; fewer only at the end of the file."""
        try:
            data = os.pread(self._fd, count, offset)
            while len(data) < count:
                more = os.pread(self._fd, count - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise storage_failure(f"read {count} bytes at offset {offset} of", self.path, error) from error
        return data

    def datasync(self) -> None:
        if not self._sync:
            return
        try:
            sync_data(self._fd)
        except OSError as error:
            raise storage_failure("fdatasync", self.path, error) from error

    def allocate(self, size: int) -> None:
        """Reserve `size` bytes, so that writing them cannot run out of space. Bytes never written read as zeros.

        macOS has no such call: the file gets its size, and writing it can run out of space.
        """
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, 0, size)
            elif os.fstat(self._fd).st_size < size:
                os.ftruncate(self._fd, size)
        except OSError as error:
            raise storage_failure(f"reserve {size} bytes for", self.path, error) from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise storage_failure(f"truncate to {size} bytes", self.path, error) from error

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def lock(self) -> None:
        lock(self._fd, self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsFileSystem:
    """See `interfaces.FileSystem`. sync=False: `datasync` does nothing, and a power cut loses acknowledged writes."""

    def __init__(self, *, sync: bool = True) -> None:
        self._sync = sync

    def open(self, path: str, *, create: bool = False) -> OsFile:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        try:
            return OsFile(path, os.open(path, flags, FILE_MODE), self._sync)
        except OSError as error:
            raise storage_failure("open", path, error) from error

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(os.listdir(directory))
        except OSError as error:
            raise storage_failure("list", directory, error) from error

    def make_directory(self, path: str) -> None:
        """The directory may exist already; its parent must exist."""
        try:
            os.mkdir(path, DIRECTORY_MODE)
        except FileExistsError:
            if not os.path.isdir(path):
                raise StorageFailure(f"make directory {path}: a file is in its place") from None
        except OSError as error:
            raise storage_failure("make directory", path, error) from error

    def rename(self, old: str, new: str) -> None:
        try:
            os.rename(old, new)
        except OSError as error:
            raise storage_failure(f"rename {old} to", new, error) from error

    def remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError as error:
            raise storage_failure("remove", path, error) from error

    def sync_directory(self, path: str) -> None:
        try:
            sync_directory(path)
        except OSError as error:
            raise storage_failure("fsync directory", path, error) from error
