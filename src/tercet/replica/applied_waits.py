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

AppliedCallback = Callable[[StatusError | None], None]


class AppliedWaits:
    """The waits of one member. Indices and deadlines ascend."""

    __slots__ = ("_clock", "_waits")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits: deque[tuple[int, float, AppliedCallback]] = deque()

    def add(self, commit_index: int, applied_index: int, then: AppliedCallback) -> None:
        """Call `then(None)` once `commit_index` is applied, perhaps at once; or with TIMEOUT_WAIT_APPLIED."""
        if commit_index <= applied_index:
            then(None)
        else:
            self._waits.append((commit_index, self._clock() + TIMEOUT_SECONDS, then))

    def applied(self, applied_index: int) -> None:
        """This member has applied up to `applied_index`."""
        waits = self._waits
        while waits and waits[0][0] <= applied_index:
            waits.popleft()[2](None)

    def expire(self) -> None:
        """Fail the waits past their deadline."""
        waits = self._waits
        while waits and waits[0][1] <= self._clock():
            waits.popleft()[2](errors.TIMEOUT_WAIT_APPLIED)

    def fail_all(self, error: StatusError) -> None:
        """Fail every wait: this member stops."""
        while self._waits:
            self._waits.popleft()[2](error)
