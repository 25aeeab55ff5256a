"""When may the log start later? Behind a point that the backend holds durably, and not sooner than slow followers can bear.

Every `snapshot_entries` applied entries:  backend commits  ->  the log records the point  ->  segments before it go, and raft
forgets all entries but the last `catch_up_entries`, which spare a follower that is a little behind a whole snapshot. Entries
may be large, so their bytes are bounded as well (`catch_up_bytes`).

Each arrow waits for durability on its left: a power cut between any two leaves a log that still reaches back to the backend's
state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet.raft import Raft
from tercet.raft.types import Snapshot
from tercet.storage.interfaces import Backend, LogStore

# While a snapshot is opened, travels, is read and is caught up with, the entries after it are kept for its receiver: under load
# it would otherwise need another snapshot by then, and so on for ever. But one that never gets there may not fill the memory.
KEPT_FOR_RECEIVERS_MAX: Final = 200_000
OPENING_SECONDS_MAX: Final = 5.0
CATCHING_UP_SECONDS_MAX: Final = 30.0  # etcd's releaseDelayAfterSnapshot


class Checkpoints:
    """One member's checkpoints. It has to be told of snapshots on their way to followers."""

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
        self._last_index = raft.log.snapshot_index  # not where this life began: many short ones must not add up to a long log
        self._last_bytes = raft.log.size_bytes
        self._is_running = False
        self._clock = clock
        self._asked_until = -math.inf
        self._receivers: dict[int, float] = {}  # members that a snapshot goes to, and until when it is waited for them

    def asked(self) -> None:
        """A follower needs a snapshot; it is being opened, and goes out soon."""
        self._asked_until = self._clock() + OPENING_SECONDS_MAX

    def sending(self, member_id: int) -> None:
        """A snapshot is on its way to a follower."""
        self._receivers[member_id] = math.inf

    def sent(self, member_id: int, *, ok: bool) -> None:
        """It has arrived, or failed to."""
        if ok:
            self._receivers[member_id] = self._clock() + CATCHING_UP_SECONDS_MAX
        else:
            self._receivers.pop(member_id, None)

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are applied; begins a checkpoint if one is due."""
        log_bytes = self._raft.log.size_bytes
        is_due = index - self._last_index >= self._snapshot_entries or log_bytes - self._last_bytes >= self._catch_up_bytes
        if not is_due or self._is_running:
            return
        self._is_running = True
        self._last_index, self._last_bytes = index, log_bytes
        point = Snapshot(index, term, self._raft.conf_state)
        self._backend.commit(then=partial(self._committed, point))

    def installed(self, index: int) -> None:
        """A received snapshot has taken the place of everything up to `index`."""
        self._last_index = index

    def _committed(self, point: Snapshot) -> None:
        self._log_store.save_snapshot(point, then=partial(self._saved, point))

    def _saved(self, point: Snapshot) -> None:
        self._is_running = False
        self._log_store.release(point.index)
        keep_from = point.index - self._catch_up_entries
        if self._is_awaited(keep_from):
            keep_from = point.index - max(self._catch_up_entries, KEPT_FOR_RECEIVERS_MAX)
        keep_from = max(keep_from, min(self._raft.log.last_beyond(self._catch_up_bytes), point.index))
        if keep_from > 0:
            self._raft.compact(keep_from)
        self._last_bytes = self._raft.log.size_bytes

    def _is_awaited(self, keep_from: int) -> bool:
        """Whether somebody who gets a snapshot still needs entries before `keep_from`."""
        now, raft = self._clock(), self._raft
        for member_id, until in list(self._receivers.items()):
            progress = raft.progress(member_id)
            if now > until or progress is None or progress.match >= keep_from:
                del self._receivers[member_id]
        return bool(self._receivers) or now < self._asked_until
