"""The file format of the write-ahead log, and the rule that tells a torn tail from damage.

A log is a directory of segments: files named `%016x.wal` by their numbers, which have no gaps. The lowest number is the oldest
segment still needed. A segment holds records from offset 0 on, then zeros up to its reserved size. Integers are unsigned and
big-endian; a CRC is CRC-32C (Castagnoli). A record starts and ends at a multiple of 8:

    offset  size  field
         0     4  magic 0x7E4CE701
         4     4  kind: 1 HEAD, 2 BATCH, 3 SNAPSHOT
         8     4  L, bytes of the body
        12     4  synced_to: when this record was written, the segment was durable up to this offset
        16     4  previous_crc: crc of the record before, also across segments; 0 in the first record of a log
        20     L  body
      20+L     P  zeros, such that 20+L+P is a multiple of 8
    20+L+P     4  crc: CRC of the salt followed by all bytes of the record up to here
    24+L+P     4  end 0x5ED1E4D5

Bodies; `state` is u64 term, u64 vote, u64 commit, and replaces the one before:

    HEAD      u32 version, 1 | u64 segment number | u64 first index | 8 bytes salt | state | u32 M | M bytes metadata | snapshot
    BATCH     state | entries, each u64 size, raftpb.Entry
    SNAPSHOT  state | snapshot

A segment begins with its HEAD, which summarizes the log before it: `first index` is the index of the next entry, `snapshot` the
newest one recorded, as a raftpb.Snapshot, or no bytes if there is none. Salt (random) and metadata (the caller's) are the same
in all segments of a log.

Reading. Take state, first index and snapshot from the oldest segment's HEAD, then read all records in order. A BATCH appends
its entries; an entry whose index is in the log truncates the log there first. A SNAPSHOT whose index is beyond the log, or is
in it with another term, empties the log: the next entry follows the snapshot. The member restarts from the newest snapshot
whose index is committed, and the entries after it.

Torn or damaged. A power failure may leave any part of what was written since the last fdatasync, with zeros in place of the
rest. So a record with a wrong crc is a torn tail, to be cut, if all of this holds; otherwise the log is damaged:
  1. It is in the last segment that has a HEAD. A segment is synced before the next one is begun.
  2. No valid record after it has a `synced_to` beyond its offset: that would prove that it once was durable.
  3. Something is missing: some sector (512 bytes) holds only zeros, or the record's end is cut off.
A bit flipped in synced data violates 2; in the very last record it violates 3, since `end` is there and no sector is empty. The
salt keeps clients from writing a value that looks like a valid record to rule 2.

Source: etcd server/storage/wal (chain of CRCs, torn tail recognised by sectors of zeros). Departs in: one record per batch
instead of one per entry (one CRC and one write for any number of entries); rule 2; segment names without an index, so that the
next segment can be created, its name durable, before it is needed.
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
SNAPSHOT: Final = 3
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
"""Makes the error for an offset in the current segment; adds the file's name."""

RefuseText = Callable[[str], StorageFailure]
"""The same for the current record."""


class Record:
    """A record with a valid crc. Not a NamedTuple: mypyc cannot compile one with a memoryview."""

    __slots__ = ("body", "crc", "end", "kind", "offset", "previous_crc", "synced_to")

    def __init__(self, offset: int, end: int, kind: int, synced_to: int, previous_crc: int, crc: int, body: memoryview) -> None:
        self.offset = offset
        self.end = end
        self.kind = kind
        self.synced_to = synced_to
        self.previous_crc = previous_crc
        self.crc = crc
        self.body = body


class Head(NamedTuple):
    """The body of a HEAD record: a summary of the log before its segment."""

    number: int
    first_index: int
    salt: bytes
    state: HardState
    metadata: bytes
    snapshot: Snapshot | None


def record_size(body_bytes: int) -> int:
    return (HEADER.size + body_bytes + 7 & ~7) + TRAILER_BYTES


def encode_record(
    kind: int, parts: list[bytes], body_bytes: int, *, synced_to: int, previous_crc: int, seed: int
) -> tuple[bytes, int]:
    """The record's bytes and its crc. The body, of `body_bytes` bytes, is the concatenation of `parts`."""
    header = HEADER.pack(MAGIC, kind, body_bytes, synced_to, previous_crc)
    checked = b"".join((header, *parts, _PADDING[-(HEADER.size + body_bytes) & 7]))
    crc: int = google_crc32c.extend(seed, checked)
    return b"".join((checked, crc.to_bytes(4, "big"), END)), crc


