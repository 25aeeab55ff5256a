"""Which revisions has a key lived through, and which of them can still be read?

A key lives in generations: a put opens one, a delete (x) closes it, the next put opens another.
    put@2, put@4, delete@5, put@9   is   [2 4 5x] [9]
    compact(4) drops what no reader at revision 4 or later can ask for:   [4 5x] [9]
Values are not here; the backend files them under their revision.

The newest revision of a living key is its entry in `current`; all else that can still be read of any key is in `past`, as
one string of 18-byte records: the 17 bytes under which the backend files the revision, and `t` for a tombstone or a zero
byte. So the common key, written and not yet overwritten, costs one dictionary slot and 64 bytes, and a read needs no
decoding: the first 17 bytes of the entry are the backend's key. An entry is  revision key (17) | version (8, big endian) |
varint of the create revision.

Everything is bytes: a million keys are no object that the garbage collector would visit. Past revisions of a busy key are
in a bytearray, which grows without being copied.

Invariants: records of a key rise; `live` holds the keys of `current`, `dead` those of `past` that are not in `current`,
both sorted; the last record of a dead key is a tombstone.
Source: etcd server/storage/mvcc/key_index.go. Departs in: packed bytes instead of objects, and generations are implied by
tombstones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Any, Final

from sortedcontainers import SortedList

from tercet.errors import require
from tercet.mvcc.encoding import REVISION_BYTES, TOMBSTONE, revision_bound
from tercet.proto.wire import decode_varint, varint

RECORD_BYTES: Final = REVISION_BYTES + 1
LIVE: Final = b"\0"
FIRST_VERSION: Final = (1).to_bytes(8, "big")
_COPY_BYTES_MAX: Final = 32 * RECORD_BYTES  # a longer past is a bytearray


class KeyIndex:
    __slots__ = ("current", "dead", "live", "past")

    def __init__(self) -> None:
        self.current: dict[bytes, bytes] = {}
        self.past: dict[bytes, bytes | bytearray] = {}
        self.live: Any = SortedList()
        self.dead: Any = SortedList()

    def __len__(self) -> int:
        return len(self.current)

    # Changes, in the order of history.

    def put(self, key: bytes, revision_key: bytes, create: bytes) -> tuple[bytes, int]:
        """`key` has a new revision, filed as `revision_key`. Returns its create revision (varint) and its version.

        create: this revision as a varint, for a key that is born now.
        """
        entry = self.current.get(key)
        if entry is None:
            self.current[key] = revision_key + FIRST_VERSION + create
            self.live.add(key)
            if key in self.past:
                self.dead.remove(key)
            return create, 1
        self._retire(key, entry)
        version = int.from_bytes(entry[17:25], "big") + 1
        self.current[key] = revision_key + version.to_bytes(8, "big") + entry[25:]
        return entry[25:], version

    def delete(self, key: bytes, revision_key: bytes) -> None:
        """Close the generation of the living `key` by a tombstone filed as `revision_key` (17 bytes) and `t`."""
        self._add_tombstone(key, revision_key)
        self.live.remove(key)
        self.dead.add(key)

    def delete_many(self, keys: list[bytes], revision_key: list[bytes]) -> None:
        """`delete` for neighbours: sorted living keys with no other living key between them."""
        if len(keys) < 64:
            for key, tombstone in zip(keys, revision_key, strict=True):
                self.delete(key, tombstone)
            return
        for key, tombstone in zip(keys, revision_key, strict=True):
            self._add_tombstone(key, tombstone)
        first = self.live.bisect_left(keys[0])
        del self.live[first : first + len(keys)]
        self.dead.update(keys)

    def _add_tombstone(self, key: bytes, tombstone: bytes) -> None:
        self._retire(key, self.current.pop(key))
        append_record(self.past, key, tombstone + TOMBSTONE)

    def _retire(self, key: bytes, entry: bytes) -> None:
        append_record(self.past, key, entry[:17] + LIVE)

    # Questions about now.

    def version(self, key: bytes) -> int:
        """0 for a key that does not live."""
        entry = self.current.get(key)
        return 0 if entry is None else int.from_bytes(entry[17:25], "big")

    def create_revision(self, key: bytes) -> int:
        entry = self.current.get(key)
        return 0 if entry is None else decode_varint(entry[25:])

    def mod_revision(self, key: bytes) -> int:
        entry = self.current.get(key)
        return 0 if entry is None else int.from_bytes(entry[:8], "big")

    def describe(self, key: bytes) -> tuple[bytes, bytes, int]:
        """Create revision and mod revision (varints) and version of a living key."""
        entry = self.current[key]
        return entry[25:], varint(int.from_bytes(entry[:8], "big")), int.from_bytes(entry[17:25], "big")

    def count(self, start: bytes, end: bytes | None) -> int:
        """Living keys in [start, end); None: no end. No walk."""
        if end is None:
            return len(self.live) - int(self.live.bisect_left(start))
        return max(0, int(self.live.bisect_left(end)) - int(self.live.bisect_left(start)))

    def keys(self, start: bytes, end: bytes | None, *, reverse: bool = False) -> Iterator[bytes]:
        """Living keys in [start, end), ascending. The index must not change while they are read."""
        return _between(self.live, start, end, reverse)

    def range_current(self, start: bytes, end: bytes | None, limit: int = 0) -> list[bytes]:
        """Where the pairs of [start, end) are filed, in key order; at most `limit` of them if it is positive."""
        keys = self.keys(start, end)
        current = self.current
        return [current[key][:17] for key in (islice(keys, limit) if limit > 0 else keys)]

    # Questions about the past: any revision that is not compacted.

    def get_at(self, key: bytes, revision: int) -> bytes | None:
        """Where the pair that `key` had at `revision` is filed; None: it did not live."""
        bound = revision_bound(revision)
        entry = self.current.get(key)
        if entry is not None and entry < bound:
            return entry[:17]
        return self._past_at(key, bound)

    def range_at(self, start: bytes, end: bytes | None, revision: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys of [start, end) that lived at `revision`, ascending, and where their pairs are filed."""
        bound = revision_bound(revision)
        current = self.current
        for key in self._ever(start, end):
            entry = current.get(key)
            if entry is not None and entry < bound:
                yield key, entry[:17]
            else:
                revision_key = self._past_at(key, bound)
                if revision_key is not None:
                    yield key, revision_key

    def _ever(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """Living and dead keys of a range, merged."""
        living, dead = _between(self.live, start, end), _between(self.dead, start, end)
        lost = next(dead, None)
        if lost is None:
            yield from living
            return
        for key in living:
            while lost is not None and lost < key:
                yield lost
                lost = next(dead, None)
            yield key
        while lost is not None:
            yield lost
            lost = next(dead, None)

    def _past_at(self, key: bytes, bound: bytes) -> bytes | None:
        records = self.past.get(key)
        if records is None:
            return None
        position = _records_below(records, bound) - 1
        if position < 0:
            return None
        record = bytes(records[position * RECORD_BYTES : (position + 1) * RECORD_BYTES])
        return None if record[17:] == TOMBSTONE else record[:17]

    # Compaction, one key at a time.

    def forget(self, key: bytes, revision: int, limit: int) -> list[bytes]:
        """Drop what no reader at `revision` or later can ask of `key`, `limit` records at most: their keys in the backend.

        Of the records at or below `revision` only the newest stays; a tombstone not even then, except exactly at
        `revision`, where a watcher that starts there must still see it. Fewer than `limit` returned: nothing more to drop.
        """
        records = self.past.get(key)
        if records is None:
            return []
        bound = revision_bound(revision)
        drop = _records_below(records, bound)
        entry = self.current.get(key)
        if drop and (entry is None or entry >= bound) and _stays(records, drop - 1, revision):
            drop -= 1
        drop = min(drop, limit)
        if drop:
            self._cut(key, records, drop)
        return [_revision_key(records, position) for position in range(drop)]

    def _cut(self, key: bytes, records: bytes | bytearray, drop: int) -> None:
        rest = records[drop * RECORD_BYTES :]
        if rest:
            self.past[key] = rest
            return
        del self.past[key]
        if key not in self.current:
            self.dead.remove(key)

    # Building, from a backend read in the order of history.

    def restore(self, current: dict[bytes, bytes], past: dict[bytes, bytes | bytearray]) -> None:
        """Take over what was read (`loading`), and sort it."""
        self.current, self.past = current, past
        self.live = SortedList(current)
        self.dead = SortedList(key for key in past if key not in current)

    def check(self) -> None:
        """All invariants, by a full walk: for tests and the simulator."""
        require(list(self.live) == sorted(self.current), "live keys differ from current entries")
        require(list(self.dead) == sorted(self.past.keys() - self.current.keys()), "dead keys differ from past without current")
        for key, records in self.past.items():
            filed = [bytes(records[at : at + 17]) for at in range(0, len(records), RECORD_BYTES)]
            require(len(records) > 0 and len(records) % RECORD_BYTES == 0, "torn records", key)
            if key in self.current:
                filed.append(self.current[key][:17])
            else:
                require(records[-1:] == TOMBSTONE, "a dead key ends without a tombstone", key)
            require(all(a < b for a, b in pairwise(filed)), "revisions of a key do not rise", key)


def append_record(past: dict[bytes, bytes | bytearray], key: bytes, record: bytes) -> None:
    """One more past revision of `key`."""
    records = past.get(key)
    if records is None:
        past[key] = record
    elif len(records) < _COPY_BYTES_MAX:
        past[key] = records + record
    else:
        if type(records) is bytes:
            past[key] = records = bytearray(records)
        records += record  # in place


def _between(keys: Any, start: bytes, end: bytes | None, reverse: bool = False) -> Iterator[bytes]:
    if end is None:
        found: Iterable[bytes] = keys.irange(start, reverse=reverse)
    elif start < end:
        found = keys.irange(start, end, inclusive=(True, False), reverse=reverse)
    else:
        found = ()
    return iter(found)


def _records_below(records: bytes | bytearray, bound: bytes) -> int:
    """How many records are older than `bound`; they rise, so by halving."""
    low, high = 0, len(records) // RECORD_BYTES
    while low < high:
        middle = (low + high) // 2
        if records[middle * RECORD_BYTES : middle * RECORD_BYTES + 8] < bound:
            low = middle + 1
        else:
            high = middle
    return low


def _stays(records: bytes | bytearray, position: int, revision: int) -> bool:
    """Whether the newest record at or below `revision` outlives a compaction there."""
    at = position * RECORD_BYTES
    return records[at + 17 : at + 18] != TOMBSTONE or int.from_bytes(records[at : at + 8], "big") == revision


def _revision_key(records: bytes | bytearray, position: int) -> bytes:
    """The backend's key of a record: with the `t` of a tombstone, without the zero of another."""
    record = bytes(records[position * RECORD_BYTES : (position + 1) * RECORD_BYTES])
    return record if record[17:] == TOMBSTONE else record[:17]
