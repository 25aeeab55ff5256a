"""etcd's write-ahead log, read and written, to convert data directories.

A log is a directory of files `%016x-%016x.wal` (sequence, index of the first entry). A file is frames, each a little-endian u64
and a walpb.Record, padded to 8 bytes. The lower 56 bits of the u64 are the record's size, its top byte is 0x80 + padding where
there is any; a zero ends the log. A record has a kind, data, and the CRC-32C of all data of the log so far; a record of kind
CRC repeats it at the beginning of each file.

Source: etcd server/storage/wal/{encoder,decoder,wal}.go, walpb/record.proto; server/etcdserver/api/snap for the `.snap` file.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import google_crc32c

from tercet.errors import StorageFailure
from tercet.proto.wire import decode_varint, varint
from tercet.raft.codec import (
    MalformedMessage,
    decode_conf_state,
    decode_entry,
    decode_hard_state,
    encode_conf_state,
    encode_hard_state,
    encode_snapshot,
)
from tercet.raft.types import ConfState, Entry, HardState, Snapshot

METADATA: Final = 1
ENTRY: Final = 2
STATE: Final = 3
CRC: Final = 4
SNAPSHOT: Final = 5
_NAME: Final = re.compile(r"([0-9a-f]{16})-([0-9a-f]{16})\.wal")
_LENGTH: Final = struct.Struct("<q")
_SIZE_MASK: Final = (1 << 56) - 1


class EtcdLog(NamedTuple):
    """snapshot: the newest that is committed, None if the log reaches back to its first entry. entries: those after it."""

    metadata: bytes
    hard_state: HardState
    snapshot: Snapshot | None
    entries: list[Entry]


def read_log(directory: Path) -> EtcdLog:
    """Raises StorageFailure: no log, damage, or entries missing."""
    metadata, state = b"", HardState()
    snapshots: list[Snapshot] = []
    entries: list[Entry] = []
    for place, kind, data in _records(directory):
        try:  # the checksum is one of the data, and not of the kind
            if kind == METADATA:
                metadata = data
            elif kind == STATE:
                state = decode_hard_state(data)
            elif kind == SNAPSHOT:
                snapshots.append(_snapshot(data))
            elif kind == ENTRY:
                entry = decode_entry(data)
                while entries and entries[-1].index >= entry.index:
                    entries.pop()  # a new leader has replaced the end of the log
                entries.append(entry)
            elif kind != CRC:
                raise StorageFailure(f"{place}: a record of unknown kind {kind}")
        except (MalformedMessage, ValueError) as error:
            raise StorageFailure(f"{place}: {error}") from error
    snapshot = max((one for one in snapshots if 0 < one.index <= state.commit), key=lambda one: one.index, default=None)
    first = snapshot.index + 1 if snapshot else 1
    kept = [entry for entry in entries if entry.index >= first]
    if not metadata:
        raise StorageFailure(f"{directory}: the record with the member's ID is missing")
    if any(entry.index != index for index, entry in enumerate(kept, first)):
        raise StorageFailure(f"{directory}: entries after {first - 1} are missing")
    if state.commit >= first + len(kept):
        raise StorageFailure(f"{directory}: it ends at entry {first + len(kept) - 1}, before the commit index {state.commit}")
    return EtcdLog(metadata, state, snapshot, kept)


def _records(directory: Path) -> Iterator[tuple[str, int, bytes]]:
    """Place, kind and data of all records in order, each with its checksum verified."""
    names = sorted(path for path in directory.glob("*.wal") if _NAME.fullmatch(path.name))
    if not names:
        raise StorageFailure(f"{directory}: no write-ahead log of etcd")
    crc = 0
    for path in names:
        content = path.read_bytes()
        at = 0
        while at + 8 <= len(content):
            (length,) = _LENGTH.unpack_from(content, at)
            if length == 0:
                break
            size, padding = length & _SIZE_MASK, (length >> 56) & 7 if length < 0 else 0
            record = content[at + 8 : at + 8 + size]
            place = f"{path}: offset {at}"
            kind, recorded, data = _parse(record)
            if kind == CRC:
                crc = recorded
            else:
                crc = google_crc32c.extend(crc, data)
            if len(record) < size or crc != recorded:
                raise StorageFailure(f"{place}: damaged record (start etcd once, which repairs a torn end)")
            yield place, kind, data
            at += 8 + size + padding


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a message of varints and bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint_at(message, at)
        value, at = _varint_at(message, at)
        if tag & 7 == 2:
            yield tag >> 3, message[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    end = at
    while end < len(message) and message[end] >= 0x80:
        end += 1
    return decode_varint(message[at : end + 1]), end + 1


def _parse(record: bytes) -> tuple[int, int, bytes]:
    kind, crc, data = 0, 0, b""
    for number, value in _fields(record):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, int):
            crc = value
        elif number == 3 and isinstance(value, bytes):
            data = value
    return kind, crc, data


def _snapshot(data: bytes) -> Snapshot:
    index, term, conf_state = 0, 0, ConfState()
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            index = value
        elif number == 2 and isinstance(value, int):
            term = value
        elif number == 3 and isinstance(value, bytes):
            conf_state = decode_conf_state(value)
    return Snapshot(index, term, conf_state)


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self._crc = 0

    def add(self, kind: int, data: bytes) -> None:
        self._crc = google_crc32c.extend(self._crc, data)
        record = b"\x08" + varint(kind) + b"\x10" + varint(self._crc)
        if kind != CRC:
            record += b"\x1a" + varint(len(data)) + data
        padding = -len(record) % 8
        length = len(record) | ((0x80 | padding) << 56 if padding else 0)
        self.out += length.to_bytes(8, "little") + record + bytes(padding)


def write_log(directory: Path, log: EtcdLog) -> None:
    """Write a log of one file, durably. The directory must exist. Raises OSError."""
    writer = _Writer()
    writer.add(CRC, b"")
    writer.add(METADATA, log.metadata)
    writer.add(SNAPSHOT, _snapshot_record(0, 0, None))
    if log.snapshot is not None:
        writer.add(SNAPSHOT, _snapshot_record(log.snapshot.index, log.snapshot.term, log.snapshot.conf_state))
    for entry in log.entries:
        writer.add(ENTRY, entry.wire)
    writer.add(STATE, encode_hard_state(log.hard_state))
    _write_durably(directory / f"{0:016x}-{0:016x}.wal", bytes(writer.out))


def _snapshot_record(index: int, term: int, conf_state: ConfState | None) -> bytes:
    record = b"\x08" + varint(index) + b"\x10" + varint(term)
    if conf_state is None:
        return record
    encoded = encode_conf_state(conf_state)
    return record + b"\x1a" + varint(len(encoded)) + encoded


def write_snap(directory: Path, snapshot: Snapshot) -> None:
    """The `.snap` file, from which etcd up to 3.6 loads the membership: `snapshot.data` in v2 form. Raises OSError."""
    body = encode_snapshot(snapshot)
    crc = google_crc32c.extend(0, body)
    content = b"\x08" + varint(crc) + b"\x12" + varint(len(body)) + body
    _write_durably(directory / f"{snapshot.term:016x}-{snapshot.index:016x}.snap", content)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
