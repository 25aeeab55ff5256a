"""The current content of the backend: the newest database file, with the changes that no commit has written yet on top.

    put, delete  ->  active buffer                   one dictionary assignment: 0.2 us; a full one is put aside
    seal         ->  sealed buffers, a new active    the commit in progress writes the sealed ones
    get, scan    <-  active, full, sealed, file      the first that knows the key decides

put and get are the most frequent calls of a member, so each is one method with no call in between; when a commit begins is
decided elsewhere (lmdb_commit.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import lmdb

from tercet.errors import CorruptRecord
from tercet.storage.checksums import verify
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_file import SEEDS, LmdbFile, lmdb_failure, unpacked
from tercet.storage.long_keys import KEY_BYTES_MAX, pack_key, successor, unpack, with_change
from tercet.storage.write_buffer import BUFFER_OPERATIONS, Buffer, changes_between, new_buffer, overlay


class BufferedFile:
    """See `interfaces.Backend` for the methods without a comment. All methods belong to one thread.

    on_corruption: called with each record with a wrong checksum that a read meets, in the reader's thread.
    """

    def __init__(self, file: LmdbFile, on_corruption: Callable[[CorruptRecord], None]) -> None:
        self.file = file
        self._on_corruption = on_corruption
        self.operations = 0  # puts and deletes since start
        self._seeds = SEEDS
        self._active = new_buffer()
        self._active_until = BUFFER_OPERATIONS
        self._full: list[Buffer] = []  # before the active one, oldest first
        self._sealed: list[Buffer] = []  # before these, oldest first; none between commits
        self._older: list[Buffer] = []  # all but the active one, newest first
        self._read: Any = None
        self._renew_read_transaction()

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        if len(key) > KEY_BYTES_MAX:
            self._change_long(bucket, key, value)
            return
        self._active[bucket][key] = value
        self.operations += 1
        if self.operations == self._active_until:
            self._begin_buffer()

    def delete(self, bucket: Bucket, key: bytes) -> None:
        if len(key) > KEY_BYTES_MAX:
            self._change_long(bucket, key, None)
            return
        self._active[bucket][key] = None
        self.operations += 1
        if self.operations == self._active_until:
            self._begin_buffer()

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        if len(key) <= KEY_BYTES_MAX:
            return self._get_stored(bucket, key)
        stored = pack_key(key)
        pack = self._get_stored(bucket, stored)
        return None if pack is None else unpack(stored, pack).get(key)

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """start <= key < end, ascending. Changes made during the scan are seen if they lie ahead of it."""
        return unpacked(self._scan_stored(bucket, start, end), start, end)

    # --- for commits

    def seal(self) -> list[Buffer]:
        """The changes to commit, oldest first. New ones go to a new active buffer."""
        self._begin_buffer()
        self._sealed, self._full = self._full, []
        return self._sealed

    @property
    def sealed(self) -> list[Buffer]:
        """The changes that the commit in progress writes; none without one."""
        return self._sealed

    def committed(self, file: LmdbFile) -> None:
        """The sealed changes are in `file`: read them from there."""
        self._sealed = []
        self._older = self._full[::-1]
        self.file = file
        self._renew_read_transaction()

    def replace(self, file: LmdbFile) -> None:
        """Show `file` alone, and drop all buffered changes."""
        self._full = []
        self._new_active()
        self.committed(file)

    def close(self) -> None:
        self._read.abort()
        self.file.close()

    # --- helpers

    def _begin_buffer(self) -> None:
        """Put the active one aside."""
        self._full.append(self._active)
        self._older.insert(0, self._active)
        self._new_active()

    def _new_active(self) -> None:
        self._active = new_buffer()
        self._active_until = self.operations + BUFFER_OPERATIONS

    def _change_long(self, bucket: Bucket, key: bytes, value: bytes | None) -> None:
        """One key of a pack: read, change and put the pack (see long_keys.py)."""
        stored = pack_key(key)
        self._active[bucket][stored] = with_change(stored, self._get_stored(bucket, stored), key, value)
        self.operations += 1
        if self.operations == self._active_until:
            self._begin_buffer()

    def _get_stored(self, bucket: Bucket, key: bytes) -> bytes | None:
        changes = self._active[bucket]
        if key in changes:
            return changes[key]
        for buffer in self._older:
            changes = buffer[bucket]
            if key in changes:
                return changes[key]
        try:
            stored: bytes | None = self._get_from_file(key, None, self._tables[bucket])
        except lmdb.Error as error:
            raise lmdb_failure(self.file.path, error) from error
        if stored is None:
            return None
        value = verify(self._seeds[bucket], key, stored)
        if value is None:
            raise self.file.corrupt(bucket, key, stored)
        return value

    def _scan_stored(self, bucket: Bucket, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Records as stored, buffers over file. After a change the scan restarts behind the last record it returned."""
        at = start if len(start) <= KEY_BYTES_MAX else pack_key(start)
        while True:
            read, operations = self._read, self.operations
            changes = changes_between((*self._sealed, *self._full, self._active), bucket, at, end)
            records = chain.from_iterable(self.file.chunks(read, bucket, at))
            try:
                for record in overlay(records, changes):
                    yield record
                    if self._read is not read or self.operations != operations:
                        at = successor(record[0])
                        break
                else:
                    return
            except lmdb.Error as error:
                raise lmdb_failure(self.file.path, error) from error

    def _renew_read_transaction(self) -> None:
        if self._read is not None:
            self._read.abort()
        self.file.on_corruption = self._on_corruption
        self._read = self.file.begin()
        self._tables = self.file.tables
        self._get_from_file = self._read.get
