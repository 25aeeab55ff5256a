"""Removes superseded revisions from the backend after a compaction, a few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet.replica.apply import Applier
from tercet.replica.host import ReplicaHost
from tercet.replica.state_machine import StateMachine

_CALLED_PER_STEP: Final = 500  # each answers a client, 5 us


class StoreCompaction:
    """The compaction of one replica's store. The host calls `step` after each `schedule_compaction`."""

    def __init__(self, state_machine: StateMachine, applier: Applier, host: ReplicaHost) -> None:
        self._state_machine = state_machine
        self._applier = applier
        self._host = host
        self._is_stopped = False
        self._waiters: list[Callable[[], None]] = []
        self._due: deque[Callable[[], None]] = deque()  # of these
        state_machine.compaction_listeners.append(self._compacted)

    def when_finished(self, then: Callable[[], None]) -> None:
        """Call `then` once everything superseded by the compactions so far is removed, durably."""
        self._waiters.append(then)
        self._host.schedule_compaction()

    def step(self, limit: int) -> bool:
        """Remove up to `limit` superseded revisions, and call back some of those who wait. Returns whether there is more."""
        if self._is_stopped:
            return False
        self._call_back()
        if self._applier.is_within_entry:
            return True
        more = self._state_machine.store.compaction_step(limit)
        self._applier.close_writes()  # the removal belongs to no entry: an idle member must commit it too
        if more:
            return True
        waiters, self._waiters = self._waiters, []
        if waiters:
            self._state_machine.backend.commit(then=partial(self._finished, waiters))
        return bool(self._due)

    def _finished(self, waiters: list[Callable[[], None]]) -> None:
        """During a long compaction thousands of requests for others may have come, which end with it."""
        self._due.extend(waiters)
        self._call_back()
        if self._due:
            self._host.schedule_compaction()

    def _call_back(self) -> None:
        for _ in range(min(_CALLED_PER_STEP, len(self._due))):
            self._due.popleft()()

    def _compacted(self, revision: int, previous: int) -> None:
        self._host.schedule_compaction()

    def stop(self) -> None:
        """The backend is about to be closed."""
        self._is_stopped = True
