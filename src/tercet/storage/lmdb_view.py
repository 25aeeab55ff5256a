"""A view of the whole backend at a point in time: an LMDB read transaction.

Opening one costs a microsecond and copies nothing. But pages that it can see are not reused while it is open, and the file
grows instead. So its age is known (`seconds`) and bounded: a view that is too old raises ViewClosed and closes itself.

One thread at a time may use a view, and any other may close it; the reader then gets ViewClosed. Ending an LMDB transaction
under a reader crashes the process, so a lock separates each read and the end. `close` does not wait for that lock: a read takes
long when many threads want the interpreter, and the loop closes hundreds of views when a client disconnects. Where it finds a
read under way, the reader ends the transaction.

The LMDB binding releases the interpreter's lock for each record that it reads, and must get it back. Next to a loop that makes
a system call every 50 us, a thread scans a million keys a second; next to one that computes without a pause, some ten thousand.
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
from tercet.storage.lmdb_file import LmdbFile, lmdb_failure, unpacked
from tercet.storage.long_keys import KEY_BYTES_MAX, pack_key, unpack


class ViewClosed(TercetError):
    """The view was closed, or was open for longer than allowed."""


class LmdbView:
    """See `interfaces.ReadView`."""

    def __init__(self, file: LmdbFile, *, seconds_max: float, on_close: Callable[[LmdbView], None]) -> None:
        self._file = file
        self._seconds_max = seconds_max
        self._on_close = on_close
        self._since = monotonic()
        self._in_use = RLock()  # held for one read; taken again by a read that closes a view that is too old
        self._is_closing = False
        self._txn: Any = file.begin()
        file.views.add(self)

    @property
    def seconds(self) -> float:
        """Seconds since it was opened."""
        return monotonic() - self._since

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        stored = key if len(key) <= KEY_BYTES_MAX else pack_key(key)
        self._in_use.acquire()
        try:
            value = self._file.get(self._transaction(), bucket, stored)
        except lmdb.Error as error:
            raise lmdb_failure(self._file.path, error) from error
        finally:
            self._leave()
        if stored is not key and value is not None:
            return unpack(stored, value).get(key)
        return value

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """start <= key < end, ascending; end None: to the last key."""
        return unpacked(self._stored(bucket, start), start, end)

    def chunk(self, bucket: Bucket, start: bytes) -> list[tuple[bytes, bytes]]:
        """Up to 256 records from `start` on, as stored (long_keys.py); none at the end."""
        self._in_use.acquire()
        try:
            found = self._file.chunks(self._transaction(), bucket, start)
            try:
                return next(found, [])
            except lmdb.Error as error:
                raise lmdb_failure(self._file.path, error) from error
            finally:
                found.close()
        finally:
            self._leave()

    def copy(self, path: str) -> None:
        """Write the content to a compact LMDB file at `path`. Other threads go on meanwhile."""
        self._in_use.acquire()
        try:
            self._file.env.copy(path, compact=True, txn=self._transaction())
        except lmdb.Error as error:
            raise lmdb_failure(path, error) from error
        finally:
            self._leave()

    def close(self) -> None:
        """Without waiting: a read that is under way in another thread goes on to its end, and closes the view then."""
        self._is_closing = True
        if self._in_use.acquire(blocking=False):
            self._end()

    def close_and_wait(self) -> None:
        """Returns after the read that is under way."""
        self._is_closing = True
        self._in_use.acquire()
        self._end()

    def _leave(self) -> None:
        """End a read."""
        self._in_use.release()
        if self._is_closing and self._txn is not None:
            self.close()

    def _end(self) -> None:
        """End the transaction and release the lock."""
        txn, self._txn = self._txn, None
        try:
            if txn is not None:
                txn.abort()
        finally:
            self._in_use.release()
        if txn is not None:
            self._file.views.discard(self)
            self._file.close_if_unused()
            self._on_close(self)

    def _stored(self, bucket: Bucket, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        first = start if len(start) <= KEY_BYTES_MAX else pack_key(start)
        self._in_use.acquire()
        try:
            found = self._file.chunks(self._transaction(), bucket, first)
        finally:
            self._leave()
        try:
            while chunk := self._next_chunk(found):
                yield from chunk
        finally:
            self._in_use.acquire()
            try:
                found.close()
            finally:
                self._leave()

    def _next_chunk(self, found: Generator[list[tuple[bytes, bytes]], None, None]) -> list[tuple[bytes, bytes]] | None:
        self._in_use.acquire()
        try:
            self._transaction()
            return next(found, None)
        except lmdb.Error as error:
            raise lmdb_failure(self._file.path, error) from error
        finally:
            self._leave()

    def _transaction(self) -> Any:
        if self._txn is None or self._is_closing:
            raise ViewClosed("the view of the database is closed")
        if self.seconds > self._seconds_max:
            self.close()
            raise ViewClosed(f"the view of the database was open for more than {self._seconds_max:g} s")
        return self._txn
