"""Compacts the log: drops entries that a durable backend covers and that no follower is likely to need.

Every `snapshot_entries` applied entries:  the backend commits  ->  the log records a snapshot at that point  ->  WAL segments
before it are released, and raft drops all entries but the last `catch_up_entries`, which save a slow follower from needing a
whole database. Entries may be large, so their bytes are bounded as well (`catch_up_bytes`).

Each arrow waits for durability on its left: after a power cut in between, the log still reaches back to the backend's state.
Source: etcd server/etcdserver/server.go (snapshot, triggerSnapshot).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet.log_fields import fields
from tercet.raft import Raft
from tercet.raft.types import Snapshot
from tercet.storage.interfaces import Backend, LogStore

logger = logging.getLogger(__name__)

# While a follower receives a snapshot and catches up, the entries after it are kept: under load it would otherwise need another
# snapshot by then, and so on for ever. The bound protects the memory from a follower that never catches up.
KEPT_FOR_RECEIVERS_MAX: Final = 200_000
COMPACTED_IN_TURN: Final = 20_000  # entries: 2 to 10 ms
COMPACTED_BYTES_IN_TURN: Final = 16 << 20  # about: to free 256 MiB at once takes 60 ms
OPENING_SECONDS_MAX: Final = 5.0
CATCHING_UP_SECONDS_MAX: Final = 30.0  # etcd's releaseDelayAfterSnapshot


class LogCompaction:
    """The log compaction of one member. It must be informed of snapshots sent to followers."""

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        backend: Backend,
        snapshot_entries: int,
        catch_up_entries: int,
        catch_up_bytes: int,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._raft = raft
        self._log_store = log_store
        self._backend = backend
        self._snapshot_entries = snapshot_entries
        self._catch_up_entries = catch_up_entries
        self._catch_up_bytes = catch_up_bytes
        # Not the index at the start of this process: many short runs must not add up to a long log.
        self._last_index = raft.log.snapshot_index
        self._last_bytes = raft.log.size_bytes
        self._is_running = False
        self._keep_from = 0  # raft drops the entries before this index
        self._clock = clock
        self._opening_until = -math.inf
        self._receivers: dict[int, float] = {}  # member -> the time until which entries are kept for it

    def snapshot_requested(self) -> None:
        """A follower needs a snapshot; it is being opened."""
        self._opening_until = self._clock() + OPENING_SECONDS_MAX

    def sending(self, member_id: int) -> None:
        """A snapshot is being sent to a follower."""
        self._receivers[member_id] = math.inf

    def is_sending(self, member_id: int) -> bool:
        """Is a snapshot on its way to this follower?"""
        return self._receivers.get(member_id) == math.inf

    def sent(self, member_id: int, *, ok: bool) -> None:
        """The snapshot has been delivered, or has failed."""
        if ok:
            self._receivers[member_id] = self._clock() + CATCHING_UP_SECONDS_MAX
        else:
            self._receivers.pop(member_id, None)

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are applied; goes on with a compaction, or starts one if one is due."""
        self.go_on()
        log_bytes = self._raft.log.size_bytes
        is_due = index - self._last_index >= self._snapshot_entries or log_bytes - self._last_bytes >= self._catch_up_bytes
        if not is_due or self._is_running:
            return
        self._is_running = True
        shown = fields(
            local_member_id=f"{self._raft.id:x}",
            local_member_applied_index=index,
            local_member_snapshot_index=self._last_index,
            local_member_snapshot_count=self._snapshot_entries,
        )
        logger.info("triggering snapshot", extra=shown)
        self._last_index, self._last_bytes = index, log_bytes
        snapshot = Snapshot(index, term, self._raft.conf_state)
        self._backend.commit(then=partial(self._committed, snapshot))

    def go_on(self) -> None:
        """Drop some more entries, where one turn was not enough."""
        if self._raft.log.snapshot_index < self._keep_from:
            self._compact_some()

    def installed(self, index: int) -> None:
        """A received snapshot has replaced everything up to `index`."""
        self._last_index = index

    def _committed(self, snapshot: Snapshot) -> None:
        self._log_store.save_snapshot(snapshot, then=partial(self._saved, snapshot))

    def _saved(self, snapshot: Snapshot) -> None:
        self._is_running = False
        logger.info("saved snapshot to disk", extra=fields(snapshot_index=snapshot.index))
        self._log_store.release(snapshot.index)
        keep_from = snapshot.index - self._catch_up_entries
        if self._has_receiver_behind(keep_from):
            keep_from = snapshot.index - max(self._catch_up_entries, KEPT_FOR_RECEIVERS_MAX)
        keep_from = max(keep_from, min(self._raft.log.last_beyond(self._catch_up_bytes), snapshot.index))
        if keep_from > 0:
            self._keep_from = keep_from
            self._compact_some()
            logger.info("compacted Raft logs", extra=fields(compact_index=keep_from))
        self._last_bytes = self._raft.log.size_bytes

    def _compact_some(self) -> None:
        """Drop entries that are not kept. Large ones, or those that were kept for a receiver, may be too many for one turn."""
        log = self._raft.log
        affordable = log.last_beyond(log.size_bytes - COMPACTED_BYTES_IN_TURN)
        self._raft.compact(min(self._keep_from, log.snapshot_index + COMPACTED_IN_TURN, affordable))
        self._last_bytes = min(self._last_bytes, log.size_bytes)

    def _has_receiver_behind(self, keep_from: int) -> bool:
        """Does a follower that receives a snapshot still need entries before `keep_from`?"""
        now, raft = self._clock(), self._raft
        for member_id, until in list(self._receivers.items()):
            progress = raft.progress(member_id)
            if now > until or progress is None or progress.match >= keep_from:
                del self._receivers[member_id]
        return bool(self._receivers) or now < self._opening_until
