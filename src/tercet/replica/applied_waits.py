"""Waits until this member has applied everything that was committed when the wait began.

What the leader answers from memory without asking the quorum (a lease, its remaining TTL) must not be older than what it has
acknowledged through the log. Source: etcd server/etcdserver/v3_server.go (waitAppliedIndex).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.errors import StatusError

TIMEOUT_SECONDS: Final = 1.0  # etcd's applyTimeout
CALLED_PER_TURN: Final = 500

AppliedCallback = Callable[[StatusError | None], None]


class AppliedWaits:
    """The waits of one member. Indices and deadlines ascend. Where thousands are over together, `call_back` ends them."""

    __slots__ = ("_applied_index", "_clock", "_expired_until", "_waits")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._applied_index = 0
        self._expired_until = clock()
        self._waits: deque[tuple[int, float, AppliedCallback]] = deque()

    def add(self, commit_index: int, applied_index: int, then: AppliedCallback) -> None:
        """Call `then(None)` once `commit_index` is applied, perhaps at once; or with TIMEOUT_WAIT_APPLIED."""
        if commit_index <= applied_index:
            then(None)
        else:
            self._waits.append((commit_index, self._clock() + TIMEOUT_SECONDS, then))

    def applied(self, applied_index: int) -> bool:
        """This member has applied up to `applied_index`. Returns what `call_back` does."""
        self._applied_index = applied_index
        return self.call_back()

    def expire(self) -> bool:
        """Fail the waits past their deadline. Returns what `call_back` does."""
        self._expired_until = self._clock()
        return self.call_back()

    def call_back(self) -> bool:
        """End as many of the waits that are over as one turn may take. Returns whether there are more."""
        waits = self._waits
        for _ in range(CALLED_PER_TURN):
            if not waits:
                return False
            index, deadline, then = waits[0]
            if index > self._applied_index and deadline > self._expired_until:
                return False
            waits.popleft()
            then(None if index <= self._applied_index else errors.TIMEOUT_WAIT_APPLIED)
        return True

    def fail_all(self, error: StatusError) -> None:
        """Fail every wait: this member stops."""
        while self._waits:
            self._waits.popleft()[2](error)
