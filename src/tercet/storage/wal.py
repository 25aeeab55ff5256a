"""The write-ahead log: term, vote, commit index and entries are durable once `sync` returns.

    wal = WAL.create(fs, directory, metadata)          for a new member
    wal, recovered = WAL.open(fs, directory)           after a restart
    wal.append(hard_state, entries); wal.sync()        durable when `sync` returns
    wal.save_snapshot(snapshot); wal.sync()            reading may start after the snapshot's index
    wal.prepare_next(); wal.release(index)             housekeeping; may run in a second thread

`append` only collects bytes. `sync` writes all that was appended since the last call as one record: one CRC, one write, one
fdatasync. A record that does not fit goes to the next segment, which `prepare_next` has created, its name already durable, so
that changing segments costs only one more write.

A log is locked by the files that are written: the newest segment and the one prepared after it. So the highest number is always
locked, and a second process fails before it changes anything.

Invariants: `sync` returns only after fdatasync has; nothing is written after a failure (a failed fsync may have dropped earlier
writes); a segment is begun only when all before it is durable.

One thread calls append, save_snapshot, sync and close. One other thread at a time may call prepare_next and release.
Format: wal_format.py. Reading and repair: wal_recovery.py.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock
from time import perf_counter
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft.codec import encode_snapshot
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.storage import wal_format as form
from tercet.storage.interfaces import File, FileSystem
from tercet.storage.wal_recovery import Recovered, Scan, Segment, recover, segment_numbers, segment_path

SEGMENT_BYTES: Final = 64_000_000
ZEROED_BYTES: Final = 256 << 10
"""The first write to a reserved block makes ext4 commit its own journal. So from time to time a batch is followed by this many
zeros: a batch of 10 kB is then durable in 0.2 ms instead of 0.3 (medians, virtual disk)."""
RECORD_BYTES_MAX: Final = 8 << 20  # batches are split into records of about this size, so that reading needs bounded memory

__all__ = ["SEGMENT_BYTES", "WAL", "Recovered"]


class WAL:
    """See the module's docstring. Every method raises StorageFailure where the disk fails, and from then on."""

    def __init__(self, fs: FileSystem, directory: str, scan: Scan, locked: File, *, segment_bytes: int) -> None:
        """Use `create` or `open`. `locked` is the file of the highest segment."""
        self.directory = directory
        self.metadata = scan.recovered.metadata
        self.segment_bytes = segment_bytes
        self.bytes_written = 0
        self.observe_write: Callable[[float], None] | None = None  # called with the seconds of each write, without its sync
        self._fs = fs
        self._salt = scan.salt
        self._seed = form.seed_of(scan.salt)
        self._state = scan.recovered.hard_state
        self._snapshot = scan.recovered.snapshot
        self._durable_snapshot = scan.recovered.snapshot
        self._next_index = scan.next_index
        # The same two as of the last record: a segment's head must not be ahead of the records before it.
        self._recorded_state = self._state
        self._recorded_next_index = self._next_index
        # What `append` has collected and no record holds yet.
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._state_changed = False
        # Complete records to be written to the newest segment, at `_offset`.
        self._records: list[bytes] = []
        self._records_bytes = 0
        self._offset = scan.end
        self._durable = scan.end
        self._zeroed = scan.end  # blocks up to here have been written, with records or with zeros
        self._crc = scan.crc
        self._failure: StorageFailure | None = None
        # Shared with the housekeeping thread. Held briefly, except while the next segment is created.
        self._lock = Lock()
        self._segments = scan.segments  # those whose head is durable
        self._newest = scan.segments[-1]
        self._spare: File | None = None if scan.spare is None else locked
        self._file = locked if scan.spare is None else self._open_segment(self._newest.number)
        self._reserve(locked)

    @classmethod
    def create(
        cls,
        fs: FileSystem,
        directory: str,
        metadata: bytes,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        salt: bytes | None = None,
    ) -> WAL:
        """Create a log; the parent directory must exist. A crash before the return leaves no log.

        metadata: the caller's bytes (which member this is), returned by every `open`.
        salt: 8 bytes unknown to clients; given only by tests that need the same file twice.
        """
        if cls.exists(fs, directory):
            raise StorageFailure(f"a write-ahead log already exists in {directory}")
        fs.make_directory(directory)
        fs.sync_directory(posixpath.dirname(directory) or ".")
        salt = os.urandom(8) if salt is None else salt
        head = form.Head(0, 1, salt, HardState(), metadata, None)
        body = form.encode_head(head)
        data, crc = form.encode_record(form.HEAD, [body], len(body), synced_to=0, previous_crc=0, seed=form.seed_of(salt))
        file = _reserve_segment(fs, directory, 0, data, max(segment_bytes, len(data)))
        _name_segment(fs, directory, 0, file)
        recovered = Recovered(metadata, HardState(), None, [], None)
        scan = Scan(recovered, salt, [Segment(0, segment_path(directory, 0), 1)], 1, len(data), 0, crc, None)
        return cls(fs, directory, scan, file, segment_bytes=segment_bytes)

    @classmethod
    def open(cls, fs: FileSystem, directory: str, *, segment_bytes: int = SEGMENT_BYTES) -> tuple[WAL, Recovered]:
        """Read the log and continue it. A torn tail is cut (see `Recovered.repaired`). Raises StorageFailure on damage."""
        locked = _lock(fs, directory)
        try:
            for name in fs.list(directory):
                if name.endswith(".tmp"):  # an unfinished next segment
                    fs.remove(posixpath.join(directory, name))
            scan = recover(fs, directory)
            # What was read must be durable: the process before may have ended between write and fsync, or rename and fsync.
            fs.sync_directory(directory)
            wal = cls(fs, directory, scan, locked, segment_bytes=segment_bytes)
        except BaseException:
            locked.close()
            raise
        # A failed fdatasync leaves pages that read as written but are not on disk, and the next one skips them: rewrite them.
        wal._file.pwrite(wal._file.pread(scan.end - scan.synced_to, scan.synced_to), scan.synced_to)
        wal._file.datasync()
        return wal, scan.recovered

    @staticmethod
    def exists(fs: FileSystem, directory: str) -> bool:
        return bool(segment_numbers(fs, directory))

    @property
    def segments(self) -> list[str]:
        """Paths, oldest first; the last one is being written."""
        return [segment.path for segment in self._segments]

    @property
    def newest_segment(self) -> int:
        """Number of the segment being written."""
        return self._newest.number

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Collect for the next `sync`. Indexes are consecutive; the first may be one already written, and truncates the log."""
        if hard_state is not None:
            self._state = hard_state
            self._state_changed = True
        if entries:
            parts = self._parts
            size, last, prefix = 0, -1, b""
            for entry in entries:
                wire = entry.wire
                count = len(wire)
                if count != last:  # entries of one load are often of one length
                    last, prefix = count, count.to_bytes(8, "big")
                size += count
                parts.append(prefix)
                parts.append(wire)
            self._parts_bytes += size + 8 * len(entries)
            self._next_index = entries[-1].index + 1
            if self._parts_bytes >= RECORD_BYTES_MAX:
                self._close_batch()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Collect a snapshot record for the next `sync`: reading may start after `snapshot.index`.

        A snapshot proves that its index is committed and that its term has begun, even if the hard state with both is still to
        come, so the record's state includes them. In a term first seen here this member has not voted.
        """
        self._close_batch()
        term, vote, commit = self._state
        if snapshot.term > term:
            term, vote = snapshot.term, 0
        self._state = HardState(term, vote, max(commit, snapshot.index))
        self._next_index = max(self._next_index, snapshot.index + 1)
        wire = encode_snapshot(snapshot)
        self._add_record(form.SNAPSHOT, [form.STATE.pack(*self._state), wire], form.STATE.size + len(wire))
        self._snapshot = snapshot

    def sync(self) -> None:
        """Make all that was collected durable."""
        self._close_batch()
        self._flush()

    def close(self) -> None:
        """Write what is still collected (a commit index, say) and close the files."""
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._file.close()
            if self._spare is not None:
                self._spare.close()

    @property
    def has_failed(self) -> bool:
        """Whether a failure was final: nothing is written any more."""
        return self._failure is not None

    def prepare_next(self) -> None:
        """Create the next segment ahead of need. A full disk is not final here: it is if it is still full when the segment is
        needed. A failed sync is (`has_failed`).
        """
        with self._lock:
            if self._spare is None:
                self._spare = self._make_next()

    def release(self, index: int) -> None:
        """Remove the oldest segments, those with no entry after `index` and none after the newest durable snapshot.

        The snapshot's own record may go: each segment's head repeats the newest snapshot before it.
        """
        unneeded = min(index, self._durable_snapshot.index) if self._durable_snapshot else 0
        while True:
            with self._lock:
                if len(self._segments) < 2 or self._segments[1].first_index > unneeded + 1:
                    return
                oldest = self._segments[0]
            self._fs.remove(oldest.path)  # a failure is not final: the next call tries again
            # One by one: if a removal survived a power cut and an earlier one did not, the log would have a gap.
            try:
                self._fs.sync_directory(self.directory)
            except StorageFailure as failure:
                self._failure = failure
                raise
            with self._lock:
                self._segments.pop(0)

    def _close_batch(self) -> None:
        """Turn what `append` collected into a record."""
        if self._parts or self._state_changed:
            parts, size = self._parts, self._parts_bytes
            self._parts, self._parts_bytes, self._state_changed = [], 0, False
            self._add_record(form.BATCH, [form.STATE.pack(*self._state), *parts], form.STATE.size + size)

    def _add_record(self, kind: int, parts: list[bytes], size: int) -> None:
        self._raise_failure()
        end = self._offset + self._records_bytes + form.record_size(size)
        if end > self.segment_bytes and self._offset + self._records_bytes > 0:
            self._begin_segment()
        record, self._crc = form.encode_record(
            kind, parts, size, synced_to=self._durable, previous_crc=self._crc, seed=self._seed
        )
        self._records.append(record)
        self._records_bytes += len(record)
        self._recorded_state = self._state
        self._recorded_next_index = self._next_index

    def _begin_segment(self) -> None:
        """Continue in the next segment, after making all before it durable."""
        self._flush()
        with self._lock:
            file = self._spare
            if file is None:
                try:
                    file = self._make_next()
                except StorageFailure as failure:
                    self._failure = failure
                    raise
            self._spare = None
            number = self._newest.number + 1
            self._newest = Segment(number, segment_path(self.directory, number), self._recorded_next_index)
        self._file.close()
        self._file = file
        self._offset = self._durable = self._zeroed = 0
        head = form.Head(number, self._newest.first_index, self._salt, self._recorded_state, self.metadata, self._snapshot)
        body = form.encode_head(head)
        record, self._crc = form.encode_record(
            form.HEAD, [body], len(body), synced_to=0, previous_crc=self._crc, seed=self._seed
        )
        self._records.append(record)
        self._records_bytes += len(record)

    def _flush(self) -> None:
        self._raise_failure()
        if not self._records:
            return
        size = self._records_bytes
        if self._offset + size > self._zeroed:
            self._zeroed = min(self._offset + size + ZEROED_BYTES, max(self.segment_bytes, self._offset + size))
            self._records.append(bytes(self._zeroed - self._offset - size))
        data = b"".join(self._records)
        began = perf_counter()
        try:
            self._file.pwrite(data, self._offset)
            if self.observe_write is not None:
                self.observe_write(perf_counter() - began)
            self._file.datasync()
        except StorageFailure as failure:
            self._failure = failure
            raise
        self._records, self._records_bytes = [], 0
        self._offset += size
        self._durable = self._offset
        self.bytes_written += size
        self._durable_snapshot = self._snapshot
        if self._segments[-1] is not self._newest:
            with self._lock:
                self._segments.append(self._newest)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise StorageFailure(f"write-ahead log {self.directory} has failed: {self._failure}")

    def _make_next(self) -> File:
        self._raise_failure()
        number = self._newest.number + 1
        file = _reserve_segment(self._fs, self.directory, number, b"", self.segment_bytes)
        try:
            _name_segment(self._fs, self.directory, number, file)
        except StorageFailure as failure:
            self._failure = failure
            raise
        return file

    def _open_segment(self, number: int) -> File:
        file = self._fs.open(segment_path(self.directory, number))
        file.lock()
        self._reserve(file)
        return file

    def _reserve(self, file: File) -> None:
        if file.size() < self.segment_bytes:
            file.allocate(self.segment_bytes)


