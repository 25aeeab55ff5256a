"""Where does a promise become durable? The write-ahead log: append, `sync`, and only then may anyone be told.

    wal = WAL.create(fs, directory, metadata)          a new member
    wal, recovered = WAL.open(fs, directory)           a member that returns
    wal.append(hard_state, entries); wal.sync()        durable when `sync` returns
    wal.save_snapshot(mark); wal.sync()                reading may start behind the mark
    wal.prepare_next(); wal.release(index)             housekeeping, may run in a second thread

`append` only pastes bytes together; `sync` makes one record of everything pasted since the last one (one CRC, one write, one
fdatasync), however many batches that were. A segment that is full is left for the next one, which `prepare_next` has made and
whose name is durable long before, so that the change costs no more than the write that crosses it.

What this file must never do: return from `sync` before fdatasync has, write anything after a failure (a failed fsync may have
dropped what came before), or begin a segment before the one before it is durable.

One thread calls append, save_snapshot, sync and close; one other thread at a time may call prepare_next and release.
Format: wal_format.py. Reading and repair: wal_recovery.py.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from threading import Lock
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft.codec import encode_snapshot
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.storage import wal_format as form
from tercet.storage.interfaces import File, FileSystem
from tercet.storage.wal_recovery import Recovered, Scan, Segment, recover, segment_numbers, segment_path

SEGMENT_BYTES: Final = 64_000_000
TOUCH_BYTES: Final = 256 << 10
"""A reserved block that is written for the first time makes ext4 commit its own journal. So every so often zeros are written
this far ahead, together with a batch: one of 10 kB is then durable in 0.2 ms instead of 0.3 (medians, virtual disk)."""
RECORD_BYTES_MAX: Final = 8 << 20  # what waits is split into records of about this size, so that reading stays bounded

__all__ = ["SEGMENT_BYTES", "WAL", "Recovered"]


class WAL:
    """See the module's head. Raises StorageFailure for whatever the disk refuses, and then only that."""

    def __init__(self, fs: FileSystem, directory: str, scan: Scan, *, segment_bytes: int) -> None:
        """Use `create` or `open`."""
        self.directory = directory
        self.metadata = scan.recovered.metadata
        self.segment_bytes = segment_bytes
        self.bytes_written = 0
        self._fs = fs
        self._salt = scan.salt
        self._seed = form.seed_of(scan.salt)
        self._state = scan.recovered.hard_state
        self._snapshot = scan.recovered.snapshot
        self._durable_snapshot = scan.recovered.snapshot
        self._next_index = scan.next_index
        # The same two as the records so far have them: a segment's head must not run ahead of what precedes it.
        self._recorded_state = self._state
        self._recorded_next_index = self._next_index
        # What `append` has pasted together and no record holds yet.
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._state_changed = False
        # Whole records on their way into the newest segment, at `_offset`.
        self._records: list[bytes] = []
        self._records_bytes = 0
        self._offset = scan.end
        self._durable = scan.end
        self._touched = scan.end  # blocks up to here were written before, if only with zeros
        self._check = scan.check
        self._failure: StorageFailure | None = None
        # Shared with the housekeeping thread: held only for moments, but for the making of the next segment.
        self._lock = Lock()
        self._segments = scan.segments  # those whose head is durable
        self._newest = scan.segments[-1]
        self._spare: File | None = None
        self._file = self._open_segment(self._newest.number)
        if scan.spare is not None:
            self._spare = self._open_segment(scan.spare)

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
        """Begin a log; the parent directory must exist. A power cut on the way leaves no log at all.

        metadata: the owner's bytes (whose log this is), returned by every `open`.
        salt: 8 bytes no client knows; given only by who needs the same file twice.
        """
        if cls.exists(fs, directory):
            raise StorageFailure(f"a write-ahead log exists already in {directory}")
        fs.make_directory(directory)
        fs.sync_directory(posixpath.dirname(directory) or ".")
        salt = os.urandom(8) if salt is None else salt
        head = form.Head(0, 1, salt, HardState(), metadata, None)
        body = form.encode_head(head)
        data, check = form.encode_record(form.HEAD, [body], len(body), durable=0, previous=0, seed=form.seed_of(salt))
        _make_segment(fs, directory, 0, data, max(segment_bytes, len(data))).close()
        recovered = Recovered(metadata, HardState(), None, [], None)
        scan = Scan(recovered, salt, [Segment(0, segment_path(directory, 0), 1)], 1, len(data), check, None)
        return cls(fs, directory, scan, segment_bytes=segment_bytes)

    @classmethod
    def open(cls, fs: FileSystem, directory: str, *, segment_bytes: int = SEGMENT_BYTES) -> tuple[WAL, Recovered]:
        """Read what was promised and go on behind it. A torn tail is cut (`Recovered.repaired` says so), damage refused."""
        for name in fs.list(directory) if fs.exists(directory) else []:
            if name.endswith(".tmp"):  # a next segment that was never finished
                fs.remove(posixpath.join(directory, name))
        scan = recover(fs, directory)
        # What was just read must not vanish: the process before may have died between write and fsync, or rename and fsync.
        fs.sync_directory(directory)
        wal = cls(fs, directory, scan, segment_bytes=segment_bytes)
        wal._file.datasync()
        return wal, scan.recovered

    @staticmethod
    def exists(fs: FileSystem, directory: str) -> bool:
        return bool(segment_numbers(fs, directory))

    @property
    def segments(self) -> list[str]:
        """Paths, oldest first; the last is being written."""
        return [segment.path for segment in self._segments]

    @property
    def newest_segment(self) -> int:
        """Number of the segment being written."""
        return self._newest.number

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Add to what the next `sync` makes durable. Entries follow each other; the first may have an index already written."""
        if hard_state is not None:
            self._state = hard_state
            self._state_changed = True
        if entries:
            parts = self._parts
            size = 0
            for entry in entries:
                wire = entry.wire
                count = len(wire)
                size += count
                parts.append(count.to_bytes(8, "big"))
                parts.append(wire)
            self._parts_bytes += size + 8 * len(entries)
            self._next_index = entries[-1].index + 1
            if self._parts_bytes >= RECORD_BYTES_MAX:
                self._close_batch()

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Add a mark: reading may start behind `snapshot`. Durable, like all else, with the next `sync`.

        A snapshot proves that its index is committed and its term has begun, also where the hard state that says so is still to
        come: the mark carries it. A term first heard of here has no vote in it yet.
        """
        self._close_batch()
        term, vote, commit = self._state
        if snapshot.term > term:
            term, vote = snapshot.term, 0
        self._state = HardState(term, vote, max(commit, snapshot.index))
        self._next_index = max(self._next_index, snapshot.index + 1)
        wire = encode_snapshot(snapshot)
        self._add_record(form.MARK, [form.STATE.pack(*self._state), wire], form.STATE.size + len(wire))
        self._snapshot = snapshot

    def sync(self) -> None:
        """Make durable all that was appended."""
        self._close_batch()
        self._flush()

    def close(self) -> None:
        """Write what waits (a commit index that rode along) and let go of the files."""
        try:
            if self._failure is None:
                self.sync()
        finally:
            self._file.close()
            if self._spare is not None:
                self._spare.close()

    def prepare_next(self) -> None:
        """Make the next segment ahead of need. What fails here will fail again, and count, when the segment is needed."""
        with self._lock:
            if self._spare is None:
                self._spare = self._make_next()

    def release(self, index: int) -> None:
        """Remove whole segments of which nothing is needed any more: no entry behind `index` or behind the newest mark.

        The mark itself needs no care: each segment repeats in its head the one that was in force when it was begun.
        """
        behind = min(index, self._durable_snapshot.index) if self._durable_snapshot else 0
        while True:
            with self._lock:
                if len(self._segments) < 2 or self._segments[1].first_index > behind + 1:
                    return
                oldest = self._segments.pop(0)
            self._fs.remove(oldest.path)
            # One by one: a removal that survives a power cut while an earlier one does not would leave a gap.
            self._fs.sync_directory(self.directory)

    def _close_batch(self) -> None:
        """Turn what `append` pasted into a record."""
        if self._parts or self._state_changed:
            parts, size = self._parts, self._parts_bytes
            self._parts, self._parts_bytes, self._state_changed = [], 0, False
            self._add_record(form.BATCH, [form.STATE.pack(*self._state), *parts], form.STATE.size + size)

    def _add_record(self, kind: int, parts: list[bytes], size: int) -> None:
        if self._failure is not None:
            raise StorageFailure(f"write-ahead log {self.directory} is stopped: {self._failure}")
        end = self._offset + self._records_bytes + form.record_size(size)
        if end > self.segment_bytes and self._offset + self._records_bytes > 0:
            self._begin_segment()
        record, self._check = form.encode_record(
            kind, parts, size, durable=self._durable, previous=self._check, seed=self._seed
        )
        self._records.append(record)
        self._records_bytes += len(record)
        self._recorded_state = self._state
        self._recorded_next_index = self._next_index

    def _begin_segment(self) -> None:
        """Go over to the next segment, once all before it is durable."""
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
        self._offset = self._durable = self._touched = 0
        head = form.Head(number, self._newest.first_index, self._salt, self._recorded_state, self.metadata, self._snapshot)
        body = form.encode_head(head)
        record, self._check = form.encode_record(form.HEAD, [body], len(body), durable=0, previous=self._check, seed=self._seed)
        self._records.append(record)
        self._records_bytes += len(record)

    def _flush(self) -> None:
        if self._failure is not None:
            raise StorageFailure(f"write-ahead log {self.directory} is stopped: {self._failure}")
        if not self._records:
            return
        size = self._records_bytes
        if self._offset + size > self._touched:
            self._touched = min(self._offset + size + TOUCH_BYTES, max(self.segment_bytes, self._offset + size))
            self._records.append(bytes(self._touched - self._offset - size))
        data = b"".join(self._records)
        try:
            self._file.pwrite(data, self._offset)
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

    def _make_next(self) -> File:
        number = self._newest.number + 1
        return _make_segment(self._fs, self.directory, number, b"", self.segment_bytes)

    def _open_segment(self, number: int) -> File:
        file = self._fs.open(segment_path(self.directory, number))
        if file.size() < self.segment_bytes:
            file.allocate(self.segment_bytes)
        return file


def _make_segment(fs: FileSystem, directory: str, number: int, data: bytes, size: int) -> File:
    """A whole segment, its space reserved and its name durable, or none: what fails on the way leaves no name behind."""
    path = segment_path(directory, number)
    unfinished = path + ".tmp"
    file = fs.open(unfinished, create=True)
    try:
        file.truncate(0)
        file.allocate(size)
        if data:
            file.pwrite(data, 0)
        file.datasync()
        fs.rename(unfinished, path)
        fs.sync_directory(directory)
    except StorageFailure:
        file.close()
        with suppress(StorageFailure):  # it may be renamed already, or the disk gone altogether
            fs.remove(unfinished)
        raise
    return file
