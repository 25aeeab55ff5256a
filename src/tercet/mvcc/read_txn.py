"""Reads at one revision, whatever is written meanwhile.

A ReadTxn sees every write below its bound: all of a revision, or, inside a write transaction, the first `sub` writes of it.
The index keeps past revisions of each key, so a read may go on over many turns of the event loop. Two things could take its
revision away: a compaction (`Pins` holds back the removal while the read lasts) and an installed snapshot (the read belongs to
the store that was replaced; `Store.is_replaced`).
"""

from __future__ import annotations

from typing import NoReturn

from tercet.errors import InvariantViolation
from tercet.mvcc.encoding import REVISION_BYTES, encode_revision_key, revision_bound
from tercet.mvcc.key_index import KeyIndex
from tercet.storage.interfaces import Backend, Bucket


class Pins:
    """The revisions that reads in progress need, so that a compaction does not remove them yet."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, revision: int) -> None:
        self._counts[revision] = self._counts.get(revision, 0) + 1

    def remove(self, revision: int) -> None:
        count = self._counts[revision] - 1
        if count:
            self._counts[revision] = count
        else:
            del self._counts[revision]

    def allow(self, compaction: int) -> bool:
        """Whether no read in progress needs what a compaction at this revision removes."""
        return not self._counts or min(self._counts) >= compaction


class ReadTxn:
    """A point in history to read from.

    revision: the newest revision whose writes are all seen.
    """

    __slots__ = ("_backend", "_get", "_pins", "bound", "index", "revision", "subs")

    def __init__(self, index: KeyIndex, backend: Backend, pins: Pins, revision: int, subs: int = 0) -> None:
        """subs: how many writes of revision + 1 are seen too."""
        self.index = index
        self.revision = revision
        self.bound = encode_revision_key(revision + 1, subs) if subs else revision_bound(revision)
        self._backend = backend
        self._get = backend.get
        self._pins = pins
        self.subs = subs

    @property
    def is_newest(self) -> bool:
        """Whether it sees exactly what the index holds now."""
        return self.revision == self.index.main - 1 and self.subs == self.index.written

    def at(self, revision: int) -> ReadTxn:
        """The same history at another revision."""
        return ReadTxn(self.index, self._backend, self._pins, revision)

    def within(self, subs: int) -> ReadTxn:
        """The same history with the first `subs` writes of the next revision."""
        return ReadTxn(self.index, self._backend, self._pins, self.revision, subs)

    def find(self, key: bytes) -> bytes | None:
        """Where the value of `key` is stored: its revision key, perhaps followed by more of the index entry."""
        return self.index.get_at(key, self.bound)

    def get(self, key: bytes) -> bytes | None:
        """The encoded KeyValue of `key`; None if it does not exist."""
        entry = self.index.get_at(key, self.bound)
        return None if entry is None else self.fetch(entry)

    def fetch(self, entry: bytes) -> bytes:
        """The encoded KeyValue stored under the revision key that `entry` begins with."""
        revision_key = entry[:REVISION_BYTES]
        kv = self._get(Bucket.KEY, revision_key)
        return kv if kv is not None else _missing(revision_key)

    def pin(self) -> None:
        """Hold back compactions that would remove what this transaction sees, until `unpin`."""
        self._pins.add(self.revision)

    def unpin(self) -> None:
        self._pins.remove(self.revision)

    def get_stored(self, stored_key: bytes) -> bytes | None:
        """What the backend holds under the key of a revision or of a tombstone."""
        return self._get(Bucket.KEY, stored_key)


def _missing(revision_key: bytes) -> NoReturn:
    raise InvariantViolation(f"the index holds a revision that the backend lacks: {revision_key.hex()}")
