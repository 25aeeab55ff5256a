"""Removes compacted revisions in slices, each of a bounded number of keys and deletions.

A compaction takes effect when it is applied: reads below it are refused at once, and what only they could return is removed
when there is time. Only keys with a past have anything to remove; the index queues them (`KeyIndex.visits`). A newer compaction
takes over the work of an unfinished one. `scheduledCompactRev` and `finishedCompactRev` in the backend tell a member at start
whether to go on.
Source: etcd server/storage/mvcc/kvstore_compaction.go. Departs in: walks the index, not the bucket.
"""

from __future__ import annotations

from tercet.mvcc.counts import Counts
from tercet.mvcc.key_index import KeyIndex
from tercet.storage.interfaces import Backend, Bucket


class Compaction:
    """The removal of what a compaction at `revision` supersedes."""

    __slots__ = ("_backend", "_counts", "_index", "_left", "revision")

    def __init__(self, index: KeyIndex, backend: Backend, revision: int, counts: Counts) -> None:
        self.revision = revision
        self._counts = counts
        self._index = index
        self._backend = backend
        # Keys that get a past later have nothing to remove: the one revision they had is the newest at or below ours.
        self._left = len(index.visits)

    def step(self, limit: int) -> bool:
        """Look at `limit` keys or remove `limit` revisions, whichever comes first. True: there is more to do."""
        backend, index, revision = self._backend, self._index, self.revision
        visits = index.visits
        deletions = limit
        for _ in range(min(limit, self._left)):
            key = visits[0]
            for revision_key in (gone := index.forget(key, revision, deletions)):
                backend.delete(Bucket.KEY, revision_key)
            deletions -= len(gone)
            self._counts.compacted += len(gone)
            if deletions == 0 and key in index.shard(key).past:
                return True  # this key may have more
            index.visited()
            self._left -= 1
            if deletions == 0:
                break
        return self._left > 0
