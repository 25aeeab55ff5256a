"""How is the write-ahead log laid out, and when is a bad record a torn tail rather than damage?

A log is a directory of segments `%016x.wal`, numbered without gaps; the first one there is the oldest still needed. A segment
is a run of records from offset 0, then zeros up to its preallocated size. Integers are big-endian. A record, its size a
multiple of 8:

    offset  size  field
         0     4  MAGIC 0x7E4CE701
         4     4  kind: 1 HEAD, 2 BATCH, 3 MARK
         8     4  length of the body, L
        12     4  durable: before this record was written, fdatasync had covered this segment up to that offset
        16     4  previous: `check` of the record before, also across segments; 0 in the very first
        20     L  body
           0..7   zeros, so that the record ends on a multiple of 8
               4  check: CRC-32C of all the above, begun with the CRC-32C of the log's salt
               4  END 0x5ED1E4D5; like MAGIC it holds no zero byte

    HEAD, first in each segment:
        u32 format version 1 | u64 segment number | u64 first index | 8 bytes salt | state | u32 size | metadata | snapshot
        (no bytes where there is none yet)
    BATCH, what one call of `sync` made durable:
        state | entries, each as u64 size, raftpb.Entry
    MARK, the log may be read from here on:
        state | snapshot
    state is u64 term | u64 vote | u64 commit, in force from this record on; snapshot is raftpb.Snapshot; `first index` is the
    index that an entry following the log so far has; metadata are the owner's bytes, the same in all segments; salt is random,
    one a log.

Reading. An entry with an index already seen replaces that one and all behind it. A mark that the entries seen so far do not
lead to (its index is behind them, or their term there differs) replaces all of them. The last state wins.

Torn or damaged? A power cut may leave any part of what was written since the last fdatasync, and zeros where the rest belongs.
So a record that does not check is a torn tail only if all of this holds, and damage otherwise:
  1. it is in the last segment that was begun: a segment is synced before the next one is begun;
  2. no good record behind it says (`durable`) that the place was once synced;
  3. something is missing: a sector of zeros, or the record's end.
A flipped bit in what was synced breaks 2; in the very last record it leaves END in place and no sector empty, and so breaks 3.
The salt keeps a client from writing a value that passes for a record under 2.

Source: etcd server/storage/wal (CRC chain, torn-tail rule by zero sectors). Departs in: one record a batch instead of one an
entry (one CRC and one write however many entries), rule 2, and segment names without an index, so that the next one can be made
in full, its name durable, before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple

import google_crc32c

from tercet.errors import StorageFailure
from tercet.raft.codec import MalformedMessage, decode_entry, decode_snapshot, encode_snapshot
from tercet.raft.types import Entry, HardState, Snapshot

MAGIC: Final = 0x7E4CE701
END: Final = (0x5ED1E4D5).to_bytes(4, "big")
HEAD: Final = 1
BATCH: Final = 2
MARK: Final = 3
FORMAT_VERSION: Final = 1
SECTOR: Final = 512

HEADER: Final = Struct(">IIIII")
TRAILER_BYTES: Final = 8
STATE: Final = Struct(">QQQ")
_HEAD_START: Final = Struct(">IQQ8s")
_SIZE: Final = Struct(">Q")
_PADDING: Final = [bytes(count) for count in range(8)]
_MAGIC_BYTES: Final = MAGIC.to_bytes(4, "big")
_ZEROS: Final = bytes(1 << 16)

Refuse = Callable[[int, str], StorageFailure]
"""Makes the error for an offset of the segment at hand: it knows the file's name."""

RefuseText = Callable[[str], StorageFailure]
"""The same for the record at hand."""


class Record:
    """A record that checks. Written out, since a NamedTuple with a memoryview cannot be compiled."""

    __slots__ = ("body", "check", "durable", "end", "kind", "offset", "previous")

    def __init__(self, offset: int, end: int, kind: int, durable: int, previous: int, check: int, body: memoryview) -> None:
        self.offset = offset
        self.end = end
        self.kind = kind
        self.durable = durable
        self.previous = previous
        self.check = check
        self.body = body


class Head(NamedTuple):
    """What a segment knows about the log before it."""

    number: int
    first_index: int
    salt: bytes
    state: HardState
    metadata: bytes
    snapshot: Snapshot | None


def record_size(body_bytes: int) -> int:
    return (HEADER.size + body_bytes + 7 & ~7) + TRAILER_BYTES


def encode_record(
    kind: int, parts: list[bytes], body_bytes: int, *, durable: int, previous: int, seed: int
) -> tuple[bytes, int]:
    """The record's bytes and its `check`. `parts` make up the body, `body_bytes` long."""
    header = HEADER.pack(MAGIC, kind, body_bytes, durable, previous)
    checked = b"".join((header, *parts, _PADDING[-(HEADER.size + body_bytes) & 7]))
    check: int = google_crc32c.extend(seed, checked)
    return b"".join((checked, check.to_bytes(4, "big"), END)), check


