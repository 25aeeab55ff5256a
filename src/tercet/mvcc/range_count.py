"""How many keys of a range existed at an old revision, counted in slices.

Where little has changed since, the count is the current one, corrected by the keys that changed: their revisions are looked
up one after the other. Otherwise the range is walked. Pages of a long list are all read at the revision of the first page,
and each page states the count, so the walk would be paid for every page.
"""

from __future__ import annotations

from typing import Final

from tercet.mvcc.encoding import TOMBSTONE, encode_revision_key, key_of, revision_bound
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import FETCH, VISIT, Budget

_CHUNK: Final = 64  # keys visited between two looks at the budget
_WALK_PER_CHANGE: Final = 8  # keys walked in the time that it takes to look up one change


class RangeCount:
    """See `work.Steps`. `count` is final once `step` has returned False."""

    __slots__ = (
        "_bound",
        "_changed",
        "_current_bound",
        "_end",
        "_index",
        "_is_walk",
        "_main",
        "_start",
        "_sub",
        "_txn",
        "_until",
        "count",
    )

    def __init__(self, txn: ReadTxn, start: bytes, end: bytes | None) -> None:
        index, revision = txn.index, txn.revision
        self._index = index
        self._txn = txn
        self._start = start
        self._end = end
        self._bound = txn.bound
        current = index.main - 1
        self._current_bound = revision_bound(current)
        self._main, self._sub, self._until = revision + 1, 0, current
        self._changed: set[bytes] = set()
        self.count = index.count(start, end)
        # In the middle of a request the index does not hold whole revisions, and its own count is of none.
        self._is_walk = index.written > 0 or (current - revision) * _WALK_PER_CHANGE > self.count
        if self._is_walk:
            self.count = 0

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        return self._walk(budget) if self._is_walk else self._correct(budget)

    def _walk(self, budget: Budget) -> bool:
        while budget.left > 0:
            found, last = self._index.range_at(self._start, self._end, self._bound, _CHUNK)
            self.count += len(found)
            budget.left -= _CHUNK * VISIT
            if last is None:
                return False
            self._start = last + b"\0"
        return True

    def _correct(self, budget: Budget) -> bool:
        """Visit the writes of later revisions, in their order."""
        get = self._txn.get_stored
        while self._main <= self._until:
            if budget.left <= 0:
                return True
            revision_key = encode_revision_key(self._main, self._sub)
            kv = get(revision_key)
            if kv is None:
                kv = get(revision_key + TOMBSTONE)
                budget.left -= FETCH
            budget.left -= FETCH
            if kv is None:
                self._main, self._sub = self._main + 1, 0
                continue
            self._sub += 1
            key = key_of(kv)
            if key >= self._start and (self._end is None or key < self._end) and key not in self._changed:
                self._changed.add(key)
                get_at = self._index.get_at
                self.count += (get_at(key, self._bound) is not None) - (get_at(key, self._current_bound) is not None)
        return False
