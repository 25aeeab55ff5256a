"""What must never be false, of one member, of one step, and of all members together.

Three kinds, after LogCabin's RaftConsensusInvariants.cc and the paper's figure 3:
    check_state   one member at one moment: its cursors in order, its configuration sound, its progress possible
    check_step    one member before and after anything: what it may never take back within one life
    Witness       everyone, over all time: election safety, log matching, leader completeness, state machine safety

The simulator runs all three after every event. The cost of an event is what it changed, not the size of the logs.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

from tercet.errors import require
from tercet.raft import confchange
from tercet.raft.progress import ProgressState
from tercet.raft.state import RaftState
from tercet.raft.types import NO_MEMBER, Entry, Role


class View(NamedTuple):
    """One member at one moment, as far as steps are judged by it."""

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


def check_state(raft: RaftState) -> None:
    """What holds for one member at any moment."""
    now = view(raft)
    require(now.applied_index <= now.commit_index <= now.last_index, "cursors out of order", now)
    require(now.stable_index <= now.last_index, "more is durable than there is", now)
    require(now.first_index <= now.commit_index + 1, "compacted what is not committed", now)
    require(now.last_term <= now.term, "an entry of a later term", now)
    require(raft.pending_writes.stable_term <= now.term, "a durable term of the future", now)
    require((now.role is Role.LEADER) == (now.leader_id == now.member), "who leads, and who thinks so", now)
    require(now.role is not Role.CANDIDATE or now.voted_for == now.member, "stands without its own vote", now)
    confchange.check(raft.conf_state)
    require(tuple(raft.tracker.peers) == confchange.members(raft.conf_state), "progress of strangers", now)
    if now.role is Role.LEADER:
        _check_leader(raft, now)


def _check_leader(raft: RaftState, now: View) -> None:
    require(now.last_term == now.term, "a leader whose log does not end in its own term", now)
    for member, progress in raft.tracker.peers.items():
        require(progress.match < progress.next <= now.last_index + 1, "impossible progress", member, progress, now)
        require(progress.inflight_count <= raft.config.max_inflight_messages, "too much in flight", member, progress)
        if progress.state is ProgressState.SNAPSHOT:
            require(progress.next == progress.pending_snapshot + 1, "a snapshot that leads nowhere", member, progress)
        if member == now.member:
            require(progress.match <= now.stable_index, "counts its own disk before it has written", progress, now)
    require(raft.leader_transferee in (NO_MEMBER, *raft.tracker.peers), "transfers to a stranger", now)


def check_step(before: View, after: View) -> None:
    """What one member may never do within one life, whatever it hears (paper §5.1, §5.2, figure 2)."""
    require(after.term >= before.term, "term went back", before, after)
    require(after.commit_index >= before.commit_index, "a commit was taken back", before, after)
    require(after.applied_index >= before.applied_index, "something was unapplied", before, after)
    require(after.first_index >= before.first_index, "what was compacted came back", before, after)
    if after.term != before.term:
        return
    if before.voted_for != NO_MEMBER:
        require(after.voted_for == before.voted_for, "voted twice in one term", before, after)
    if before.role is Role.LEADER:
        require(after.last_index >= before.last_index, "a leader cut its own log", before, after)
        require(after.role in (Role.LEADER, Role.FOLLOWER), "a leader stood against itself", before, after)
        if after.role is Role.LEADER and after.commit_index > before.commit_index:  # paper §5.4.2
            require(after.commit_term == after.term, "counted copies of an entry of an older term", before, after)
    if before.leader_id != NO_MEMBER:
        require(after.leader_id in (NO_MEMBER, before.leader_id), "two leaders in one term", before, after)


class Witness:
    """Sees every member after every event, and remembers what must stay true (paper, figure 3).

    It outlives its members' crashes: a member comes back as a new `Raft` with the same id; call `restarted` then.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, int] = {}  # term -> its leader
        self.committed: dict[int, tuple[int, bytes]] = {}  # index -> (term, digest)
        self.committed_last = 0
        self._committed_in: dict[int, int] = {}  # index -> term of the member that was first to know
        self._entries: dict[tuple[int, int], tuple[int, bytes]] = {}  # (index, term) -> (term before it, digest)
        self._seen: dict[int, Entry] = {}  # member -> the last entry of its log that was looked at
        self._commits_seen: dict[int, int] = {}
        self._views: dict[int, View] = {}

    def restarted(self, member: int) -> None:
        """Its memory is gone; what was true of all is not."""
        for known in (self._seen, self._commits_seen, self._views):
            known.pop(member, None)

    def observe(self, raft: RaftState) -> None:
        """Check `raft` after an event, and against everything seen so far."""
        check_state(raft)
        now = view(raft)
        before = self._views.get(raft.id)
        if before is not None:
            check_step(before, now)
        self._views[raft.id] = now
        self._match_logs(raft)
        self._agree_on_commits(raft)
        if raft.role is Role.LEADER:
            self._check_election(raft)

    def check_read(self, index: int, committed_at_request: int) -> None:
        """A linearizable read sees all that was committed anywhere when it was asked (thesis §6.4)."""
        require(index >= committed_at_request, "a stale read", index, committed_at_request)

    def _check_election(self, raft: RaftState) -> None:
        """Election safety, and leader completeness: the leader has all that was committed in terms before its own."""
        leader = self.leaders.get(raft.term)
        require(leader in (None, raft.id), "two leaders in one term", raft.term, leader, raft.id)
        if leader is not None:
            return
        self.leaders[raft.term] = raft.id
        index = self.committed_last
        while index > 0 and self._committed_in[index] >= raft.term:
            index -= 1
        if index >= raft.log.first_index:  # by log matching the last one stands for all before it
            require(raft.log.last_index >= index, "a leader lacks a committed entry", raft.id, raft.term, index)
            self._check_committed(raft.log.entry(index), raft)

    def _match_logs(self, raft: RaftState) -> None:
        """Log matching: one index and one term mean one entry, and the same term before it.

        By induction two logs that agree on a position then agree on all before it. Only entries new since the last visit are
        looked at; the walk back ends at the object seen last.
        """
        log = raft.log
        seen = self._seen.get(raft.id)
        index = log.last_index
        newest = log.entry(index) if index > log.snapshot_index else None
        while index > log.snapshot_index:
            entry = log.entry(index)
            if entry is seen:
                break
            before = log.term(index - 1)
            known = self._entries.setdefault((index, entry.term), (before or 0, digest(entry)))
            require(known == (before, digest(entry)), "one position, two entries", raft.id, entry, known)
            index -= 1
        if newest is not None:
            self._seen[raft.id] = newest

    def _agree_on_commits(self, raft: RaftState) -> None:
        """State machine safety: nobody ever takes another entry for committed at the same index."""
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
