"""Hashes of a store, equal to etcd's: members compare them to find out whether they hold the same.

`hash_kv` covers the history of keys up to a revision, without what a compaction may or may not have removed yet: members agree
while one of them still compacts, and whether or not they keep a tombstone exactly at the compacted revision. `hash_all` covers
the whole backend. Both read a ReadView, so they may run in another thread. A walk costs about 1 us an entry; two walks where
there was a compaction.
Source: etcd server/storage/mvcc/hash.go, by its behaviour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import google_crc32c

from tercet.mvcc.encoding import encode_revision_key, is_tombstone, key_of, main_of
from tercet.storage.interfaces import Bucket, ReadView

_JOINED_BYTES = 64 << 10
_NOT_HASHED = frozenset((b"consistent_index", b"term", b"storageVersion"))  # members differ in these without being wrong
CACHED_COMPACTIONS: Final = 10


class KVHash(NamedTuple):
    """`compact_revision` is -1 where nothing was compacted."""

    hash: int
    revision: int
    compact_revision: int


def hash_kv(view: ReadView, revision: int, compact_revision: int) -> KVHash:
    """CRC-32C over the entries of bucket `key` up to `revision`: their keys, then their values, in order.

    view: taken when `compact_revision` was the last compaction, and revision >= compact_revision.
    An entry at or below the compaction counts only if it is the newest of its key up to `revision`, and no tombstone.
    Where no key exists at `revision`, the entries count that the compaction keeps: etcd counts what is still there, which is
    the same once the compaction is done.
    """
    end = encode_revision_key(max(revision, 0) + 1, 0)  # no entry is at 0
    kept: set[bytes] = set()
    if compact_revision >= 0:
        kept = _existing(view, end) or _existing(view, encode_revision_key(compact_revision + 1, 0))

    def parts() -> Iterator[bytes]:
        yield b"key"
        for revision_key, kv in view.scan(Bucket.KEY, b"", end):
            if main_of(revision_key) <= compact_revision and revision_key not in kept:
                continue
            yield revision_key
            yield kv

    return KVHash(_checksum(parts()), revision, compact_revision)


def _existing(view: ReadView, end: bytes) -> set[bytes]:
    """The revision keys of the KeyValues that existed just before `end`."""
    newest: dict[bytes, bytes] = {}
    for revision_key, kv in view.scan(Bucket.KEY, b"", end):
        if is_tombstone(revision_key):
            newest.pop(key_of(kv), None)
        else:
            newest[key_of(kv)] = revision_key
    return set(newest.values())


def hash_all(view: ReadView) -> int:
    """CRC-32C over all buckets in the order of their names: the name, then keys and values."""

    def parts() -> Iterator[bytes]:
        for bucket in sorted(Bucket, key=lambda bucket: bucket.value):
            yield bucket.value
            for key, value in view.scan(bucket):
                if bucket is not Bucket.META or key not in _NOT_HASHED:
                    yield key
                    yield value

    return _checksum(parts())


def _checksum(parts: Iterator[bytes]) -> int:
    """The checksum of the parts, many joined at a time: a call for each would cost more than the sum itself.

    While they are joined and summed no other thread has the interpreter, and they are in memory twice: 64 KiB, and a value.
    """
    crc = size = 0
    joined: list[bytes] = []
    for part in parts:
        joined.append(part)
        size += len(part)
        if size >= _JOINED_BYTES:
            crc = int(google_crc32c.extend(crc, b"".join(joined)))
            joined.clear()
            size = 0
    return int(google_crc32c.extend(crc, b"".join(joined)))


class CompactionHashes:
    """Hashes of the last compactions: each over the history up to its revision, before anything was removed.

    Members compare with them what they held at a revision that none of them can read any more.
    """

    __slots__ = ("_hashes",)

    def __init__(self) -> None:
        self._hashes: deque[KVHash] = deque(maxlen=CACHED_COMPACTIONS)

    def remember(self, taken: KVHash) -> None:
        """`taken`: hash_kv(view, compaction, the compaction before it)."""
        self._hashes.append(taken)

    def find(self, revision: int) -> KVHash | None:
        """The hash taken when `revision` was compacted, if it is still remembered."""
        return next((taken for taken in self._hashes if taken.revision == revision), None)

    def all(self) -> list[KVHash]:
        """Newest first."""
        return sorted(self._hashes, key=lambda taken: -taken.revision)

    def clear(self) -> None:
        """The history was replaced by a snapshot."""
        self._hashes.clear()