def parse_record(data: bytes, offset: int, seed: int) -> Record | None:
    """The record at `offset`, or None where there is none that checks. END only bears witness where a record does not."""
    if offset + HEADER.size + TRAILER_BYTES > len(data):
        return None
    magic, kind, length, durable, previous = HEADER.unpack_from(data, offset)
    end = offset + record_size(length)
    check_at = end - TRAILER_BYTES
    if magic != MAGIC or check_at + 4 > len(data):
        return None
    check = int.from_bytes(data[check_at : check_at + 4], "big")
    if google_crc32c.extend(seed, data[offset:check_at]) != check:
        return None
    body = memoryview(data)[offset + HEADER.size : offset + HEADER.size + length]
    return Record(offset, end, kind, durable, previous, check, body)


def encode_head(head: Head) -> bytes:
    snapshot = b"" if head.snapshot is None else encode_snapshot(head.snapshot)
    start = _HEAD_START.pack(FORMAT_VERSION, head.number, head.first_index, head.salt)
    return b"".join((start, STATE.pack(*head.state), len(head.metadata).to_bytes(4, "big"), head.metadata, snapshot))


def parse_head(body: bytes, refuse: Refuse) -> Head:
    """Read before anything is checked, since the salt that begins the check is in here."""
    fixed = _HEAD_START.size + STATE.size + 4
    if len(body) < fixed:
        raise refuse(0, "the segment's head is too short")
    version, number, first_index, salt = _HEAD_START.unpack_from(body)
    if version != FORMAT_VERSION:
        raise refuse(0, f"format version {version} is unknown to this program")
    state = HardState(*STATE.unpack_from(body, _HEAD_START.size))
    size = int.from_bytes(body[fixed - 4 : fixed], "big")
    if fixed + size > len(body):
        raise refuse(0, "the metadata do not fit the segment's head")
    rest = body[fixed + size :]
    snapshot = read_snapshot(rest, lambda text: refuse(0, text)) if rest else None
    return Head(number, first_index, salt, state, body[fixed : fixed + size], snapshot)


def seed_of(salt: bytes) -> int:
    return int(google_crc32c.value(salt))


def parse_entries(body: memoryview, refuse: RefuseText) -> Iterator[Entry]:
    """The entries of a BATCH, behind its state."""
    at, end = STATE.size, len(body)
    while at < end:
        if at + 8 > end:
            raise refuse("an entry's size is cut off")
        (size,) = _SIZE.unpack_from(body, at)
        at += 8 + size
        if at > end:
            raise refuse("an entry reaches beyond its record")
        wire = bytes(body[at - size : at])
        try:
            yield decode_entry(wire)
        except MalformedMessage as error:
            raise refuse(str(error)) from error


def read_snapshot(wire: bytes, refuse: RefuseText) -> Snapshot:
    try:
        return decode_snapshot(wire)
    except MalformedMessage as error:
        raise refuse(str(error)) from error


def end_of_content(data: bytes, start: int) -> int:
    """Behind the last byte at or after `start` that is not zero; `start` if all are."""
    end = len(data)
    while end - start >= len(_ZEROS) and data[end - len(_ZEROS) : end] == _ZEROS:
        end -= len(_ZEROS)
    last = max(start, end - len(_ZEROS))
    return last + len(data[last:end].rstrip(b"\0"))


def reason_for_refusal(data: bytes, offset: int, seed: int) -> str | None:
    """Why the bad record at `offset` of the last segment is damage; None if a power cut explains it (rules 2 and 3)."""
    end = end_of_content(data, offset)
    for record in _later_records(data, offset, end, seed):
        if record.durable > offset:
            return f"the record does not check, and the one at offset {record.offset} was written when it was already durable"
    if _has_empty_sector(data, offset, end):
        return None
    if end % 8 == 0 and data[end - 4 : end] == END:
        return "the record does not check, though no part of it is missing"
    if end - offset < HEADER.size:
        return None  # the file was cut inside the header
    magic, _, length, _, _ = HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        return "there is no record, and no sector is missing that could have held its start"
    if end > offset + record_size(length):
        return "the record does not check, and something follows it"
    return None


def _later_records(data: bytes, offset: int, end: int, seed: int) -> Iterator[Record]:
    at = data.find(_MAGIC_BYTES, offset + 1, end)
    while at >= 0:
        if at % 8 == 0:
            record = parse_record(data, at, seed)
            if record is not None:
                yield record
        at = data.find(_MAGIC_BYTES, at + 1, end)


def _has_empty_sector(data: bytes, start: int, end: int) -> bool:
    """Is a sector, or the part of it within start..end, all zeros? Sectors count from the file's start, as the disk's do."""
    while start < end:
        stop = min(start - start % SECTOR + SECTOR, end)
        if data.count(0, start, stop) == stop - start:
            return True
        start = stop
    return False
