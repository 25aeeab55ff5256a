"""When may a read be answered from this member's own state, so that it sees every write acknowledged before it began?

ReadIndex (raft thesis §6.4): ask the leader for its commit index; the leader makes sure that it still leads; once this member
has applied that far, it may answer. All reads that arrive while a round is on its way form the next round, so a busy member
pays for one exchange with the quorum, not for one a read.

A round serves only reads that were queued before it was sent; never one that came later (the index could be too old for it).
Each round has a fresh context, also when it repeats a lost one: an answer to an earlier try proves nothing about now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.errors import StatusError
from tercet.raft import Raft
from tercet.replica.requests import RequestIds

RETRY_SECONDS: Final = 0.5  # etcd's readIndexRetryTime

ReadCallback = Callable[[StatusError | None], None]
"""Called with None when the read may be answered from local state, at once and in the same turn."""


class Reads:
    """Linearizable reads on their way."""

    def __init__(self, ids: RequestIds, *, clock: Callable[[], float], timeout_seconds: float) -> None:
        self._ids = ids
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._queued: list[ReadCallback] = []
        self._queued_since = 0.0
        self._asking: list[ReadCallback] = []
        self._asking_since = 0.0
        self._context = b""
        self._sent_at = 0.0
        self._confirmed: deque[tuple[int, float, list[ReadCallback]]] = deque()  # index to wait for, since when, who
        self.failed = 0

    def add(self, then: ReadCallback) -> bool:
        """Queue a read. Returns whether it is the first of its round, so that someone must see to a `submit`."""
        if not self._queued:
            self._queued_since = self._clock()
        self._queued.append(then)
        return len(self._queued) == 1

    def submit(self, raft: Raft) -> None:
        """Begin a round if reads wait and none is on its way."""
        if self._asking or not self._queued or not raft.leader_id:
            return
        self._asking, self._queued = self._queued, []
        self._asking_since = self._queued_since
        self._ask(raft)

    def _ask(self, raft: Raft) -> None:
        self._context = self._ids.next().to_bytes(8, "big")
        self._sent_at = self._clock()
        raft.read_index(self._context)

    def confirmed(self, read_states: list[tuple[bytes, int]], applied_index: int) -> None:
        """Raft has answered some rounds. An answer to a context that is not the newest belongs to a try given up: ignored."""
        for context, index in read_states:
            if context != self._context or not self._asking:
                continue
            reads, self._asking = self._asking, []
            self._context = b""
            if index <= applied_index:
                _release(reads)
            else:
                self._confirmed.append((index, self._asking_since, reads))

    def applied(self, applied_index: int) -> None:
        """This member has applied up to `applied_index`."""
        confirmed = self._confirmed
        while confirmed and confirmed[0][0] <= applied_index:
            _release(confirmed.popleft()[2])

    def leader_changed(self, raft: Raft) -> None:
        """The round may have died with the old leader: ask the new one, with a new context."""
        if self._asking and raft.leader_id:
            self._ask(raft)

    def tick(self, raft: Raft) -> None:
        """Repeat what got lost, give up what took too long."""
        now = self._clock()
        while self._confirmed and now - self._confirmed[0][1] > self._timeout_seconds:
            self._fail(self._confirmed.popleft()[2], errors.TIMEOUT)  # cut off before the entries came that it waits for
        if self._asking and now - self._asking_since > self._timeout_seconds:
            reads, self._asking, self._context = self._asking, [], b""
            self._fail(reads, errors.TIMEOUT)
        elif self._asking and now - self._sent_at >= RETRY_SECONDS and raft.leader_id:
            self._ask(raft)
        if self._queued and now - self._queued_since > self._timeout_seconds:
            reads, self._queued = self._queued, []
            self._fail(reads, errors.TIMEOUT)

    def fail_all(self, error: StatusError) -> None:
        """The member stops: nobody may wait for ever."""
        reads = self._queued + self._asking + [read for _, _, group in self._confirmed for read in group]
        self._queued, self._asking = [], []
        self._confirmed.clear()
        self._fail(reads, error)

    def _fail(self, reads: list[ReadCallback], error: StatusError) -> None:
        self.failed += len(reads)
        for then in reads:
            then(error)


def _release(reads: list[ReadCallback]) -> None:
    for then in reads:
        then(None)