def parse_record(data: bytes, offset: int, seed: int) -> Record | None:
    """The record at `offset`; None without a valid one there. Does not look at END: that matters only for a broken record."""
    if offset + HEADER.size + TRAILER_BYTES > len(data):
        return None
    magic, kind, length, synced_to, previous_crc = HEADER.unpack_from(data, offset)
    end = offset + record_size(length)
    crc_at = end - TRAILER_BYTES
    if magic != MAGIC or crc_at + 4 > len(data):
        return None
    crc = int.from_bytes(data[crc_at : crc_at + 4], "big")
    if google_crc32c.extend(seed, data[offset:crc_at]) != crc:
        return None
    body = memoryview(data)[offset + HEADER.size : offset + HEADER.size + length]
    return Record(offset, end, kind, synced_to, previous_crc, crc, body)


def encode_head(head: Head) -> bytes:
    snapshot = b"" if head.snapshot is None else encode_snapshot(head.snapshot)
    start = _HEAD_START.pack(FORMAT_VERSION, head.number, head.first_index, head.salt)
    return b"".join((start, STATE.pack(*head.state), len(head.metadata).to_bytes(4, "big"), head.metadata, snapshot))


def parse_head(body: bytes, refuse: Refuse) -> Head:
    """Parse an unverified HEAD: it contains the salt, without which no crc can be verified."""
    fixed = _HEAD_START.size + STATE.size + 4
    if len(body) < fixed:
        raise refuse(0, "the segment's head record is too short")
    version, number, first_index, salt = _HEAD_START.unpack_from(body)
    if version != FORMAT_VERSION:
        raise refuse(0, f"unknown format version {version}")
    state = HardState(*STATE.unpack_from(body, _HEAD_START.size))
    size = int.from_bytes(body[fixed - 4 : fixed], "big")
    if fixed + size > len(body):
        raise refuse(0, "the metadata do not fit into the segment's head record")
    rest = body[fixed + size :]
    snapshot = read_snapshot(rest, lambda text: refuse(0, text)) if rest else None
    return Head(number, first_index, salt, state, body[fixed : fixed + size], snapshot)


def seed_of(salt: bytes) -> int:
    """The crc of the salt; a record's crc continues it."""
    return int(google_crc32c.value(salt))


def parse_entries(body: memoryview, refuse: RefuseText) -> Iterator[Entry]:
    """The entries of a BATCH, which follow its state."""
    at, end = STATE.size, len(body)
    while at < end:
        if at + 8 > end:
            raise refuse("an entry's size is cut off")
        (size,) = _SIZE.unpack_from(body, at)
        at += 8 + size
        if at > end:
            raise refuse("an entry extends beyond its record")
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
    """Offset after the last non-zero byte at or after `start`; `start` if all are zero."""
    end = len(data)
    while end - start >= len(_ZEROS) and data[end - len(_ZEROS) : end] == _ZEROS:
        end -= len(_ZEROS)
    last = max(start, end - len(_ZEROS))
    return last + len(data[last:end].rstrip(b"\0"))


def reason_for_refusal(data: bytes, offset: int, seed: int) -> str | None:
    """Why the broken record at `offset` of the last segment is damage; None if it is a torn tail (rules 2 and 3)."""
    end = end_of_content(data, offset)
    for record in _later_records(data, offset, end, seed):
        if record.synced_to > offset:
            return f"wrong crc in a record that was durable when the record at offset {record.offset} was written"
    if _has_empty_sector(data, offset, end):
        return None
    if end % 8 == 0 and data[end - 4 : end] == END:
        return "wrong crc in a record of which no part is missing"
    if end - offset < HEADER.size:
        return None  # the file was cut inside the header
    magic, _, length, _, _ = HEADER.unpack_from(data, offset)
    if magic != MAGIC:
        return "no record starts here, and no sector is missing"
    if end > offset + record_size(length):
        return "wrong crc in a record that others follow"
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
    """Whether any sector, or its part within start..end, is all zeros. Sectors are aligned to the start of the file."""
    while start < end:
        stop = min(start - start % SECTOR + SECTOR, end)
        if data.count(0, start, stop) == stop - start:
            return True
        start = stop
    return False
