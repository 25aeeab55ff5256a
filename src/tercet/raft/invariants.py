"""The invariants of Raft: of one member, of one step, and of all members together.

    check_state   one member at one moment: cursors in order, a valid configuration, possible progress
    check_step    one member before and after an event: what it must not take back between restarts
    Witness       all members over all time: election safety, log matching, leader completeness, state machine safety

The simulator checks all three after every event; the cost of a check depends on what the event changed, not on the log's size.
Source: paper figure 3; LogCabin RaftConsensusInvariants.cc.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from tercet.errors import require
from tercet.raft import confchange
from tercet.raft.progress import ProgressState
from tercet.raft.state import RaftState
from tercet.raft.types import NO_MEMBER, ConfState, Entry, Role


class View(NamedTuple):
    """The part of one member's state that `check_step` compares."""

    member: int
    term: int
    voted_for: int
    leader_id: int
    role: Role
    commit_index: int
    commit_term: int
    applied_index: int
    stable_index: int
    first_index: int
    last_index: int
    last_term: int


def view(raft: RaftState) -> View:
    log = raft.log
    return View(
        raft.id,
        raft.term,
        raft.voted_for,
        raft.leader_id,
        raft.role,
        raft.commit_index,
        log.term(raft.commit_index) or 0,
        raft.applied_index,
        raft.stable_index,
        log.first_index,
        log.last_index,
        log.last_term,
    )


def check_state(raft: RaftState, now: View | None = None) -> None:
    """What holds for one member at any moment. now: its view, if that is known already. Raises InvariantViolation."""
    now = view(raft) if now is None else now
    require(now.applied_index <= now.commit_index <= now.last_index, "cursors out of order", now)
    require(now.stable_index <= now.last_index, "durable beyond the end of the log", now)
    require(now.first_index <= now.commit_index + 1, "compacted an uncommitted entry", now)
    require(now.last_term <= now.term, "an entry of a later term", now)
    require(raft.pending_writes.stable_term <= now.term, "a durable term above the current one", now)
    require((now.role is Role.LEADER) == (now.leader_id == now.member), "role and leader disagree", now)
    require(now.role is not Role.CANDIDATE or now.voted_for == now.member, "a candidate without its own vote", now)
    require(tuple(raft.tracker.peers) == _checked_members(raft.conf_state), "progress does not match the configuration", now)
    if now.role is Role.LEADER:
        _check_leader(raft, now)


@lru_cache(maxsize=256)
def _checked_members(conf: ConfState) -> tuple[int, ...]:
    """The members of a configuration that has passed `check`. A run has few configurations, and they are immutable."""
    confchange.check(conf)
    return confchange.members(conf)


def _check_leader(raft: RaftState, now: View) -> None:
    require(now.last_term == now.term, "a leader whose log does not end in its own term", now)
    for member, progress in raft.tracker.peers.items():
        require(progress.match < progress.next <= now.last_index + 1, "impossible progress", member, progress, now)
        require(progress.inflight_count <= raft.config.max_inflight_messages, "too much in flight", member, progress)
        if progress.state is ProgressState.SNAPSHOT:
            require(progress.next == progress.pending_snapshot + 1, "next is not after the pending snapshot", member, progress)
        if member == now.member:
            require(progress.match <= now.stable_index, "counts its own disk before the write is durable", progress, now)
    require(raft.leader_transferee in (NO_MEMBER, *raft.tracker.peers), "transfers leadership to a non-member", now)


def check_step(before: View, after: View) -> None:
    """What no event may do to one member between restarts (paper §5.1, §5.2, figure 2). Raises InvariantViolation."""
    require(after.term >= before.term, "term went back", before, after)
    require(after.commit_index >= before.commit_index, "commit index went back", before, after)
    require(after.applied_index >= before.applied_index, "applied index went back", before, after)
    require(after.first_index >= before.first_index, "first index went back", before, after)
    if after.term != before.term:
        return
    if before.voted_for != NO_MEMBER:
        require(after.voted_for == before.voted_for, "voted twice in one term", before, after)
    if before.role is Role.LEADER:
        require(after.last_index >= before.last_index, "a leader truncated its log", before, after)
        require(after.role in (Role.LEADER, Role.FOLLOWER), "a leader became candidate in its own term", before, after)
        if after.role is Role.LEADER and after.commit_index > before.commit_index:  # paper §5.4.2
            require(after.commit_term == after.term, "committed an entry of an older term by counting replicas", before, after)
    if before.leader_id != NO_MEMBER:
        require(after.leader_id in (NO_MEMBER, before.leader_id), "two leaders in one term", before, after)


