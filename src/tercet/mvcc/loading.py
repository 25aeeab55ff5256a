"""How does a store find its memory again? One walk over the bucket `key`, in the order of history.

May run in another thread over a ReadView, so that a member that installs a snapshot does not miss heartbeats for it; the
result is handed to `Store`. What is read here was written by us or came with a snapshot: what makes no sense is a
StorageFailure, never a guess. Fast code, fenced: a million pairs are read in about a second and a half (`python -m
tests.mvcc.bench`). `_read_pair` knows the shape of a pair that was written once and not changed; all others go through
protobuf, the plain twin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from google.protobuf.message import DecodeError

from tercet.errors import StorageFailure
from tercet.mvcc.encoding import REVISION_BYTES, main_of, varint
from tercet.mvcc.key_index import FIRST_VERSION, LIVE, KeyIndex, append_record
from tercet.proto import kv_pb2
from tercet.storage.interfaces import Bucket

SCHEDULED_COMPACTION = b"scheduledCompactRev"
FINISHED_COMPACTION = b"finishedCompactRev"
_VERSION_MAX = 1 << 62


class Source(Protocol):
    """A Backend or a ReadView."""

    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...
    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...


class Loaded:
    """What a store is made of. `leased`: the lease of each living key that has one."""

    __slots__ = ("finished_compaction", "index", "leased", "revision", "scheduled_compaction")

    def __init__(self, source: Source) -> None:
        self.index = KeyIndex()
        self.leased: dict[bytes, int] = {}
        self.scheduled_compaction = _compaction(source, SCHEDULED_COMPACTION)
        self.finished_compaction = _compaction(source, FINISHED_COMPACTION)
        newest = self._read_history(source)
        # A compaction may have removed the newest revisions of all, where they were tombstones: they still count.
        self.revision = max(1, newest, self.scheduled_compaction, self.finished_compaction)

    def _read_history(self, source: Source) -> int:
        """Fill the index and `leased`; the newest main revision, 0 for none."""
        current: dict[bytes, bytes] = {}
        past: dict[bytes, bytes | bytearray] = {}
        leased = self.leased
        main_bytes, mod = b"", b""
        filed_as = b""
        for filed_as, pair in source.scan(Bucket.KEY):
            if filed_as[:8] != main_bytes:
                main_bytes = filed_as[:8]
                mod = varint(int.from_bytes(main_bytes, "big"))
            if len(filed_as) == REVISION_BYTES:
                key, create, version, lease = _read_pair(pair, mod, filed_as)
                entry = current.get(key)
                if entry is not None:
                    append_record(past, key, entry[:17] + LIVE)
                current[key] = filed_as + version + create
                if lease:
                    leased[key] = lease
                elif leased:
                    leased.pop(key, None)
            else:
                key = _read_tombstone(pair, filed_as)
                entry = current.pop(key, None)
                if entry is not None:
                    append_record(past, key, entry[:17] + LIVE)
                append_record(past, key, filed_as)
                leased.pop(key, None)
        self.index.restore(current, past)
        return main_of(filed_as) if filed_as else 0


def _read_pair(pair: bytes, mod: bytes, filed_as: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Key, create revision (varint), version (8 bytes) and lease of a pair; `mod` is its mod revision as a varint."""
    born = b"\x10" + mod + b"\x18" + mod + b" \1"
    if len(pair) > 2 and pair[0] == 10 and pair[1] < 0x80:
        at = pair[1] + 2
        if pair.startswith(born, at):
            end = at + len(born)
            rest = len(pair) - end
            # Nothing more, or a value that fills the rest: then there is no lease.
            if not rest or (rest > 1 and pair[end] == 0x2A and _fills(pair, end + 1, rest - 1)):
                return pair[2:at], mod, FIRST_VERSION, 0
    return _read_pair_slowly(pair, filed_as)


def _fills(pair: bytes, at: int, rest: int) -> bool:
    """Whether the length at `at` and what it counts are exactly `rest` bytes."""
    length = pair[at]
    if length < 0x80:
        return length == rest - 1
    return rest > 2 and pair[at + 1] < 0x80 and (length & 0x7F | pair[at + 1] << 7) == rest - 2


def _read_pair_slowly(pair: bytes, filed_as: bytes) -> tuple[bytes, bytes, bytes, int]:
    try:
        kv = kv_pb2.KeyValue.FromString(pair)
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket key, revision {filed_as.hex()}: not a key-value pair") from error
    if not (0 < kv.version < _VERSION_MAX and 0 < kv.create_revision <= main_of(filed_as)):
        raise StorageFailure(
            f"backend, bucket key, revision {filed_as.hex()}: a pair with version {kv.version}, created at {kv.create_revision}"
        )
    return kv.key, varint(kv.create_revision), kv.version.to_bytes(8, "big"), kv.lease


def _read_tombstone(pair: bytes, filed_as: bytes) -> bytes:
    if len(filed_as) != REVISION_BYTES + 1 or filed_as[17:] != b"t":
        raise StorageFailure(f"backend, bucket key: {filed_as.hex()} is not a revision")
    try:
        return kv_pb2.KeyValue.FromString(pair).key
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket key, revision {filed_as.hex()}: not a key-value pair") from error


def _compaction(source: Source, name: bytes) -> int:
    """The revision recorded under `name`, -1 for none."""
    stored = source.get(Bucket.META, name)
    if stored is None:
        return -1
    if len(stored) != REVISION_BYTES:
        raise StorageFailure(f"backend, bucket meta, {name.decode()}: {stored.hex()} is not a revision")
    return main_of(stored)
