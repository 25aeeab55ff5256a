"""ENOSPC and EIO at each call of the log and of the database.

Each leads to one failure that names the file. Nothing is acknowledged after it, and a restart finds all that was
acknowledged before.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import ConfState, Entry, HardState, Snapshot
from tercet.storage import lmdb_file
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.log_store import ThreadedLogStore
from tercet.storage.os_filesystem import OsFile, OsFileSystem, storage_failure
from tercet.storage.wal import WAL
from tests.support.fakes import uses_fakes

SEGMENT_BYTES = 32 << 10
ERRORS = [errno.ENOSPC, errno.EIO]


class FaultyFileSystem(OsFileSystem):
    """The real file system, whose calls of one name fail after `countdown` successful ones."""

    def __init__(self, call: str, number: int, countdown: int) -> None:
        super().__init__()
        self.call = call
        self.number = number
        self.countdown = countdown
        self.failures = 0

    def check(self, call: str, path: str) -> None:
        if call == self.call:
            self.countdown -= 1
            if self.countdown < 0:
                self.failures += 1
                raise storage_failure(call, path, OSError(self.number, os.strerror(self.number)))

    def open(self, path: str, *, create: bool = False) -> Any:
        return FaultyFile(super().open(path, create=create), self)

    def rename(self, old: str, new: str) -> None:
        self.check("rename", new)
        super().rename(old, new)

    def sync_directory(self, path: str) -> None:
        self.check("fsync directory", path)
        super().sync_directory(path)


class FaultyFile:
    """A file of FaultyFileSystem."""

    def __init__(self, file: OsFile, fs: FaultyFileSystem) -> None:
        self._file = file
        self._fs = fs

    def pwrite(self, data: bytes, offset: int) -> None:
        self._fs.check("write", self._file.path)
        self._file.pwrite(data, offset)

    def datasync(self) -> None:
        self._fs.check("fdatasync", self._file.path)
        self._file.datasync()

    def allocate(self, size: int) -> None:
        self._fs.check("reserve", self._file.path)
        self._file.allocate(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@uses_fakes
@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize("call", ["write", "fdatasync", "reserve", "rename", "fsync directory"])
def test_an_error_of_the_log_is_reported_once_and_final(tmp_path: Path, call: str, number: int) -> None:
    directory = str(tmp_path / "wal")
    WAL.create(OsFileSystem(), directory, b"whose", segment_bytes=SEGMENT_BYTES).close()
    fs = FaultyFileSystem(call, number, countdown=7 if call in ("write", "fdatasync") else 3)
    wal, _ = WAL.open(fs, directory, segment_bytes=SEGMENT_BYTES)
    acknowledged: list[int] = []

    async def test() -> list[Exception]:
        failures: list[Exception] = []
        store = ThreadedLogStore(wal, asyncio.get_running_loop(), on_failure=failures.append)
        for index in range(1, 400):
            entry = [Entry(1, index, bytes(1000))]
            if store.append(HardState(1, 1, 0), entry, then=partial(acknowledged.append, index)):
                acknowledged.append(index)
            while not failures and acknowledged[-1:] != [index]:
                await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        store.close()
        return failures

    failures = asyncio.run(asyncio.wait_for(test(), 60))
    assert len(failures) == 1
    assert isinstance(failures[0], StorageFailure)
    assert re.fullmatch(
        rf"(write-ahead log {directory} has failed: )?{call} {directory}\S*: {os.strerror(number).lower()}", str(failures[0])
    )
    if call != "reserve":  # housekeeping retries the next segment
        assert fs.failures == 1, "the call is not repeated: a second fsync would succeed over lost data"
    assert 0 < len(acknowledged) < 399
    wal.release(0)
    for file in (wal._file, wal._spare):
        if file is not None:
            file.close()
    found = WAL.open(OsFileSystem(), directory, segment_bytes=SEGMENT_BYTES)[1]
    assert [entry.index for entry in found.entries][: len(acknowledged)] == acknowledged


@uses_fakes
def test_the_removal_of_segments_retries_the_one_that_failed_first(tmp_path: Path) -> None:
    """Removing the next segment instead would leave a gap in the numbers, and the log could not be opened."""
    directory = str(tmp_path / "wal")

    class Unremovable(OsFileSystem):
        fails = True

        def remove(self, path: str) -> None:
            if self.fails and path.endswith(".wal"):
                raise storage_failure("remove", path, OSError(errno.EIO, os.strerror(errno.EIO)))
            super().remove(path)

    fs = Unremovable()
    wal = WAL.create(fs, directory, b"whose", segment_bytes=SEGMENT_BYTES)
    for index in range(1, 200):
        wal.append(HardState(1, 1, index), [Entry(1, index, bytes(1000))])
        wal.sync()
    wal.save_snapshot(Snapshot(190, 1, ConfState(voters=(1,))))
    wal.sync()
    for _ in range(2):
        with pytest.raises(StorageFailure, match="remove"):
            wal.release(190)
    fs.fails = False
    count = len(wal.segments)
    wal.release(190)
    assert len(wal.segments) < count - 2
    wal.close()
    wal, found = WAL.open(fs, directory, segment_bytes=SEGMENT_BYTES)
    assert [entry.index for entry in found.entries] == list(range(191, 200))
    wal.close()


@contextmanager
def failing(target: Any, name: str, error: Exception, countdown: int) -> Iterator[list[int]]:
    """Make a function fail from its `countdown`th call on. Yields the list of failures."""
    original, calls, failures = getattr(target, name), [0], []

    def call(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] >= countdown:
            failures.append(calls[0])
            raise error
        return original(*arguments, **options)

    setattr(target, name, call)
    try:
        yield failures
    finally:
        setattr(target, name, original)


@uses_fakes
@pytest.mark.parametrize("number", ERRORS)
def test_an_error_of_a_commit_is_reported_once_and_final(tmp_path: Path, number: int) -> None:
    """LMDB's commit writes, syncs, and writes the meta page; the error does not say which of them failed."""

    class Transaction:
        def __init__(self, txn: Any) -> None:
            self._txn = txn

        def commit(self) -> None:
            self._txn.abort()
            raise lmdb.DiskError(f"mdb_txn_commit: {os.strerror(number)}")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._txn, name)

    async def test() -> None:
        failures: list[Exception] = []
        backend = LmdbBackend(str(tmp_path / "db"), loop=asyncio.get_running_loop(), on_failure=failures.append)
        backend.put(Bucket.KEY, b"durable", b"1")
        backend.applied(1, 1)
        backend.commit_now()
        called: list[int] = []
        backend.put(Bucket.KEY, b"lost", b"1")
        backend.applied(2, 1)
        backend._commits._writer.do(lambda: backend.file.write([]))  # LMDB's write lock belongs to its thread
        assert backend.file._txn is not None
        backend.file._txn = Transaction(backend.file._txn)
        backend.commit(lambda: called.append(1))
        while not failures:
            await asyncio.sleep(0.001)
        assert str(failures[0]).startswith(
            f"database {tmp_path}/db/0000000000000000.lmdb: mdb_txn_commit: {os.strerror(number)}"
        )
        for refused in (lambda: backend.applied(3, 1), backend.commit, backend.commit_now):
            with pytest.raises(StorageFailure):
                refused()
        backend.close()
        assert (called, len(failures)) == ([], 1)
        found = LmdbBackend(str(tmp_path / "db"))
        assert (found.applied_index, found.get(Bucket.KEY, b"lost")) == (1, None)
        found.close()

    asyncio.run(asyncio.wait_for(test(), 60))


