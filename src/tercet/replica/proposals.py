"""From a client's request to an entry of the log, and from the applied entry back to whoever waits for it.

A proposal waits in three places: in `_queue` until this turn ends (all of a turn become one append) or until a leader is
known; in the log; and in `waiting` until its entry is applied here. The key of `waiting` is the entry's data itself: it holds
a request id that no other request has, on the leader it is the very same object, and so nobody has to parse an entry to find
its waiter.

Must never answer "not done": a forwarded proposal may be applied after the client stopped waiting, and there is no
deduplication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tercet import errors
from tercet.errors import Code, StatusError, Unavailable
from tercet.raft import Raft
from tercet.replica.requests import RequestIds, encode_request

Outcome = bytes | StatusError
"""An encoded response body without its header, or the error that the client gets."""

PENDING_APPLY_MAX: Final = 5000  # etcd's maxGapBetweenApplyAndCommitIndex: beyond it a member that cannot follow refuses work
NEVER_PROPOSED: Final = Unavailable(Code.DEADLINE_EXCEEDED, "context deadline exceeded")


class Waiter:
    """Someone who waits for an entry to be applied. `message` is the parsed request, so that applying here need not parse it
    again.
    """

    __slots__ = ("deadline", "field", "is_proposed", "message", "proposed_at", "then")

    def __init__(self, field: str, message: Any, then: Callable[[Outcome], None], proposed_at: float, deadline: float) -> None:
        self.field = field
        self.message = message
        self.then = then
        self.proposed_at = proposed_at
        self.deadline = deadline
        self.is_proposed = False


class Proposals:
    """All that this member has proposed and not yet seen applied."""

    def __init__(
        self,
        ids: RequestIds,
        *,
        clock: Callable[[], float],
        timeout_seconds: float,
        request_bytes_max: int,
    ) -> None:
        self.ids = ids
        self.waiting: dict[bytes, Waiter] = {}  # in order of proposing, so deadlines rise from the front
        self._queue: list[bytes] = []
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._request_bytes_max = request_bytes_max
        self.failed = 0

    def add(self, field: str, body: bytes, message: Any, then: Callable[[Outcome], None]) -> int:
        """Queue a request. `then` is called exactly once: with the outcome, or with an error after the timeout.

        Returns how many are queued.

        Raises RequestError if the encoded request is larger than --max-request-bytes.
        """
        data = encode_request(field, body, self.ids)
        if len(data) > self._request_bytes_max:
            raise errors.REQUEST_TOO_LARGE
        now = self._clock()
        self.waiting[data] = Waiter(field, message, then, now, now + self._timeout_seconds)
        self._queue.append(data)
        return len(self._queue)

    def wait_for(self, data: bytes, field: str, message: Any, then: Callable[[Outcome], None]) -> None:
        """Wait for an entry that somebody else hands to raft (a configuration change)."""
        now = self._clock()
        waiter = Waiter(field, message, then, now, now + self._timeout_seconds)
        waiter.is_proposed = True
        self.waiting[data] = waiter

    def submit(self, raft: Raft) -> None:
        """Hand this turn's proposals to raft as one batch; without a leader they stay and wait for one."""
        queue = self._queue
        if not queue or not raft.leader_id:
            return
        waiting = self.waiting
        live = []
        for data in queue:
            waiter = waiting.get(data)
            if waiter is not None:
                waiter.is_proposed = True
                live.append(data)
        self._queue = []
        if live and not raft.propose(live):
            for data in live:
                self._fail(data, errors.PROPOSAL_DROPPED)

    def expire(self, *, leader_elected_at: float, leader_lost_at: float, leader_is_reachable: bool) -> None:
        """Answer those who have waited too long, naming the cause where one can be seen (etcd's parseProposeCtxErr)."""
        now = self._clock()
        overdue = []
        for data, waiter in self.waiting.items():
            if waiter.deadline > now:
                break
            overdue.append((data, waiter))
        for data, waiter in overdue:
            if not waiter.is_proposed:
                error: StatusError = NEVER_PROPOSED
            elif leader_lost_at < waiter.proposed_at < leader_elected_at:
                error = errors.TIMEOUT_LEADER_FAILURE
            elif not leader_is_reachable:
                error = errors.TIMEOUT_CONNECTION_LOST
            else:
                error = errors.TIMEOUT
            self._fail(data, error)
        if overdue:
            self._queue = [data for data in self._queue if data in self.waiting]

    def fail_all(self, error: StatusError) -> None:
        """The member stops: nobody may wait for ever."""
        for data in list(self.waiting):
            self._fail(data, error)
        self._queue.clear()

    def _fail(self, data: bytes, error: StatusError) -> None:
        self.failed += 1
        self.waiting.pop(data).then(error)
