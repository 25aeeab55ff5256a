"""In-memory index from each key to its revisions.

A key's history is a list of generations: a put opens one, a delete (x) closes it, the next put opens another.
    put@2, put@4, delete@5, put@9   is   [2 4 5x] [9]
    compact(4) drops revisions that no read at revision >= 4 can return:   [4 5x] [9]
Values are not stored here; the backend stores them by revision.

The newest revision of an existing key is its entry in `current`; all other revisions that can still be read, of any key, are in
`past`, one string of 18-byte records for each key: the 17-byte revision key, then `t` for a tombstone or a zero byte. So a key
written once costs one dictionary slot and 64 bytes, and a read decodes nothing: the first 17 bytes of the entry are the
backend's key. An entry is  revision key (17) | version (8, big endian) | varint of the create revision.

Both are divided by the key's hash into 256 shards, so that no put waits for a copy of all entries (containers/sharded_dict.py).

`visits` holds the keys of `past` in the order in which compactions visit them: a compaction begins without a walk, and each key
that keeps a past moves to the end.

All of it is bytes, so a million keys are no work for the garbage collector. The past of a busy key is a bytearray, which grows
without being copied.

Invariants: records of a key rise; `visits` holds each key of `past` once; `live` holds the keys of `current`, `dead` those of
`past` that are not in `current`; the last record of a dead key is a tombstone.
Source: etcd server/storage/mvcc/key_index.go. Departs in: packed bytes instead of objects; tombstones imply the generations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from tercet.containers import SortedKeys, shard_number
from tercet.containers.sharded_dict import SHARDS
from tercet.errors import require
from tercet.mvcc.encoding import REVISION_BYTES, TOMBSTONE, main_of, revision_bound
from tercet.proto.wire import decode_varint

RECORD_BYTES: Final = REVISION_BYTES + 1
LIVE: Final = b"\0"
FIRST_VERSION: Final = (1).to_bytes(8, "big")
_COPY_BYTES_MAX: Final = 32 * RECORD_BYTES  # a longer past is a bytearray


class Shard:
    """The keys of one hash."""

    __slots__ = ("current", "past")

    def __init__(self) -> None:
        self.current: dict[bytes, bytes] = {}
        self.past: dict[bytes, bytes | bytearray] = {}

    def append_past(self, key: bytes, record: bytes) -> bool:
        """One more past revision of `key`. Returns whether it is the first."""
        records = self.past.get(key)
        if records is None:
            self.past[key] = record
            return True
        if len(records) < _COPY_BYTES_MAX:
            self.past[key] = records + record
        else:
            if type(records) is bytes:
                self.past[key] = records = bytearray(records)
            records += record  # in place
        return False


class KeyIndex:
    """All keys that exist at some revision that can still be read.

    main, written: the index holds every write of revisions below `main`, and the first `written` writes of `main` itself
    while that revision is being applied.
    """

    __slots__ = ("_shards", "dead", "live", "main", "visits", "written")

    def __init__(self) -> None:
        self.main = 2
        self.written = 0
        self._shards = [Shard() for _ in range(SHARDS)]
        self.visits: deque[bytes] = deque()
        self.live = SortedKeys()
        self.dead = SortedKeys()

    def __len__(self) -> int:
        return len(self.live)

    def __contains__(self, key: bytes) -> bool:
        """Whether it exists now."""
        return key in self.shard(key).current

    def shard(self, key: bytes) -> Shard:
        return self._shards[shard_number(key)]

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """The keys that exist now, each with its entry, in no particular order. The index must not change meanwhile."""
        for shard in self._shards:
            yield from shard.current.items()

    def pasts(self) -> Iterator[tuple[bytes, bytes | bytearray]]:
        """The keys with a past, each with its records, in no particular order. The index must not change meanwhile."""
        for shard in self._shards:
            yield from shard.past.items()

    # Changes, in the order of history.

    def put(self, key: bytes, revision_key: bytes, create: bytes) -> tuple[bytes, int]:
        """Give `key` a new revision, stored under `revision_key`. Returns its create revision (varint) and its version.

        create: this revision as a varint, for a key that does not exist yet.
        """
        shard = self._shards[shard_number(key)]
        entry = shard.current.get(key)
        if entry is None:
            shard.current[key] = revision_key + FIRST_VERSION + create
            self.live.add(key)
            if key in shard.past:
                self.dead.remove(key)
            return create, 1
        if shard.append_past(key, entry[:17] + LIVE):
            self.visits.append(key)
        version = version_in(entry) + 1
        shard.current[key] = revision_key + version.to_bytes(8, "big") + entry[25:]
        return entry[25:], version

    def delete(self, keys: list[bytes], tombstones: list[bytes]) -> None:
        """Close the generations of existing keys, sorted. tombstones: their keys in the backend, revision key and `t`."""
        for key, tombstone in zip(keys, tombstones, strict=True):
            shard = self._shards[shard_number(key)]
            entry = shard.current.pop(key)
            if key in shard.past:
                shard.append_past(key, entry[:REVISION_BYTES] + LIVE)
                shard.append_past(key, tombstone)
            else:
                shard.past[key] = b"%b\0%b" % (entry[:REVISION_BYTES], tombstone)
                self.visits.append(key)
        self.live.remove_run(keys)
        self.dead.add_run(keys)

    # The current revision.

    def entry(self, key: bytes) -> bytes | None:
        """None for a key that does not exist."""
        return self._shards[shard_number(key)].current.get(key)

    def version(self, key: bytes) -> int:
        """0 for a key that does not exist."""
        entry = self.entry(key)
        return 0 if entry is None else version_in(entry)

    def create_revision(self, key: bytes) -> int:
        entry = self.entry(key)
        return 0 if entry is None else create_revision_in(entry)

    def mod_revision(self, key: bytes) -> int:
        entry = self.entry(key)
        return 0 if entry is None else main_of(entry)

    def count(self, start: bytes, end: bytes | None) -> int:
        """Existing keys in [start, end); None: no end. No walk."""
        return self.live.count(start, end)

    def keys(self, start: bytes, end: bytes | None, limit: int) -> list[bytes]:
        """The first existing keys in [start, end), at most `limit`."""
        return self.live.first(start, end, limit)

    # Any revision that is not compacted. `bound` is what the revision keys to be seen are less than (`revision_bound`).

    def get_at(self, key: bytes, bound: bytes) -> bytes | None:
        """The newest entry of `key` below `bound`; None: the key did not exist.

        Its first 17 bytes are the revision key under which the backend stores the value. More follows (`has_details`) only
        where this is still the current revision of the key.
        """
        shard = self._shards[shard_number(key)]
        entry = shard.current.get(key)
        if entry is not None and entry < bound:
            return entry
        return _past_at(shard, key, bound)

    def range_at(
        self, start: bytes, end: bytes | None, bound: bytes, visits_max: int, *, reverse: bool = False
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """The keys of [start, end) that existed, each with its entry (`get_at`), ascending or in reverse.

        Visits at most `visits_max` keys, deleted ones too. Also returns the last key visited, from which to go on (from the
        one after it, or in reverse up to it), or None at the end of the range.
        """
        keys = _some(self.live, start, end, visits_max, reverse)
        if self.dead:
            dead = _some(self.dead, start, end, visits_max, reverse)
            if dead:
                keys = sorted(keys + dead, reverse=reverse)[:visits_max]
        found: list[tuple[bytes, bytes]] = []
        for key in keys:
            shard = self._shards[shard_number(key)]
            entry = shard.current.get(key)
            if entry is None or entry >= bound:
                entry = _past_at(shard, key, bound)
                if entry is None:
                    continue
            found.append((key, entry))
        return found, keys[-1] if len(keys) == visits_max else None

    # Compaction, one key at a time.

    def forget(self, key: bytes, revision: int, limit: int) -> list[bytes]:
        """Drop the records of `key` that no read at `revision` or later can return, at most `limit` of them.

        Of the records at or below `revision` only the newest stays; a tombstone only if it is exactly at `revision`, where
        a watcher that starts there must still see it. Returns the dropped records' keys in the backend; fewer than `limit`
        means that nothing is left to drop.
        """
        shard = self.shard(key)
        records = shard.past.get(key)
        if records is None:
            return []
        bound = revision_bound(revision)
        drop = _records_below(records, bound)
        entry = shard.current.get(key)
        if drop and (entry is None or entry >= bound) and _stays(records, drop - 1, revision):
            drop -= 1
        drop = min(drop, limit)
        if drop:
            rest = records[drop * RECORD_BYTES :]
            if rest:
                shard.past[key] = rest
            else:
                del shard.past[key]
                if entry is None:
                    self.dead.remove(key)
        return [_revision_key(records, position) for position in range(drop)]

    def visited(self) -> None:
        """A compaction is done with the first of `visits`."""
        key = self.visits.popleft()
        if key in self.shard(key).past:
            self.visits.append(key)

    # Building, from a backend read in the order of history.

    def restore(self, *, revision: int) -> None:
        """Sort what `loading` has put into shards and `visits`, up to `revision`."""
        self.main = revision + 1
        live: list[bytes] = []
        dead: list[bytes] = []
        for shard in self._shards:
            live += shard.current
            dead += [key for key in shard.past if key not in shard.current]
        self.live.load(live)
        self.dead.load(dead)

    def check(self) -> None:
        """All invariants, by a full walk: for tests and the simulator."""
        self.live.check()
        self.dead.check()
        current, past = dict(self.entries()), dict(self.pasts())
        require(self.live.all() == sorted(current), "live keys differ from current entries")
        require(self.dead.all() == sorted(past.keys() - current.keys()), "dead keys differ from past without current")
        require(sorted(self.visits) == sorted(past), "compactions do not visit each key with a past once")
        for key, records in past.items():
            revision_keys = [bytes(records[at : at + 17]) for at in range(0, len(records), RECORD_BYTES)]
            require(len(records) > 0 and len(records) % RECORD_BYTES == 0, "torn records", key)
            if key in current:
                revision_keys.append(current[key][:17])
            else:
                require(records[-1:] == TOMBSTONE, "a dead key ends without a tombstone", key)
            require(all(a < b for a, b in pairwise(revision_keys)), "revisions of a key do not rise", key)


def has_details(entry: bytes) -> bool:
    """Whether an entry tells version and create revision, or the revision key alone."""
    return len(entry) > REVISION_BYTES


def version_in(entry: bytes) -> int:
    return int.from_bytes(entry[17:25], "big")


def create_revision_in(entry: bytes) -> int:
    return decode_varint(entry[25:])


def _some(keys: SortedKeys, start: bytes, end: bytes | None, limit: int, reverse: bool) -> list[bytes]:
    return keys.last(start, end, limit) if reverse else keys.first(start, end, limit)


def _past_at(shard: Shard, key: bytes, bound: bytes) -> bytes | None:
    records = shard.past.get(key)
    if records is None:
        return None
    position = _records_below(records, bound) - 1
    if position < 0:
        return None
    record = bytes(records[position * RECORD_BYTES : (position + 1) * RECORD_BYTES])
    return None if record[17:] == TOMBSTONE else record[:17]


def _records_below(records: bytes | bytearray, bound: bytes) -> int:
    """How many records are below `bound`; by bisection, since they rise."""
    low, high = 0, len(records) // RECORD_BYTES
    while low < high:
        middle = (low + high) // 2
        if records[middle * RECORD_BYTES : middle * RECORD_BYTES + REVISION_BYTES] < bound:
            low = middle + 1
        else:
            high = middle
    return low


def _stays(records: bytes | bytearray, position: int, revision: int) -> bool:
    """Whether the newest record at or below `revision` survives a compaction at `revision`."""
    at = position * RECORD_BYTES
    return records[at + 17 : at + 18] != TOMBSTONE or int.from_bytes(records[at : at + 8], "big") == revision


def _revision_key(records: bytes | bytearray, position: int) -> bytes:
    """The backend's key of a record: with the `t` of a tombstone, without the zero of another."""
    record = bytes(records[position * RECORD_BYTES : (position + 1) * RECORD_BYTES])
    return record if record[17:] == TOMBSTONE else record[:17]
