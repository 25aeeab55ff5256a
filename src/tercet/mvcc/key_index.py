"""In-memory index from each key to its revisions.

A key's history is a list of generations: a put opens one, a delete (x) closes it, the next put opens another.
    put@2, put@4, delete@5, put@9   is   [2 4 5x] [9]
    compact(4) drops revisions that no read at revision >= 4 can return:   [4 5x] [9]
Values are not stored here; the backend stores them by revision.

The newest revision of an existing key is its entry in `current`; all other revisions that can still be read, of any key, are in
`past`, one string of 18-byte records for each key: the 17-byte revision key, then `t` for a tombstone or a zero byte. So a key
written once costs one dictionary slot and 64 bytes, and a read decodes nothing: the first 17 bytes of the entry are the
backend's key. An entry is  revision key (17) | version (8, big endian) | varint of the create revision.

`visits` holds the keys of `past` in the order in which compactions visit them: a compaction begins without a walk, and each key
that keeps a past moves to the end.

All of it is bytes, so a million keys are no work for the garbage collector. The past of a busy key is a bytearray, which grows
without being copied.

Invariants: records of a key rise; `visits` holds each key of `past` once; `live` holds the keys of `current`, `dead` those of
`past` that are not in `current`, both sorted; the last record of a dead key is a tombstone.
Source: etcd server/storage/mvcc/key_index.go. Departs in: packed bytes instead of objects; tombstones imply the generations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import Any, Final

from sortedcontainers import SortedList

from tercet.errors import require
from tercet.mvcc.encoding import REVISION_BYTES, TOMBSTONE, main_of, revision_bound
from tercet.proto.wire import decode_varint

RECORD_BYTES: Final = REVISION_BYTES + 1
LIVE: Final = b"\0"
FIRST_VERSION: Final = (1).to_bytes(8, "big")
_COPY_BYTES_MAX: Final = 32 * RECORD_BYTES  # a longer past is a bytearray


class KeyIndex:
    """All keys that exist at some revision that can still be read.

    main, written: the index holds every write of revisions below `main`, and the first `written` writes of `main` itself
    while that revision is being applied.
    """

    __slots__ = ("current", "dead", "live", "main", "past", "visits", "written")

    def __init__(self) -> None:
        self.main = 2
        self.written = 0
        self.current: dict[bytes, bytes] = {}
        self.past: dict[bytes, bytes | bytearray] = {}
        self.visits: deque[bytes] = deque()
        self.live: Any = SortedList()
        self.dead: Any = SortedList()

    def __len__(self) -> int:
        return len(self.current)

    # Changes, in the order of history.

    def put(self, key: bytes, revision_key: bytes, create: bytes) -> tuple[bytes, int]:
        """Give `key` a new revision, stored under `revision_key`. Returns its create revision (varint) and its version.

        create: this revision as a varint, for a key that does not exist yet.
        """
        entry = self.current.get(key)
        if entry is None:
            self.current[key] = revision_key + FIRST_VERSION + create
            self.live.add(key)
            if key in self.past:
                self.dead.remove(key)
            return create, 1
        self._retire(key, entry)
        version = version_in(entry) + 1
        self.current[key] = revision_key + version.to_bytes(8, "big") + entry[25:]
        return entry[25:], version

    def delete(self, keys: list[bytes], tombstones: list[bytes]) -> None:
        """Close the generations of existing keys, sorted. tombstones: their keys in the backend, revision key and `t`."""
        current, past, remove = self.current, self.past, self.live.remove
        for key, tombstone in zip(keys, tombstones, strict=True):
            entry = current.pop(key)
            remove(key)
            if key in past:
                append_record(past, key, entry[:REVISION_BYTES] + LIVE)
                append_record(past, key, tombstone)
            else:
                past[key] = b"%b\0%b" % (entry[:REVISION_BYTES], tombstone)
                self.visits.append(key)
        self.dead.update(keys)

    def _retire(self, key: bytes, entry: bytes) -> None:
        if append_record(self.past, key, entry[:17] + LIVE):
            self.visits.append(key)

    # The current revision.

    def version(self, key: bytes) -> int:
        """0 for a key that does not exist."""
        entry = self.current.get(key)
        return 0 if entry is None else version_in(entry)

    def create_revision(self, key: bytes) -> int:
        entry = self.current.get(key)
        return 0 if entry is None else create_revision_in(entry)

    def mod_revision(self, key: bytes) -> int:
        entry = self.current.get(key)
        return 0 if entry is None else main_of(entry)

    def count(self, start: bytes, end: bytes | None) -> int:
        """Existing keys in [start, end); None: no end. No walk."""
        if end is None:
            return len(self.live) - int(self.live.bisect_left(start))
        return max(0, int(self.live.bisect_left(end)) - int(self.live.bisect_left(start)))

    def keys(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        """Existing keys in [start, end), ascending. The index must not change while they are read."""
        return _between(self.live, start, end)

    # Any revision that is not compacted. `bound` is what the revision keys to be seen are less than (`revision_bound`).

    def get_at(self, key: bytes, bound: bytes) -> bytes | None:
        """The newest entry of `key` below `bound`; None: the key did not exist.

        Its first 17 bytes are the revision key under which the backend stores the value. More follows (`has_details`) only
        where this is still the current revision of the key.
        """
        entry = self.current.get(key)
        if entry is not None and entry < bound:
            return entry
        return self._past_at(key, bound)

    def range_at(
        self, start: bytes, end: bytes | None, bound: bytes, visits_max: int, *, reverse: bool = False
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        """The keys of [start, end) that existed, each with its entry (`get_at`), ascending or in reverse.

        Visits at most `visits_max` keys, deleted ones too. Also returns the last key visited, from which to go on (from the
        one after it, or in reverse up to it), or None at the end of the range.
        """
        keys = list(islice(_between(self.live, start, end, reverse), visits_max))
        if self.dead:
            dead = list(islice(_between(self.dead, start, end, reverse), visits_max))
            if dead:
                keys = sorted(keys + dead, reverse=reverse)[:visits_max]
        found: list[tuple[bytes, bytes]] = []
        current = self.current
        for key in keys:
            entry = current.get(key)
            if entry is None or entry >= bound:
                entry = self._past_at(key, bound)
                if entry is None:
                    continue
            found.append((key, entry))
        return found, keys[-1] if len(keys) == visits_max else None

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
        """Drop the records of `key` that no read at `revision` or later can return, at most `limit` of them.

        Of the records at or below `revision` only the newest stays; a tombstone only if it is exactly at `revision`, where
        a watcher that starts there must still see it. Returns the dropped records' keys in the backend; fewer than `limit`
        means that nothing is left to drop.
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

    def visited(self) -> None:
        """A compaction is done with the first of `visits`."""
        key = self.visits.popleft()
        if key in self.past:
            self.visits.append(key)

    def _cut(self, key: bytes, records: bytes | bytearray, drop: int) -> None:
        rest = records[drop * RECORD_BYTES :]
        if rest:
            self.past[key] = rest
            return
        del self.past[key]
        if key not in self.current:
            self.dead.remove(key)

    # Building, from a backend read in the order of history.

    def restore(self, current: dict[bytes, bytes], past: dict[bytes, bytes | bytearray], *, revision: int) -> None:
        """Take over what `loading` has read, up to `revision`, and sort it."""
        self.current, self.past = current, past
        self.visits = deque(past)
        self.main = revision + 1
        self.live = SortedList(current)
        self.dead = SortedList(key for key in past if key not in current)

    def check(self) -> None:
        """All invariants, by a full walk: for tests and the simulator."""
        require(list(self.live) == sorted(self.current), "live keys differ from current entries")
        require(list(self.dead) == sorted(self.past.keys() - self.current.keys()), "dead keys differ from past without current")
        require(sorted(self.visits) == sorted(self.past), "compactions do not visit each key with a past once")
        for key, records in self.past.items():
            revision_keys = [bytes(records[at : at + 17]) for at in range(0, len(records), RECORD_BYTES)]
            require(len(records) > 0 and len(records) % RECORD_BYTES == 0, "torn records", key)
            if key in self.current:
                revision_keys.append(self.current[key][:17])
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


def append_record(past: dict[bytes, bytes | bytearray], key: bytes, record: bytes) -> bool:
    """One more past revision of `key`. Returns whether it is the first."""
    records = past.get(key)
    if records is None:
        past[key] = record
        return True
    if len(records) < _COPY_BYTES_MAX:
        past[key] = records + record
    else:
        if type(records) is bytes:
            past[key] = records = bytearray(records)
        records += record  # in place
    return False


def _between(keys: Any, start: bytes, end: bytes | None, reverse: bool = False) -> Iterator[bytes]:
    if end is None:
        found: Iterable[bytes] = keys.irange(start, reverse=reverse)
    elif start < end:
        found = keys.irange(start, end, inclusive=(True, False), reverse=reverse)
    else:
        found = ()
    return iter(found)


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
