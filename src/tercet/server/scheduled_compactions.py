"""Paced removal of what compactions supersede, measured and logged: "finished scheduled compaction", with etcd's fields.

Source: etcd server/storage/mvcc/kvstore_compaction.go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

from tercet.gotext.duration import format_seconds
from tercet.gotext.strconv import humanize_bytes
from tercet.log_fields import fields
from tercet.mvcc import KVHash
from tercet.peer.tasks import Tasks
from tercet.replica.replica import Replica

logger = logging.getLogger(__name__)


class ScheduledCompactions:
    """`step` removes one batch.

    batch_limit: --compaction-batch-limit. observe_batch, observe_total: called with milliseconds.
    find_hash: the hash taken at a compaction, once it is computed; None if it is not taken.
    """

    def __init__(self, replica: Replica, batch_limit: int) -> None:
        self._replica = replica
        self._batch_limit = batch_limit
        self._revision = 0  # of the compaction in progress
        self._began = 0.0
        self._removed_before = 0
        self._tasks = Tasks()
        self.finished_at = 0.0  # seconds since 1970; 0: never
        self.observe_batch: Callable[[float], None] = _ignore
        self.observe_total: Callable[[float], None] = _ignore
        self.find_hash: Callable[[int], Awaitable[KVHash | None]] = _unknown

    def step(self) -> bool:
        """Remove a batch. Returns whether there is more to do."""
        replica = self._replica
        revision = replica.store.unfinished_compaction
        began = time.perf_counter()
        if revision != self._revision:  # a new one, which takes over what is left of the one before
            self._revision, self._began, self._removed_before = revision, began, replica.counts.compacted
            if revision:
                logger.info("compact tree index", extra=fields(revision=revision))
        more = replica.compaction.step(self._batch_limit)
        if not revision:
            return more
        now = time.perf_counter()
        self.observe_batch(1000 * (now - began))
        if replica.store.finished_compact_revision == revision:
            self._finished(revision, now - self._began)
        return more

    def _finished(self, revision: int, seconds: float) -> None:
        self._revision = 0
        self.finished_at = time.time()
        self.observe_total(1000 * seconds)
        removed = self._replica.counts.compacted - self._removed_before
        self._tasks.spawn(self._report(revision, seconds, removed), "logging a compaction")

    async def close(self) -> None:
        await self._tasks.close()

    async def _report(self, revision: int, seconds: float, removed: int) -> None:
        taken = await self.find_hash(revision)
        backend = self._replica.backend
        size, in_use = backend.size(), backend.size_in_use()
        logger.info(
            "finished scheduled compaction",
            extra=fields(
                compact_revision=revision,
                took=format_seconds(seconds),
                number_of_keys_compacted=removed,
                **({"hash": taken.hash} if taken is not None else {}),
                current_db_size_bytes=size,
                current_db_size=humanize_bytes(size),
                current_db_size_in_use_bytes=in_use,
                current_db_size_in_use=humanize_bytes(in_use),
            ),
        )


def _ignore(milliseconds: float) -> None: ...


async def _unknown(revision: int) -> KVHash | None:
    return None