def _lock(fs: FileSystem, directory: str) -> File:
    """Open and lock the highest segment. Raises StorageFailure if there is none, or if another process has the log open."""
    numbers = segment_numbers(fs, directory)
    if not numbers:
        raise StorageFailure(f"no write-ahead log in {directory}")
    path = segment_path(directory, numbers[-1])
    file = fs.open(path)
    try:
        file.lock()
        if segment_numbers(fs, directory)[-1:] != numbers[-1:]:  # its owner has moved on to the next segment
            raise StorageFailure(f"{path} is locked by another process")
    except BaseException:
        file.close()
        raise
    return file


def _reserve_segment(fs: FileSystem, directory: str, number: int, data: bytes, size: int) -> File:
    """A locked file for a segment, its space reserved, under a temporary name. On failure nothing remains."""
    path = _unfinished(directory, number)
    file = fs.open(path, create=True)
    try:
        file.lock()
    except StorageFailure:
        file.close()
        raise
    try:
        if number in segment_numbers(fs, directory):  # by another process, before the lock
            raise StorageFailure(f"{segment_path(directory, number)} is locked by another process")
        file.truncate(0)
        file.allocate(size)
        if data:
            file.pwrite(data, 0)
    except StorageFailure:
        _discard(fs, path, file)
        raise
    return file


def _name_segment(fs: FileSystem, directory: str, number: int, file: File) -> None:
    """Make the file and its name durable."""
    try:
        file.datasync()
        fs.rename(_unfinished(directory, number), segment_path(directory, number))
        fs.sync_directory(directory)
    except StorageFailure:
        _discard(fs, _unfinished(directory, number), file)
        raise


def _unfinished(directory: str, number: int) -> str:
    return segment_path(directory, number) + ".tmp"


def _discard(fs: FileSystem, path: str, file: File) -> None:
    file.close()
    with suppress(StorageFailure):  # it may have been renamed, or the disk may be gone
        fs.remove(path)
