"""History as watches read it: the records of the backend, revision by revision."""

from __future__ import annotations

from itertools import islice
from typing import Final

from tercet.errors import CorruptRecord
from tercet.mvcc.encoding import TOMBSTONE, encode_revision_key
from tercet.mvcc.events import Event
from tercet.mvcc.store import Store
from tercet.storage.interfaces import Bucket

Record = tuple[bytes, bytes]

KEPT_REVISIONS: Final = 10_000


class KeptHistory:
    """Holds back what compactions remove, for watches that were up to date until the hub could not follow: their clients read,
    and a compaction right after a large request must not end them.

    until: the revision from which compactions need not wait any more, KEPT_REVISIONS on.
    """

    __slots__ = ("_pinned", "_pins", "until")

    def __init__(self, store: Store, cursor: int) -> None:
        """cursor: the first revision that they have not been sent; not below the compact revision."""
        self._pins = store.pins
        self._pinned = cursor - 1  # for prev_kv
        self._pins.add(self._pinned)
        self.until = cursor + KEPT_REVISIONS

    def release(self) -> None:
        self._pins.remove(self._pinned)


class History:
    """The revisions of a store that can still be watched: those from its compact revision on."""

    __slots__ = ("store",)

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def next_revision(self) -> int:
        """The revision of the next request that writes."""
        return self.store.index.main

    @property
    def compact_revision(self) -> int:
        return self.store.compact_revision

    @property
    def is_within_request(self) -> bool:
        """Whether a request has written a part of the next revision."""
        return self.store.index.written > 0

    def records(self, revision: int, sub: int, limit: int) -> list[Record]:
        """The stored records of a complete revision from write `sub` on, at most `limit`; fewer: there are no more.

        revision: not below the compact revision.
        """
        backend = self.store.backend
        if revision == self.store.compact_revision:  # a compaction has removed what the same request wrote over
            start, end = encode_revision_key(revision, sub), encode_revision_key(revision + 1, 0)
            return list(islice(backend.scan(Bucket.KEY, start, end), limit))
        # Later revisions have no gaps. Point reads, since a scan would visit all that no commit has written to the file yet.
        found: list[Record] = []
        while len(found) < limit:
            stored_key = encode_revision_key(revision, sub + len(found))
            value = backend.get(Bucket.KEY, stored_key)
            if value is None:
                stored_key += TOMBSTONE
                value = backend.get(Bucket.KEY, stored_key)
                if value is None:
                    break
            found.append((stored_key, value))
        return found

    def encoded_with_previous(self, event: Event, *, is_kept: bool = False) -> bytes:
        """The event with prev_kv: the pair before its request, unless there was none or a compaction has removed it.

        is_kept: a KeptHistory holds back the compaction.
        """
        encoded = event.encoded_with_previous
        if encoded is None:
            previous = None
            if (is_kept or event.revision > self.store.compact_revision) and not event.is_create:
                try:
                    previous = self.store.get_at(event.key, event.revision - 1)
                except CorruptRecord:  # the alarm is raised; the event itself is good, and is sent, as by etcd
                    previous = None
            encoded = event.add_previous(previous)
        return encoded
