"""Linearizable reads: answered from this member's own state once it holds every write acknowledged before the read.

ReadIndex (raft thesis §6.4): the leader returns its commit index after confirming that it is still leader; once this member has
applied that index, it may answer. Reads that arrive while a round is in flight form the next round: a busy member pays for one
exchange with the quorum per round, not per read.

A round serves only reads queued before it was sent; for a later read its index could be too old. Each round, retried or not,
has a fresh context: the answer to an earlier attempt confirms nothing later.

One round may serve 100,000 reads, if it took long. `answer` calls back a part of them in each turn of the loop.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.errors import StatusError
from tercet.gotext.duration import format_seconds
from tercet.log_fields import fields
from tercet.raft import Raft
from tercet.replica.requests import RequestIds

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5  # etcd's readIndexRetryTime
ANSWERED_PER_TURN: Final = 500  # 12 us each, if it is a small range on a compiled member

_ANSWERED_TOGETHER: Final = 50  # until the work of their checks is counted: of a user with 1,000 roles, 90 us each
_READ_WORK: Final = 12  # of a read, in units of mvcc/work.py

ReadCallback = Callable[[StatusError | None], None]
"""Called with None when the read may be answered from local state, in the same turn; or with an error."""


class Reads:
    """The linearizable reads of this member that are not yet answered."""

    def __init__(
        self, ids: RequestIds, *, clock: Callable[[], float], timeout_seconds: float, search_work: Callable[[], int]
    ) -> None:
        """search_work: what the permission checks since the last call have cost, in units of mvcc/work.py."""
        self._ids = ids
        self._search_work = search_work
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._queued: list[ReadCallback] = []
        self._queued_by: deque[tuple[float, int]] = deque()  # (time of a tick, number of reads queued before it)
        self._in_flight: list[ReadCallback] = []
        self._in_flight_since = 0.0
        self._context = b""
        self._sent_at = 0.0
        self._confirmed: deque[tuple[int, float, list[ReadCallback]]] = deque()  # (index to wait for, since when, reads)
        self._due: deque[tuple[list[ReadCallback], StatusError | None]] = deque()  # to be called back
        self._answered = 0  # of the first list
        self.failed = 0
        self.slow = 0  # rounds that timed out, and answers that came too late

    def add(self, then: ReadCallback) -> bool:
        """Queue a read. True if it is the first of its round: the caller must arrange for a `submit`."""
        self._queued.append(then)
        return len(self._queued) == 1

    def submit(self, raft: Raft) -> None:
        """Start a round if reads wait and none is in flight."""
        if self._in_flight or not self._queued or not raft.leader_id:
            return
        self._in_flight, self._queued = self._queued, []
        self._queued_by.clear()
        self._in_flight_since = self._clock()
        self._ask(raft)

    def _ask(self, raft: Raft) -> None:
        self._context = self._ids.next().to_bytes(8, "big")
        self._sent_at = self._clock()
        raft.read_index(self._context)

    def confirmed(self, read_states: list[tuple[bytes, int]], applied_index: int) -> None:
        """Raft has confirmed these (context, index). Any context but the newest belongs to an abandoned attempt."""
        for context, index in read_states:
            if context != self._context or not self._in_flight:
                self.slow += 1
                continue
            reads, self._in_flight = self._in_flight, []
            self._context = b""
            if index <= applied_index:
                self._due.append((reads, None))
            else:
                self._confirmed.append((index, self._in_flight_since, reads))

    def applied(self, applied_index: int) -> None:
        """This member has applied up to `applied_index`."""
        confirmed = self._confirmed
        while confirmed and confirmed[0][0] <= applied_index:
            self._due.append((confirmed.popleft()[2], None))

    def answer(self) -> bool:
        """Call back as many of the reads that are due as one turn may take. Returns whether there are more."""
        due, left = self._due, ANSWERED_PER_TURN
        self._search_work()  # of what others have checked
        while due and left > 0:
            reads, error = due[0]
            some = reads[self._answered : self._answered + min(left, _ANSWERED_TOGETHER)]
            self._answered += len(some)
            if self._answered == len(reads):
                due.popleft()
                self._answered = 0
            for then in some:
                then(error)
            left -= len(some) + self._search_work() // _READ_WORK
        return bool(due)

    def leader_changed(self, raft: Raft) -> None:
        """The round may be lost with the old leader: ask the new one, with a new context."""
        if self._in_flight and raft.leader_id:
            self._ask(raft)

    def tick(self, raft: Raft) -> None:
        """Retry lost rounds, and fail reads past their timeout."""
        now = self._clock()
        while self._confirmed and now - self._confirmed[0][1] > self._timeout_seconds:
            self._fail(self._confirmed.popleft()[2], errors.TIMEOUT)  # the entries up to its index never arrived
        if self._in_flight and now - self._in_flight_since > self._timeout_seconds:
            reads, self._in_flight, self._context = self._in_flight, [], b""
            self.slow += 1
            self._fail(reads, errors.TIMEOUT)
            shown = fields(timeout=format_seconds(self._timeout_seconds))
            logger.warning("timed out waiting for read index response (local node might have slow network)", extra=shown)
        elif self._in_flight and now - self._sent_at >= RETRY_SECONDS and raft.leader_id:
            sent = fields(sent_request_id=int.from_bytes(self._context, "big"), retry_timeout=format_seconds(RETRY_SECONDS))
            logger.warning("waiting for ReadIndex response took too long, retrying", extra=sent)
            self._ask(raft)
        self._expire_queued(now)

    def _expire_queued(self, now: float) -> None:
        """Without a leader reads stay queued: each for its own timeout, rounded up to a tick, however old the first is."""
        marks = self._queued_by
        overdue = 0
        while marks and now - marks[0][0] > self._timeout_seconds:
            overdue = marks.popleft()[1]
        if overdue:
            reads, self._queued = self._queued[:overdue], self._queued[overdue:]
            self._queued_by = deque((at, count - overdue) for at, count in marks)
            self._fail(reads, errors.TIMEOUT)
        if self._queued:
            self._queued_by.append((now, len(self._queued)))

    def fail_all(self, error: StatusError) -> None:
        """Fail every read: this member stops."""
        due = [read for group, _ in self._due for read in group][self._answered :]
        waiting = self._queued + self._in_flight + [read for _, _, group in self._confirmed for read in group]
        self._queued, self._in_flight = [], []
        self._queued_by.clear()
        self._confirmed.clear()
        self._due.clear()
        self._answered = 0
        self.failed += len(waiting)
        for then in due + waiting:
            then(error)

    def _fail(self, reads: list[ReadCallback], error: StatusError) -> None:
        self.failed += len(reads)
        self._due.append((reads, error))
