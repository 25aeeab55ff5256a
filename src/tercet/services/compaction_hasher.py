"""Hashes what each compaction is about to remove, so that members can compare a revision that none of them can read any more.

When a compaction is applied, nothing is removed until a view of the backend is open; the hash is computed over the view, in a
thread, for one compaction at a time: each of these threads competes with the event loop for the interpreter. Of compactions
that wait, the last ones are hashed: no more are kept. HashKV of a revision at which one of the last compactions was made
returns that hash, instead of refusing the revision or hashing what is left of it. Kept in memory alone, as in etcd: not after
a restart.
Source: etcd server/storage/mvcc/hash.go, hashStorage.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from tercet.errors import TercetError
from tercet.log_fields import fields
from tercet.mvcc import CompactionHashes, KVHash, Store, hash_kv
from tercet.mvcc.hash import CACHED_COMPACTIONS
from tercet.replica.replica import Replica
from tercet.slots import Slots
from tercet.storage.interfaces import ReadView

logger = logging.getLogger(__name__)


class CompactionHasher:
    """One for each member; belongs to its event loop."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.hashes = CompactionHashes()
        self._hashing: dict[int, asyncio.Task[None]] = {}  # by revision
        self._waiting: dict[int, asyncio.Task[None]] = {}  # of these, in order
        self._turns = Slots()
        state_machine = replica.state_machine
        state_machine.compaction_listeners.append(self._compacted)
        state_machine.replaced_listeners.append(self.hashes.clear)

    async def find(self, revision: int) -> KVHash | None:
        """The hash taken when `revision` was compacted; None if it was not, or is no longer kept."""
        hashing = self._hashing.get(revision)
        if hashing is not None:
            await asyncio.wait((hashing,))
        return self.hashes.find(revision)

    def _compacted(self, revision: int, previous: int) -> None:
        store = self._replica.store
        store.pins.add(previous)
        self._replica.backend.view(partial(self._opened, store, revision, previous))

    def _opened(self, store: Store, revision: int, previous: int, view: ReadView) -> None:
        store.pins.remove(previous)
        task = asyncio.get_running_loop().create_task(self._hash(view, revision, previous))
        task.add_done_callback(partial(self._ended, view, revision))  # not in the task: it may be cancelled before it begins
        self._hashing[revision] = self._waiting[revision] = task
        if len(self._waiting) > CACHED_COMPACTIONS:
            oldest = next(iter(self._waiting))
            self._waiting.pop(oldest).cancel()

    async def _hash(self, view: ReadView, revision: int, previous: int) -> None:
        try:
            async with self._turns:
                self._waiting.pop(revision, None)  # from here on it is not cancelled: a thread reads the view
                taken = await asyncio.get_running_loop().run_in_executor(None, hash_kv, view, revision, previous)
        except TercetError as error:  # the view was closed: the member stops, or the hash took too long
            logger.warning("failed to hash a compaction", extra=fields(revision=revision, error=str(error)))
        else:
            self.hashes.remember(taken)
            shown = fields(hash=taken.hash, revision=revision, compact_revision=taken.compact_revision)
            logger.info("storing new hash", extra=shown)

    def _ended(self, view: ReadView, revision: int, task: asyncio.Task[None]) -> None:
        view.close()
        self._hashing.pop(revision, None)
        self._waiting.pop(revision, None)
