"""The whole state in one piece: offered to a follower that the log cannot reach any more, and installed where one arrives.

Raft sends only a description (index, term, configuration); the database itself travels beside it, read from a point-in-time
view. The view tells its own index, so description and database always agree: raft's question is answered with "not now" until
the view is open.

A view pins the pages that it shows. One that nobody came for is closed after VIEW_SECONDS_MAX.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tercet.raft.types import Snapshot
from tercet.replica.membership import Membership
from tercet.replica.state_machine import StagedSnapshot, StateMachine, conf_state_in
from tercet.storage.interfaces import Bucket, ReadView

logger = logging.getLogger(__name__)

VIEW_SECONDS_MAX: Final = 30.0


class Snapshots:
    """Views on their way out, databases on their way in."""

    def __init__(self, state_machine: StateMachine, *, clock: Callable[[], float], log_starts: Callable[[], int]) -> None:
        """log_starts: the first index that a follower can still get from the log."""
        self._machine = state_machine
        self._clock = clock
        self._log_starts = log_starts
        self._offered: tuple[Snapshot, ReadView, float] | None = None
        self._is_opening = False
        self._leaving: list[tuple[Snapshot, ReadView, float]] = []
        self._received: dict[int, StagedSnapshot] = {}

    # --- out

    def offer(self) -> Snapshot | None:
        """Raft's `snapshot_source`: the description of a view that `take` will hand over, or None while none is open."""
        self.close_stale()
        if self._offered is None and not self._is_opening:
            self._is_opening = True
            self._machine.backend.view(self._opened)  # which may call back at once
        offered, self._offered = self._offered, None
        if offered is None:
            return None
        self._leaving.append(offered)
        return offered[0]

    def _opened(self, view: ReadView) -> None:
        self._is_opening = False
        index = int.from_bytes(view.get(Bucket.META, b"consistent_index") or b"", "big")
        term = int.from_bytes(view.get(Bucket.META, b"term") or b"", "big")
        if index == 0:
            view.close()
            return
        described = Snapshot(index, term, conf_state_in(view), data=Membership(view).to_v2_json())
        self._offered = (described, view, self._clock())

    def take(self, index: int) -> ReadView | None:
        """The view that goes with the description at `index`; whoever takes it closes it. None if it has been closed as
        stale.
        """
        for position, (described, view, _) in enumerate(self._leaving):
            if described.index == index:
                del self._leaving[position]
                return view
        return None

    def close_stale(self) -> None:
        """Close what was offered and never fetched, and what is not worth sending or installing any more."""
        self._discard(self._machine.backend.applied_index)
        oldest = self._clock() - VIEW_SECONDS_MAX
        if self._offered is not None:
            described, view, since = self._offered
            # One that the log no longer continues would only make its receiver ask for another.
            if since < oldest or described.index + 1 < self._log_starts():
                view.close()
                self._offered = None
        for described, view, since in list(self._leaving):
            if since < oldest:
                view.close()
                self._leaving.remove((described, view, since))

    def close(self) -> None:
        """The member stops."""
        if self._offered is not None:
            self._offered[1].close()
            self._offered = None
        for _, view, _ in self._leaving:
            view.close()
        self._leaving.clear()
        for database in self._received.values():
            database.staged.discard()
        self._received.clear()

    # --- in

    def received(self, index: int, database: StagedSnapshot) -> None:
        """The database that belongs to the snapshot at `index` is here and prepared; raft has yet to decide whether it is
        wanted.

        Only those that can no longer be wanted are dropped: two snapshots in quick succession must not take each other's file
        away before it is read (etcd #18055).
        """
        self._discard(self._machine.backend.applied_index)
        earlier = self._received.get(index)
        if earlier is not None:
            earlier.staged.discard()
        self._received[index] = database

    def install(self, snapshot: Snapshot) -> tuple[int, int]:
        """Make the state machine what `snapshot` says, durably. Returns the (index, term) that the database itself has
        reached, the snapshot's or later.

        Raises StorageFailure if the database was never received.
        """
        point = self._machine.install(self._received.get(snapshot.index), snapshot)
        self._discard(point[0])
        return point

    def _discard(self, up_to: int) -> None:
        for index in [index for index in self._received if index <= up_to]:
            self._received.pop(index).staged.discard()
