"""When may the log start later? Behind a point that the backend holds durably, and not sooner than slow followers can bear.

Every `snapshot_entries` applied entries:  backend commits  ->  the log records the point  ->  segments before it go, and raft
forgets all entries but the last `catch_up_entries`, which spare a follower that is a little behind a whole snapshot.

Each arrow waits for durability on its left: a power cut between any two leaves a log that still reaches back to the backend's
state.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tercet.raft import Raft
from tercet.raft.types import Snapshot
from tercet.storage.interfaces import Backend, LogStore

# While a snapshot travels, the entries after it are kept for its receiver; but a link that never finishes may not fill the
# memory.
KEPT_WHILE_SENDING_MAX: Final = 200_000


class Checkpoints:
    """One member's checkpoints. `is_sending` tells whether a snapshot is on its way to a follower."""

    def __init__(self, raft: Raft, log_store: LogStore, backend: Backend, snapshot_entries: int, catch_up_entries: int) -> None:
        self._raft = raft
        self._log_store = log_store
        self._backend = backend
        self._snapshot_entries = snapshot_entries
        self._catch_up_entries = catch_up_entries
        self._last_index = raft.log.snapshot_index  # not where this life began: many short ones must not add up to a long log
        self._is_running = False
        self.is_sending = False

    def applied(self, index: int, term: int) -> None:
        """All entries up to `index` are applied; begins a checkpoint if one is due."""
        if index - self._last_index < self._snapshot_entries or self._is_running:
            return
        self._is_running = True
        self._last_index = index
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
        if self.is_sending:
            keep_from = point.index - max(self._catch_up_entries, KEPT_WHILE_SENDING_MAX)
        if keep_from > 0:
            self._raft.compact(keep_from)
