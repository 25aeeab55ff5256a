"""Hashes what each compaction is about to remove, so that members can compare a revision that none of them can read any more.

When a compaction is applied, nothing is removed until a view of the backend is open; the hash is computed over the view, in a
thread. HashKV of a revision at which one of the last compactions was made returns that hash, instead of refusing the revision
or hashing what is left of it. Kept in memory alone, as in etcd: not after a restart.
Source: etcd server/storage/mvcc/hash.go, hashStorage.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from tercet.errors import TercetError
from tercet.log_fields import fields
from tercet.mvcc import CompactionHashes, KVHash, Store, hash_kv
from tercet.replica.replica import Replica
from tercet.storage.interfaces import ReadView

logger = logging.getLogger(__name__)


class CompactionHasher:
    """One for each member; belongs to its event loop."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.hashes = CompactionHashes()
        self._hashing: dict[int, asyncio.Task[None]] = {}  # by revision
        state_machine = replica.state_machine
        state_machine.compaction_listeners.append(self._compacted)
        state_machine.replaced_listeners.append(self.hashes.clear)

    async def find(self, revision: int) -> KVHash | None:
        """The hash taken when `revision` was compacted; None if it was not, or is no longer kept."""
        hashing = self._hashing.get(revision)
        if hashing is not None:
            await asyncio.shield(hashing)
        return self.hashes.find(revision)

    def _compacted(self, revision: int, previous: int) -> None:
        store = self._replica.store
        store.pins.add(previous)
        self._replica.backend.view(partial(self._opened, store, revision, previous))

    def _opened(self, store: Store, revision: int, previous: int, view: ReadView) -> None:
        store.pins.remove(previous)
        task = asyncio.get_running_loop().create_task(self._hash(view, revision, previous))
        self._hashing[revision] = task

    async def _hash(self, view: ReadView, revision: int, previous: int) -> None:
        try:
            taken = await asyncio.get_running_loop().run_in_executor(None, hash_kv, view, revision, previous)
        except TercetError as error:  # the view was closed: the member stops, or the hash took too long
            logger.warning("failed to hash a compaction", extra=fields(revision=revision, error=str(error)))
        else:
            self.hashes.remember(taken)
            shown = fields(hash=taken.hash, revision=revision, compact_revision=taken.compact_revision)
            logger.info("storing new hash", extra=shown)
        finally:
            view.close()
            self._hashing.pop(revision, None)