class Witness:
    """Observes every member after every event, and keeps what must stay true over crashes (paper, figure 3).

    A restarted member is a new `Raft` with the same id; call `restarted` for it.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}  # term -> its leader
        self.committed: dict[int, tuple[int, bytes]] = {}  # index -> (term, digest)
        self.committed_last = 0
        self._committed_in: dict[int, int] = {}  # index -> term of the member that committed it first
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}  # (index, term) -> (term before it, digest)
        self._seen: dict[int, Entry] = {}  # member -> the last entry of its log at the last observation
        self._commits_seen: dict[int, int] = {}
        self._views: dict[int, View] = {}

    def restarted(self, member: int) -> None:
        """Forget the previous state of `member`, but not what it contributed to the cluster's."""
        for known in (self._seen, self._commits_seen, self._views):
            known.pop(member, None)

    def observe(self, raft: RaftState) -> None:
        """Check `raft` after an event, and against everything observed so far."""
        now = view(raft)
        check_state(raft, now)
        before = self._views.get(raft.id)
        if before is not None:
            check_step(before, now)
        self._views[raft.id] = now
        self._match_logs(raft)
        self._agree_on_commits(raft)
        if raft.role is Role.LEADER:
            self._check_election(raft)

    def _check_election(self, raft: RaftState) -> None:
        """Election safety, and leader completeness: a leader has every entry committed in earlier terms."""
        leader = self.leaders.get(raft.term)
        require(leader in (None, raft.id), "two leaders in one term", raft.term, leader, raft.id)
        if leader is not None:
            return
        self.leaders[raft.term] = raft.id
        index = self.committed_last
        while index > 0 and self._committed_in[index] >= raft.term:
            index -= 1
        if index >= raft.log.first_index:  # by log matching, having the last one implies having all before it
            require(raft.log.last_index >= index, "a leader lacks a committed entry", raft.id, raft.term, index)
            self._check_committed(raft.log.entry(index), raft)

    def _match_logs(self, raft: RaftState) -> None:
        """Log matching: an index and a term identify one entry, and the term of the entry before it.

        By induction, two logs that match at a position match up to it. Only entries new since the last observation are checked.
        """
        log = raft.log
        seen = self._seen.get(raft.id)
        index = log.last_index
        newest = log.entry(index) if index > log.snapshot_index else None
        while index > log.snapshot_index:
            entry = log.entry(index)
            if entry is seen:
                break
            before, content = log.term(index - 1), digest(entry)
            known = self._entries.setdefault((index, entry.term), (before or 0, content))
            require(known == (before, content), "two entries at one index and term", raft.id, entry, known)
            index -= 1
        if newest is not None:
            self._seen[raft.id] = newest

    def _agree_on_commits(self, raft: RaftState) -> None:
        """State machine safety: no two members commit different entries at one index."""
        commit = raft.commit_index
        for index in range(max(self._commits_seen.get(raft.id, 0) + 1, raft.log.first_index), commit + 1):
            self._check_committed(raft.log.entry(index), raft)
        self._commits_seen[raft.id] = commit

    def _check_committed(self, entry: Entry, raft: RaftState) -> None:
        this = (entry.term, digest(entry))
        known = self.committed.setdefault(entry.index, this)
        require(known == this, "two entries committed at one index", raft.id, entry, known)
        if entry.index not in self._committed_in:
            self._committed_in[entry.index] = raft.term
            self.committed_last = max(self.committed_last, entry.index)


def digest(entry: Entry) -> bytes:
    return blake2b(entry.data, digest_size=8, salt=bytes((entry.type,))).digest()
