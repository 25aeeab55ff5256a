"""Reading the write-ahead log at start: replay all segments, cut a torn tail, refuse damage.

`_Replay` is a fold over the records in order. `_Reader` verifies the chain: segment numbers without gaps, each record's
`previous_crc`, the same salt and metadata in every segment. Damage is a `StorageFailure` with file and offset. A torn tail is
cut, and the segment as it was is kept as `NAME.broken`.

The format, and the rule that tells a torn tail from damage: wal_format.py.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Snapshot
from tercet.storage import wal_format as form
from tercet.storage.interfaces import FileSystem

SEGMENT_NAME: Final = re.compile(r"([0-9a-f]{16})\.wal")


class Recovered(NamedTuple):
    """The log's content. `entries` start right after `snapshot`, or at index 1 without one."""

    metadata: bytes
    hard_state: HardState
    snapshot: Snapshot | None
    entries: list[Entry]
    repaired: str | None  # for the operator: what was cut; None if nothing


class Segment(NamedTuple):
    """A file of the log. `first_index` is the index of the first entry that it may hold."""

    number: int
    path: str
    first_index: int


class Scan(NamedTuple):
    """What recovery found, and where writing continues."""

    recovered: Recovered
    salt: bytes
    segments: list[Segment]
    next_index: int
    end: int  # offset in the newest segment
    synced_to: int  # its bytes before this offset were durable before the last record was written
    crc: int
    spare: int | None  # number of a segment that exists and has no HEAD yet


def segment_path(directory: str, number: int) -> str:
    return posixpath.join(directory, f"{number:016x}.wal")


def segment_numbers(fs: FileSystem, directory: str) -> list[int]:
    if not fs.exists(directory):
        return []
    matches = map(SEGMENT_NAME.fullmatch, fs.list(directory))
    return sorted(int(match.group(1), 16) for match in matches if match)


def recover(fs: FileSystem, directory: str) -> Scan:
    """Read the log of `directory`. Raises StorageFailure where it is absent or damaged."""
    numbers = segment_numbers(fs, directory)
    if not numbers:
        raise StorageFailure(f"no write-ahead log in {directory}")
    for before, number in pairwise(numbers):
        if number != before + 1:
            raise StorageFailure(f"write-ahead log {segment_path(directory, before + 1)} is missing")
    newest = _read(fs, segment_path(directory, numbers[-1]))
    spare = numbers.pop() if len(numbers) > 1 and form.end_of_content(newest, 0) == 0 else None
    return _Reader(fs, directory, numbers, spare).read(newest if spare is None else None)


def _read(fs: FileSystem, path: str) -> bytes:
    file = fs.open(path)
    try:
        return file.pread(file.size(), 0)
    finally:
        file.close()


