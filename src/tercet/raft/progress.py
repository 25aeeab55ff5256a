"""Progress of one follower: how much of the log it has, and how much may be sent to it now.

    PROBE      its position is a guess: send one message, then wait for the response
    REPLICATE  its position is known: send ahead, up to a number of messages in flight
    SNAPSHOT   it needs compacted entries: send only the snapshot, until the follower or the transport reports

Invariants: match < next; in SNAPSHOT next is pending_snapshot + 1; the last indexes of messages in flight ascend.
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
    """What the leader knows about one member."""

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
        self.paused = False  # nothing may be sent before it responds
        self.force_append = False  # an append is due even without entries or a new commit
        self.sent_commit = 0  # the highest commit index sent to it
        self.pending_snapshot = 0
        self._inflight: deque[int] = deque()  # the last index of each append in flight
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
        """Would sending `commit` raise its commit index? Not beyond the entries that it has been sent."""
        return commit > self.sent_commit and self.sent_commit < self.next - 1

    def become_probe(self) -> None:
        """Probe for its position again: after the snapshot sent to it, or else after its last acknowledged index."""
        known = max(self.match, self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0)
        self._enter(ProgressState.PROBE, known + 1)

    def become_replicate(self) -> None:
        self._enter(ProgressState.REPLICATE, self.match + 1)

    def become_snapshot(self, index: int) -> None:
        self._enter(ProgressState.SNAPSHOT, index + 1)
        self.pending_snapshot = self.sent_commit = index

    def sent(self, count: int) -> None:
        """An append with `count` entries from `next` on was sent."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self._inflight.append(self.next - 1)
            # Pause when the window is full. A heartbeat response then allows one empty append, in case all in flight were lost.
            self.paused = self.is_full
        elif count:
            self.paused = True

    def acknowledge(self, index: int) -> bool:
        """It has stored everything up to `index`. True if that advances `match`."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.paused = False
        return True

    def free_inflight(self, index: int) -> None:
        """Remove the appends that end at or below `index` from the window."""
        inflight = self._inflight
        while inflight and inflight[0] <= index:
            inflight.popleft()

    def back_off(self, *, rejected: int, hint: int) -> bool:
        """It rejected an append after `rejected`; `hint` is where the logs may match. False for a stale response."""
        if self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.REPLICATE:
            if rejected <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != rejected:  # a response to an earlier probe
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
