"""Builds the key index at start: one walk over the bucket `key`, in the order of history.

May run in another thread over a ReadView, so that a member that installs a snapshot goes on answering heartbeats; the result is
passed to `Store`. The data was written by this program or came with a snapshot: what makes no sense is a StorageFailure.

Fast code, fenced: `_read_first_version` knows the form of a KeyValue that was written once, which most are where a million are;
`_read_kv`, by protobuf, is its plain twin, and reads all others. tests/mvcc/test_loading.py holds the two together,
`python -m tests.mvcc.bench` measures: about 2 us a key, a third of it for sorting the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from tercet.containers import ShardedDict
from tercet.errors import StorageFailure
from tercet.mvcc.encoding import REVISION_BYTES, main_of
from tercet.mvcc.key_index import FIRST_VERSION, LIVE, KeyIndex
from tercet.proto import kv_pb2
from tercet.proto.wire import varint
from tercet.storage.interfaces import Bucket

SCHEDULED_COMPACTION = b"scheduledCompactRev"
FINISHED_COMPACTION = b"finishedCompactRev"
_VERSION_MAX = 1 << 62


class Source(Protocol):
    """A Backend or a ReadView."""

    def get(self, bucket: Bucket, key: bytes) -> bytes | None: ...
    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]: ...


class Attacher(Protocol):
    """The leases that a store's keys are attached to."""

    def attach(self, key: bytes, lease_id: int) -> None: ...


class Loaded:
    """What a store is made of. `leased`: the lease of each existing key that has one, until `attach_leases`."""

    __slots__ = ("finished_compaction", "index", "leased", "revision", "scheduled_compaction")

    def __init__(self, source: Source) -> None:
        self.index = KeyIndex()
        self.leased: ShardedDict[int] = ShardedDict()
        self.scheduled_compaction = _compaction(source, SCHEDULED_COMPACTION)
        self.finished_compaction = _compaction(source, FINISHED_COMPACTION)
        newest = self._read_history(source)
        # A compaction may have removed the newest revisions of all, where they were tombstones: they still count.
        self.revision = max(1, newest, self.scheduled_compaction, self.finished_compaction)
        self.index.restore(revision=self.revision)

    def attach_leases(self, leases: Attacher) -> None:
        """Attach all keys to their leases, once: also in the thread in which they were read."""
        for key, lease_id in self.leased.items():
            leases.attach(key, lease_id)
        self.leased = ShardedDict()

    def _read_history(self, source: Source) -> int:
        """Fill `leased` and the index's shards. Returns the newest main revision, 0 for none."""
        shard_of, visit, leased = self.index.shard, self.index.visits.append, self.leased
        older: bytes | None
        revision_key = b""
        for revision_key, kv in source.scan(Bucket.KEY):
            if len(revision_key) != REVISION_BYTES:
                key = _read_tombstone(kv, revision_key)
                shard = shard_of(key)
                older = shard.current.pop(key, None)
                if shard.append_past(key, revision_key if older is None else older[:17] + LIVE):
                    visit(key)
                if older is not None:
                    shard.append_past(key, revision_key)
                leased.pop(key)
                continue
            key, create, version, lease = _read_first_version(kv) or _read_kv(kv, revision_key)
            entry = revision_key + version + create
            shard = shard_of(key)
            older = shard.current.setdefault(key, entry)
            if older is not entry:
                if shard.append_past(key, older[:17] + LIVE):
                    visit(key)
                shard.current[key] = entry
            if lease:
                leased.set(key, lease)
            elif leased:
                leased.pop(key)
        return main_of(revision_key) if revision_key else 0


# create_revision, the same as mod_revision, and version 1.
_FIRST_VERSION_PATTERN: Final = re.compile(rb"\x10([\x80-\xff]*[\0-\x7f])\x18\1 \x01", re.DOTALL)


def _read_first_version(kv: bytes) -> tuple[bytes, bytes, bytes, int] | None:
    """What `_read_kv` returns, for a short key that was written once and has no lease; None for any other form."""
    if len(kv) < 3 or kv[0] != 10 or kv[1] >= 0x80:
        return None
    found = _FIRST_VERSION_PATTERN.match(kv, kv[1] + 2)
    if found is None:
        return None
    end = found.end()
    rest = len(kv) - end
    if rest:  # a value up to the end: no lease follows
        if rest < 3 or kv[end] != 0x2A:
            return None
        length = kv[end + 1]
        if length < 0x80:
            if length != rest - 2:
                return None
        elif kv[end + 2] >= 0x80 or (length & 0x7F | kv[end + 2] << 7) != rest - 3:
            return None
    return kv[2 : kv[1] + 2], found[1], FIRST_VERSION, 0


def _read_kv(stored: bytes, revision_key: bytes) -> tuple[bytes, bytes, bytes, int]:
    """Key, create revision (varint), version (8 bytes) and lease."""
    try:
        kv = kv_pb2.KeyValue.FromString(stored)
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket key, revision {revision_key.hex()}: not a KeyValue") from error
    if not (0 < kv.version < _VERSION_MAX and 0 < kv.create_revision <= main_of(revision_key)):
        raise StorageFailure(
            f"backend, bucket key, revision {revision_key.hex()}: "
            f"a KeyValue with version {kv.version}, created at {kv.create_revision}"
        )
    return kv.key, varint(kv.create_revision), kv.version.to_bytes(8, "big"), kv.lease


def _read_tombstone(kv: bytes, revision_key: bytes) -> bytes:
    if len(revision_key) != REVISION_BYTES + 1 or revision_key[17:] != b"t":
        raise StorageFailure(f"backend, bucket key: {revision_key.hex()} is not a revision")
    try:
        return kv_pb2.KeyValue.FromString(kv).key
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket key, revision {revision_key.hex()}: not a KeyValue") from error


def last_compaction(source: Source) -> int:
    """The revision of the last compaction that was applied, finished or not; -1 for none."""
    return max(_compaction(source, SCHEDULED_COMPACTION), _compaction(source, FINISHED_COMPACTION))


def _compaction(source: Source, name: bytes) -> int:
    """The revision recorded under `name`, -1 for none."""
    stored = source.get(Bucket.META, name)
    if stored is None:
        return -1
    if len(stored) != REVISION_BYTES:
        raise StorageFailure(f"backend, bucket meta, {name.decode()}: {stored.hex()} is not a revision")
    return main_of(stored)
