"""Removes compacted revisions in slices, each of a bounded number of keys and deletions.

A compaction takes effect when it is applied: reads below it are refused at once, and what only they could return is removed
when there is time. Only keys with a past have anything to remove, so the work is a list of those. A newer compaction takes over
the work of an unfinished one. `scheduledCompactRev` and `finishedCompactRev` in the backend tell a member at start whether to
go on.
Source: etcd server/storage/mvcc/kvstore_compaction.go. Departs in: walks the index, not the bucket.
"""

from __future__ import annotations

from tercet.mvcc.counts import Counts
from tercet.mvcc.key_index import KeyIndex
from tercet.storage.interfaces import Backend, Bucket


class Compaction:
    """The removal of what a compaction at `revision` supersedes."""

    __slots__ = ("_backend", "_counts", "_index", "_keys", "revision")

    def __init__(self, index: KeyIndex, backend: Backend, revision: int, counts: Counts) -> None:
        self.revision = revision
        self._counts = counts
        self._index = index
        self._backend = backend
        # Keys that get a past later have nothing to remove: the one revision they had is the newest at or below ours.
        self._keys = list(index.past)
        self._keys.reverse()  # taken from the end, oldest first

    def step(self, limit: int) -> bool:
        """Look at `limit` keys or remove `limit` revisions, whichever comes first. True: there is more to do."""
        keys, backend, index, revision = self._keys, self._backend, self._index, self.revision
        deletions = limit
        for _ in range(min(limit, len(keys))):
            for revision_key in (gone := index.forget(keys[-1], revision, deletions)):
                backend.delete(Bucket.KEY, revision_key)
            deletions -= len(gone)
            self._counts.compacted += len(gone)
            if deletions == 0:
                return True  # this key may have more
            keys.pop()
        return bool(keys)
