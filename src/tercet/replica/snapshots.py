"""Snapshots of the whole state: offered to followers that need compacted entries, and installed when received.

Raft's Snapshot only describes the state (index, term, configuration); the database is sent with it, read from a point-in-time
view. The description is made from the view, so the two always agree; until the view is open, raft is told to try again.

A view pins the pages that it shows. A view that is not used is closed after VIEW_SECONDS_MAX.
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
    """The views offered to followers, and the databases received from a leader."""

    def __init__(self, state_machine: StateMachine, *, clock: Callable[[], float], log_first_index: Callable[[], int]) -> None:
        """log_first_index: returns the first index that a follower can still get from the log."""
        self._state_machine = state_machine
        self._clock = clock
        self._log_first_index = log_first_index
        self._offered: tuple[Snapshot, ReadView, float] | None = None
        self._is_opening = False
        self._outgoing: list[tuple[Snapshot, ReadView, float]] = []
        self._received: dict[int, StagedSnapshot] = {}

    # --- outgoing

    def offer(self) -> Snapshot | None:
        """The description of an open view, which `take` hands over; None, and an open request, while there is none."""
        self.close_stale()
        if self._offered is None and not self._is_opening:
            self._is_opening = True
            self._state_machine.backend.view(self._opened)  # which may call back at once
        offered, self._offered = self._offered, None
        if offered is None:
            return None
        self._outgoing.append(offered)
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
        """The view of the snapshot at `index`; the caller closes it. None if it has been closed as stale."""
        for position, (described, view, _) in enumerate(self._outgoing):
            if described.index == index:
                del self._outgoing[position]
                return view
        return None

    def close_stale(self) -> None:
        """Close views that were not taken in time, and drop what is no longer worth sending or installing."""
        self._discard(self._state_machine.backend.applied_index)
        oldest = self._clock() - VIEW_SECONDS_MAX
        if self._offered is not None:
            described, view, since = self._offered
            # If the log no longer continues it, its receiver would only need another one.
            if since < oldest or described.index + 1 < self._log_first_index():
                view.close()
                self._offered = None
        for described, view, since in list(self._outgoing):
            if since < oldest:
                view.close()
                self._outgoing.remove((described, view, since))

    def close(self) -> None:
        """Close all views and discard all databases."""
        if self._offered is not None:
            self._offered[1].close()
            self._offered = None
        for _, view, _ in self._outgoing:
            view.close()
        self._outgoing.clear()
        for database in self._received.values():
            database.staged.discard()
        self._received.clear()

    # --- incoming

    def received(self, index: int, database: StagedSnapshot) -> None:
        """Keep the database of the snapshot at `index` until raft decides whether to install it.

        Only databases that can no longer be installed are dropped: of two snapshots in quick succession, neither may discard
        the other's file before it is read (etcd #18055).
        """
        self._discard(self._state_machine.backend.applied_index)
        earlier = self._received.get(index)
        if earlier is not None:
            earlier.staged.discard()
        self._received[index] = database

    def point_of(self, index: int) -> tuple[int, int]:
        """The (index, term) that the database received for the snapshot at `index` has reached; zeros if there is none."""
        received = self._received.get(index)
        return (0, 0) if received is None else received.staged.point

    def install(self, snapshot: Snapshot) -> tuple[int, int]:
        """Replace the state machine by `snapshot`, durably. Returns the (index, term) that the database has reached: the
        snapshot's or a later one.

        Raises StorageFailure if the database was never received.
        """
        point = self._state_machine.install(self._received.get(snapshot.index), snapshot)
        self._discard(point[0])
        return point

    def _discard(self, up_to: int) -> None:
        for index in [index for index in self._received if index <= up_to]:
            self._received.pop(index).staged.discard()
