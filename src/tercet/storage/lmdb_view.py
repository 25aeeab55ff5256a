"""A point in time of the whole backend, on an LMDB read transaction of its own.

Opening one costs a microsecond and copies nothing, but the pages it can see are not reused while it is open: the file grows
instead. So its age is known (`seconds`) and bounded: one that is older than allowed refuses to go on, and lets go.

May be used from any one thread at a time, and closed from any other: its reader then gets ViewClosed. LMDB would crash the
process if a transaction ended under a reader, so a lock keeps each look into the file and the end apart.

LMDB's binding gives up Python's global lock for each record that is read, and has to win it back: beside a loop that makes a
system call every 50 us a thread scans a million keys a second, beside one that computes without a pause perhaps ten thousand.
Short slices on the loop itself always run at full speed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from threading import RLock
from time import monotonic
from typing import Any

import lmdb

from tercet.errors import TercetError
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_file import LmdbFile, chunks, lmdb_failure, unpacked
from tercet.storage.long_keys import KEY_BYTES_MAX, pack_key, unpack


class ViewClosed(TercetError):
    """The view was closed, or was open for longer than it may be."""


class LmdbView:
    """See `interfaces.ReadView`."""

    def __init__(self, file: LmdbFile, *, seconds_max: float, on_close: Callable[[LmdbView], None]) -> None:
        self._file = file
        self._seconds_max = seconds_max
        self._on_close = on_close
        self._since = monotonic()
        self._in_use = RLock()  # held for one look into the file; again where a look finds that the view is too old
        self._txn: Any = file.begin()
        file.views.add(self)

    @property
    def seconds(self) -> float:
        """How long it has been open."""
        return monotonic() - self._since

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        stored = key if len(key) <= KEY_BYTES_MAX else pack_key(key)
        with self._in_use:
            try:
                value: bytes | None = self._transaction().get(stored, None, self._file.tables[bucket])
            except lmdb.Error as error:
                raise lmdb_failure(self._file.path, error) from error
        if stored is not key and value is not None:
            return unpack(stored, value).get(key)
        return value

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """start <= key < end, ascending; end None: to the last one."""
        return unpacked(self._stored(bucket, start), start, end)

    def copy(self, path: str) -> None:
        """Write what this view shows to an LMDB file of its own, compact, without holding up any other thread."""
        with self._in_use:
            try:
                self._file.env.copy(path, compact=True, txn=self._transaction())
            except lmdb.Error as error:
                raise lmdb_failure(path, error) from error

    def close(self) -> None:
        with self._in_use:
            txn, self._txn = self._txn, None
            if txn is not None:
                txn.abort()
        if txn is not None:
            self._file.views.discard(self)
            self._file.close_if_unused()
            self._on_close(self)

    def _stored(self, bucket: Bucket, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        first = start if len(start) <= KEY_BYTES_MAX else pack_key(start)
        with self._in_use:
            found = chunks(self._transaction(), self._file.tables[bucket], first)
        try:
            while chunk := self._next_chunk(found):
                yield from chunk
        finally:
            with self._in_use:
                found.close()

    def _next_chunk(self, found: Generator[list[tuple[bytes, bytes]], None, None]) -> list[tuple[bytes, bytes]] | None:
        with self._in_use:
            self._transaction()
            try:
                return next(found, None)
            except lmdb.Error as error:
                raise lmdb_failure(self._file.path, error) from error

    def _transaction(self) -> Any:
        if self._txn is None:
            raise ViewClosed("the view of the database is closed")
        if self.seconds > self._seconds_max:
            self.close()
            raise ViewClosed(f"the view of the database was open for more than {self._seconds_max:g} s")
        return self._txn
