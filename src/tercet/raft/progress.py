"""How far is a follower, and how much may be sent to it now?

    PROBE      its position is a guess: one message, then wait for an answer
    REPLICATE  its position is known: send ahead, up to a number of unanswered messages
    SNAPSHOT   it needs what the log no longer holds: nothing but the snapshot, until it or the transport reports

Invariants: match < next; in SNAPSHOT next is pending_snapshot + 1; messages in flight end at indexes that rise.
Source: etcd raft tracker/progress.go, inflights.go; thesis §10.2.1.
"""

from __future__ import annotations

from collections import deque
from enum import Enum


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """What the leader knows of one member."""

    __slots__ = (
        "_inflight",
        "_inflight_max",
        "force_append",
        "is_learner",
        "match",
        "next",
        "paused",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(self, *, next: int, inflight_max: int, is_learner: bool = False, recent_active: bool = False) -> None:
        self.match = 0  # the highest index known to be on its disk
        self.next = next  # the index to send next
        self.state = ProgressState.PROBE
        self.is_learner = is_learner
        self.recent_active = recent_active  # heard from since the last quorum check
        self.paused = False  # nothing may be sent before it answers
        self.force_append = False  # the next append is due even if it says nothing new
        self.sent_commit = 0  # the highest commit it has been told, or will be by a message under way
        self.pending_snapshot = 0
        self._inflight: deque[int] = deque()  # last index of each unanswered append
        self._inflight_max = inflight_max

    def __repr__(self) -> str:
        role = " learner" if self.is_learner else ""
        return f"Progress({self.state.value} match={self.match} next={self.next}{' paused' if self.paused else ''}{role})"

    @property
    def inflight_count(self) -> int:
        return len(self._inflight)

    @property
    def is_full(self) -> bool:
        return len(self._inflight) >= self._inflight_max

    @property
    def is_paused(self) -> bool:
        return self.paused or self.state is ProgressState.SNAPSHOT

    def can_raise_commit(self, commit: int) -> bool:
        """Would it learn something from `commit`? Not where the entries it has been sent end below what it already knows."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def become_probe(self) -> None:
        """Feel for its position again: behind a snapshot that it was sent, else behind the last index it acknowledged."""
        known = max(self.match, self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0)
        self._enter(ProgressState.PROBE, known + 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE, self.match + 1)

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT, index + 1)
        self.pending_snapshot = self.sent_commit = index

    def sent(self, count: int) -> None:
        """An append with `count` entries from `next` on has left."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self._inflight.append(self.next - 1)
            # The message that fills the window is a probe: all of them may be lost, and then only an empty one can tell.
            self.paused = self.is_full
        elif count:
            self.paused = True

    def acknowledge(self, index: int) -> bool:
        """It holds everything up to `index`; True if that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def free_inflight(self, index: int) -> None:
        """All messages that end at or below `index` are answered."""
        inflight = self._inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()

    def back_off(self, *, rejected: int, hint: int) -> bool:
        """It refused an append behind `rejected`; `hint` is where it may agree. False for an answer that time has overtaken."""
        if self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:  # one message at a time was sent: this answers an earlier one
                return False
            self.next = max(min(rejected, hint + 1), self.match + 1)
            self.paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def _enter(self, state: ProgressState, next: int) -> None:
        self.state = state
        self.next = next
        self.paused = False
        self.pending_snapshot = 0
        self.sent_commit = min(self.sent_commit, next - 1)
        self._inflight.clear()
