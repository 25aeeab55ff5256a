"""Proposals: from a client's request to a log entry, and from the applied entry back to the waiting client.

A proposal waits in three places: in `_queue` until the turn ends (all of a turn become one append), or until a leader is known
and this member, if it leads, has finished a leadership transfer; in the log; and in `waiting` until its entry is applied here.
`waiting` is keyed by the entry's data: it contains a unique request id, and on the leader it is the same object, so no entry is
parsed to find its waiter.

Must never answer "not done": a forwarded proposal may be applied after its client stopped waiting, and there is no
deduplication.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tercet import errors
from tercet.auth import NOBODY, Identity
from tercet.errors import Code, StatusError, Unavailable
from tercet.mvcc import Answer
from tercet.raft import Raft
from tercet.replica.durations import REQUEST_BOUNDS, Durations
from tercet.replica.requests import AppliedRequest, RequestIds, encode_request

Outcome = bytes | Answer | StatusError
"""An encoded response body without its header; or the reads that make it, in slices; or the error that the client gets."""
IsAwaited = Callable[[], bool]

PENDING_APPLY_MAX: Final = 5000  # etcd's maxGapBetweenApplyAndCommitIndex; beyond it a member refuses proposals
NEVER_PROPOSED: Final = Unavailable(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
PROPOSED_PER_TURN: Final = 2000
PROPOSED_BYTES_PER_TURN: Final = 4 << 20  # 16 MiB of requests of 1 MB took 75 ms
EXPIRED_PER_TURN: Final = 500
_CONF_CHANGE: Final = AppliedRequest("", None)  # applied from the entry, not from a request


class Waiter:
    """A callback that waits for an entry to be applied. `request` saves this member from parsing the entry."""

    __slots__ = ("deadline", "is_proposed", "proposed_at", "request", "then")

    def __init__(self, request: AppliedRequest, then: Callable[[Outcome], None], proposed_at: float, deadline: float) -> None:
        self.request = request
        self.then = then
        self.proposed_at = proposed_at
        self.deadline = deadline
        self.is_proposed = False


class ChangeWaiter(Waiter):
    """Waits for a configuration change. is_awaited: asked at the deadline; if so, it waits for the same time again."""

    __slots__ = ("is_awaited",)

    def __init__(self, then: Callable[[Outcome], None], proposed_at: float, deadline: float, is_awaited: IsAwaited) -> None:
        super().__init__(_CONF_CHANGE, then, proposed_at, deadline)
        self.is_proposed = True
        self.is_awaited = is_awaited


class Proposals:
    """The proposals of this member that are not yet applied here."""

    def __init__(
        self,
        ids: RequestIds,
        *,
        clock: Callable[[], float],
        timeout_seconds: float,
        request_bytes_max: int,
    ) -> None:
        self._ids = ids
        self.waiting: dict[bytes, Waiter] = {}  # in order of proposal, so deadlines ascend
        self._queue: list[bytes] = []
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._request_bytes_max = request_bytes_max
        self.failed = 0
        self._expired_until = 0.0  # those that were due then are failed in several turns; 0: all of them are
        self._causes = (0.0, 0.0, 0.0)
        self._holds_expired = False  # whether the queue may name proposals that have been failed
        self.durations = Durations(REQUEST_BOUNDS)  # from proposal to outcome; of those that succeed, if applies are timed

    def add(self, field: str, body: bytes, message: Any, then: Callable[[Outcome], None], identity: Identity = NOBODY) -> int:
        """Queue a request. `then` is called exactly once: with the outcome, or with an error after the timeout.

        Returns the number of queued requests. Raises RequestError if the encoded request is larger than --max-request-bytes.
        """
        data = encode_request(field, body, self._ids, identity)
        if len(data) > self._request_bytes_max:
            raise errors.REQUEST_TOO_LARGE
        now = self._clock()
        self.waiting[data] = Waiter(AppliedRequest(field, message, identity), then, now, now + self._timeout_seconds)
        self._queue.append(data)
        return len(self._queue)

    def propose_locally(
        self, raft: Raft, field: str, body: bytes, message: Any, then: Callable[[Outcome], None], identity: Identity
    ) -> bool:
        """Append a request to this leader's own log at once. A queued one could be forwarded to a later leader, for which it
        was not meant. False: this member does not lead, or leadership is being transferred; `then` is never called.
        """
        data = encode_request(field, body, self._ids, identity)
        if not raft.is_leader or not raft.propose([data]):
            return False
        now = self._clock()
        waiter = Waiter(AppliedRequest(field, message, identity), then, now, now + self._timeout_seconds)
        waiter.is_proposed = True
        self.waiting[data] = waiter
        return True

    def wait_for(self, data: bytes, then: Callable[[Outcome], None], is_awaited: IsAwaited) -> None:
        """Wait for the configuration change that the entry `data` holds; it is proposed already."""
        now = self._clock()
        self.waiting[data] = ChangeWaiter(then, now, now + self._timeout_seconds, is_awaited)

    def submit(self, raft: Raft) -> bool:
        """Propose the queue to raft as one batch, or as much of it as one turn may take. Without a leader it stays queued.

        Returns whether there is more: what has come while there was no leader may be 100,000 requests.
        It also stays queued while this leader transfers its leadership. etcd drops such proposals with an error
        ("raft proposal dropped"), so there a transfer, which rolling restarts consist of, is visible to clients.
        """
        queue = self._queue
        if not queue or not raft.leader_id or raft.leader_transferee:
            return False
        waiting = self.waiting
        live = []
        taken = size_bytes = 0
        for data in queue:
            if taken == PROPOSED_PER_TURN or size_bytes >= PROPOSED_BYTES_PER_TURN:
                break
            taken += 1
            waiter = waiting.get(data)
            if waiter is not None:
                waiter.is_proposed = True
                live.append(data)
                size_bytes += len(data)
        self._queue = queue[taken:]
        if live and not raft.propose(live):
            for data in live:
                self._fail(data, errors.PROPOSAL_DROPPED)
        return bool(self._queue)

    def expire(self, *, leader_elected_at: float, leader_lost_at: float, leader_unreachable_at: float) -> None:
        """Fail the proposals past their deadline, with the cause where it is known (etcd's parseProposeCtxErr).

        Without a leader 100,000 may be due together: `expire_some` fails the rest in the turns that follow.
        leader_unreachable_at: when messages to the leader were last lost. Without a leader the cause is not told, as in etcd.
        """
        self._expired_until = self._clock()
        self._causes = (leader_elected_at, leader_lost_at, leader_unreachable_at)
        self.expire_some()

    def expire_some(self) -> bool:
        """Fail as many of those that were due at the last `expire` as one turn may take. Returns whether there are more."""
        now = self._expired_until
        if not now:
            return False
        leader_elected_at, leader_lost_at, leader_unreachable_at = self._causes
        overdue: list[tuple[bytes, Waiter]] = []
        for data, waiter in self.waiting.items():
            if waiter.deadline > now or len(overdue) == EXPIRED_PER_TURN:
                break
            overdue.append((data, waiter))
        for data, waiter in overdue:
            if isinstance(waiter, ChangeWaiter) and waiter.is_awaited():
                del self.waiting[data]
                waiter.deadline = now + self._timeout_seconds
                self.waiting[data] = waiter
                continue
            if not waiter.is_proposed:
                error: StatusError = NEVER_PROPOSED
            elif leader_lost_at < waiter.proposed_at < leader_elected_at:
                error = errors.TIMEOUT_LEADER_FAILURE
            elif waiter.proposed_at <= leader_unreachable_at:
                error = errors.TIMEOUT_CONNECTION_LOST
            else:
                error = errors.TIMEOUT
            self._fail(data, error)
        self._holds_expired = self._holds_expired or bool(overdue)
        if len(overdue) == EXPIRED_PER_TURN:
            return True
        self._expired_until = 0.0
        if self._holds_expired:
            self._holds_expired = False
            self._queue = [data for data in self._queue if data in self.waiting]
        return False

    def fail_all(self, error: StatusError) -> None:
        """Fail every proposal: this member stops."""
        for data in list(self.waiting):
            self._fail(data, error)
        self._queue.clear()

    def _fail(self, data: bytes, error: StatusError) -> None:
        self.failed += 1
        waiter = self.waiting.pop(data)
        if waiter.request is not _CONF_CHANGE:
            self.durations.observe(waiter.request.field, False, self._clock() - waiter.proposed_at)
        waiter.then(error)