@uses_fakes
@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(("name", "countdown"), [("rename", 2), ("fsync", 1)])
def test_an_error_while_installing_a_snapshot_stops_the_backend(tmp_path: Path, name: str, countdown: int, number: int) -> None:
    """Whether a restart finds the old file or the new one is unknown, so the backend fails; either file is complete."""
    failures: list[Exception] = []
    backend = LmdbBackend(str(tmp_path / "db"), on_failure=failures.append)
    backend.put(Bucket.KEY, b"k", b"old")
    backend.applied(1, 1)
    backend.commit_now()
    staged = backend.stage([(Bucket.KEY, b"k", b"new")], index=9, term=2)
    with failing(lmdb_file.os, name, OSError(number, os.strerror(number)), countdown), pytest.raises(StorageFailure) as failure:
        backend.install(staged)
    assert re.fullmatch(
        rf"rename {tmp_path}/db/received-1\.tmp to \S+\.lmdb: {os.strerror(number).lower()}", str(failure.value)
    )
    assert failures == [failure.value]
    with pytest.raises(StorageFailure):
        backend.applied(2, 1)
    backend.close()
    staged.file.close()
    found = LmdbBackend(str(tmp_path / "db"))
    assert (found.applied_index, found.get(Bucket.KEY, b"k")) in ((1, b"old"), (9, b"new"))
    found.close()
