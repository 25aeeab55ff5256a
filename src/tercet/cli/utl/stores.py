"""The database of a member that does not run: etcd's is a bbolt file, tercet's a directory. Both read the same way.

    with open_store(path, lock_seconds) as store:       path: member/snap/db of a data directory, or a snapshot
        store.scan(Bucket.KEY)

A database that a running process has locked is waited for, as etcdutl does, and then refused.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tercet.bolt import BoltFile
from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.os_filesystem import reason

T = TypeVar("T")
_POLL_SECONDS = 0.05
_LOCKED = "timeout"  # bbolt's text, which etcdutl prints


class BoltStore:
    """A bbolt file as a view; `get` and the bounds of `scan` read the bucket from its start."""

    def __init__(self, path: Path, lock_seconds: float | None) -> None:
        """Raises StorageFailure if the file is not a database, or stays locked."""
        self._lock = _locked(path, lock_seconds)  # first: what is read before may change until the lock is free
        try:
            self.file = BoltFile(path)
        except BaseException:
            os.close(self._lock)
            raise

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        return next((value for found, value in self.scan(bucket, key) if found == key), None)

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        for key, value in self.file.items(bucket.value):
            if end is not None and key >= end:
                return
            if key >= start:
                yield key, value

    def close(self) -> None:
        self.file.close()
        os.close(self._lock)


class Store:
    """An open database. `size`: bytes of its pages in use (etcd) or of its file (tercet)."""

    def __init__(self, view: ReadView, size: int) -> None:
        self.view = view
        self.size = size

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.view.close()


def open_store(path: Path, lock_seconds: float | None) -> Store:
    """Raises StorageFailure: no such file, not a database, or locked."""
    _check_exists(path)
    if path.is_dir():
        backend = open_backend(path, lock_seconds)
        return Store(backend, backend.size())
    bolt = BoltStore(path, lock_seconds)
    return Store(bolt, bolt.file.meta.file_bytes)


def open_backend(path: Path, lock_seconds: float | None) -> LmdbBackend:
    """tercet's database, to change it. Raises StorageFailure."""
    if not any(path.glob("*.lmdb")):
        raise StorageFailure(f"{path}: a directory without a database of tercet")
    return _retried(lambda: LmdbBackend(str(path)), lock_seconds)


def database_of(data_directory: Path) -> Path:
    """The database in a data directory. Raises StorageFailure if there is none."""
    path = data_directory / "member" / "snap" / "db"
    _check_exists(path)
    return path


def _check_exists(path: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        raise StorageFailure(f"stat {path}: {(error.strerror or str(error)).lower()}") from error


def _locked(path: Path, lock_seconds: float | None) -> int:
    """An open descriptor that holds bbolt's lock. Raises StorageFailure."""

    def take() -> int:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), path.stat()):  # a defragmentation has replaced it
                raise BlockingIOError
        except BlockingIOError as error:
            os.close(descriptor)
            raise StorageFailure(f"{path}: {_LOCKED}: another process uses it") from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    try:
        return _retried(take, lock_seconds)
    except OSError as error:
        raise StorageFailure(f"{path}: {reason(error)}") from error


def _retried(attempt: Callable[[], T], lock_seconds: float | None) -> T:
    """Call `attempt` until it does not find a lock, or the time is over."""
    end = None if lock_seconds is None else time.monotonic() + lock_seconds
    while True:
        try:
            return attempt()
        except StorageFailure as failure:
            is_locked = "locked" in str(failure) or _LOCKED in str(failure)
            if not is_locked or (end is not None and time.monotonic() >= end):
                raise
        time.sleep(_POLL_SECONDS)