class _Reader:
    """Reads the segments in order, once."""

    def __init__(self, fs: FileSystem, directory: str, numbers: list[int], spare: int | None) -> None:
        self._fs = fs
        self._directory = directory
        self._numbers = numbers
        self._spare = spare
        self._salt = b""
        self._seed = 0
        self._crc = 0
        self._end = 0
        self._synced_to = 0
        self._repaired: str | None = None
        self._segments: list[Segment] = []
        self._metadata = b""
        self._replay = _Replay()

    def read(self, newest_data: bytes | None) -> Scan:
        """newest_data: the last segment's bytes, if they have been read."""
        for number in self._numbers[:-1]:
            self._read_segment(number, _read(self._fs, segment_path(self._directory, number)))
        newest = self._numbers[-1]
        self._read_segment(newest, newest_data or _read(self._fs, segment_path(self._directory, newest)))
        recovered = self._replay.result(self._metadata, self._repaired, self._segments[0].path)
        return Scan(
            recovered=recovered,
            salt=self._salt,
            segments=self._segments,
            next_index=self._replay.next_index,
            end=self._end,
            synced_to=self._synced_to,
            crc=self._crc,
            spare=self._spare,
        )

    def _read_segment(self, number: int, data: bytes) -> None:
        newest = number == self._numbers[-1]
        if newest and self._segments and not self._head_is_whole(data, number):
            # Its HEAD is torn, so all that was synced is in the segments before.
            self._repair(number, data, 0)
            self._spare = number
            return
        head = self._read_head(data, number)
        self._segments.append(Segment(number, segment_path(self._directory, number), head.first_index))
        offset = 0
        while (record := form.parse_record(data, offset, self._seed)) is not None:
            self._check_chain(record, number)
            self._take(record, number)
            self._crc = record.crc
            self._synced_to = record.synced_to
            offset = record.end
        self._end = offset
        if form.end_of_content(data, offset) == offset:
            return
        if not newest:
            raise self._damage(number, offset, "wrong crc in a record that a later segment follows")
        self._repair(number, data, offset)

    def _head_is_whole(self, data: bytes, number: int) -> bool:
        return form.parse_record(data, 0, self._seed) is not None

    def _read_head(self, data: bytes, number: int) -> form.Head:
        """The HEAD, parsed before its crc is verified: it contains the salt."""
        if len(data) < form.HEADER.size + form.TRAILER_BYTES:
            raise self._damage(number, 0, "the file is too short for a segment's head record")
        magic, kind, length, _, _ = form.HEADER.unpack_from(data)
        if magic != form.MAGIC or kind != form.HEAD or form.record_size(length) > len(data):
            raise self._damage(number, 0, "not a segment of a write-ahead log, or its head record is damaged")
        body = data[form.HEADER.size : form.HEADER.size + length]
        head = form.parse_head(body, lambda offset, text: self._damage(number, offset, text))
        if not self._segments:
            self._salt, self._seed, self._metadata = head.salt, form.seed_of(head.salt), head.metadata
        if form.parse_record(data, 0, self._seed) is None:
            raise self._damage(number, 0, "wrong crc in the segment's head record")
        if head.number != number:
            raise self._damage(number, 0, f"the head record says that this is segment {head.number:x}")
        if head.salt != self._salt or head.metadata != self._metadata:
            raise self._damage(number, 0, "the segment belongs to another log")
        return head

    def _check_chain(self, record: form.Record, number: int) -> None:
        first_of_all = record.offset == 0 and len(self._segments) == 1
        if not first_of_all and record.previous_crc != self._crc:
            raise self._damage(number, record.offset, "the record does not follow the one before: records are missing")

    def _take(self, record: form.Record, number: int) -> None:
        def refuse(text: str) -> StorageFailure:
            return self._damage(number, record.offset, text)

        body = record.body
        if record.kind == form.HEAD:
            head = form.parse_head(bytes(body), lambda _, text: refuse(text))
            if len(self._segments) == 1:
                self._replay.begin(head)
        elif len(body) < form.STATE.size:
            raise refuse("the record is too short")
        elif record.kind == form.BATCH:
            self._replay.batch(body, refuse)
        elif record.kind == form.SNAPSHOT:
            self._replay.snapshot(body, refuse)
        else:
            raise refuse(f"unknown record kind {record.kind}")

    def _repair(self, number: int, data: bytes, offset: int) -> None:
        """Cut a torn tail, after copying the segment. Raises StorageFailure if it is damage instead."""
        reason = form.reason_for_refusal(data, offset, self._seed)
        if reason is not None:
            raise self._damage(number, offset, reason)
        path = segment_path(self._directory, number)
        broken = path + ".broken"
        end = form.end_of_content(data, offset)
        copy = self._fs.open(broken, create=True)
        copy.truncate(0)
        copy.pwrite(data[:end], 0)
        copy.datasync()
        copy.close()
        self._fs.sync_directory(self._directory)
        file = self._fs.open(path)
        file.truncate(offset)
        file.allocate(len(data))
        file.datasync()
        file.close()
        self._repaired = (
            f"cut {end - offset} bytes of a torn record at offset {offset} of {path}; the original is kept as {broken}"
        )

    def _damage(self, number: int, offset: int, text: str) -> StorageFailure:
        return StorageFailure(f"write-ahead log {segment_path(self._directory, number)} at offset {offset}: {text}")


@dataclass(slots=True)
class _Replay:
    """The log as of the records read so far. `entries` are first_index .. next_index - 1."""

    first_index: int = 1
    state: HardState = field(default_factory=HardState)
    entries: list[Entry] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)

    @property
    def next_index(self) -> int:
        return self.first_index + len(self.entries)

    def begin(self, head: form.Head) -> None:
        self.first_index = head.first_index
        self.state = head.state
        self.snapshots = [] if head.snapshot is None else [head.snapshot]

    def batch(self, body: memoryview, refuse: form.RefuseText) -> None:
        self.state = HardState(*form.STATE.unpack_from(body))
        next_index = self.next_index
        append = self.entries.append
        for entry in form.parse_entries(body, refuse):
            if entry.index != next_index:
                self._truncate(entry.index, refuse)
                append = self.entries.append
                next_index = entry.index
            append(entry)
            next_index += 1

    def _truncate(self, index: int, refuse: form.RefuseText) -> None:
        if index > self.next_index:
            raise refuse(f"entry {index} where {self.next_index} should follow")
        if index < self.first_index:
            self.first_index = index
            self.entries = []
        else:
            del self.entries[index - self.first_index :]

    def snapshot(self, body: memoryview, refuse: form.RefuseText) -> None:
        self.state = HardState(*form.STATE.unpack_from(body))
        snapshot = form.read_snapshot(bytes(body[form.STATE.size :]), refuse)
        self.snapshots.append(snapshot)
        if snapshot.index >= self.next_index or self._term(snapshot.index) not in (None, snapshot.term):
            self.first_index = snapshot.index + 1
            self.entries = []

    def _term(self, index: int) -> int | None:
        """The term of an entry; None if it is not in the log."""
        return self.entries[index - self.first_index].term if index >= self.first_index else None

    def result(self, metadata: bytes, repaired: str | None, oldest_path: str) -> Recovered:
        """The newest snapshot whose index is committed, and the entries after it."""
        usable = [snapshot for snapshot in self.snapshots if snapshot.index <= self.state.commit]
        snapshot = max(usable, key=lambda snapshot: snapshot.index, default=None)
        base = snapshot.index if snapshot else 0
        if self.first_index > base + 1:
            raise StorageFailure(
                f"write-ahead log {oldest_path} at offset 0: entries {base + 1} to {self.first_index - 1} are missing"
            )
        del self.entries[: base + 1 - self.first_index]
        self.first_index = base + 1
        return Recovered(metadata, self.state, snapshot, self.entries, repaired)
