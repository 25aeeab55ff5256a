"""The state of one member: term, vote, log, role, progress of the others, and the transitions between roles.

The rules of Raft are functions over this state, one module a role or topic: follower.py, candidate.py, leader.py, election.py,
replication.py, read_index.py. They import this module, never each other's callers; `raft.py` chooses among them by role.

Nothing here performs I/O. Output collects in `messages`, `pending_writes`, `read_states` and the log; raw_node.py hands it out
once a turn and keeps its cursors in the `*_handed_out` fields.

Source: paper figure 2; etcd raft.go (becomeFollower, becomeCandidate, becomePreCandidate, becomeLeader, reset, send).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tercet.errors import StorageFailure, require
from tercet.raft.commit_broadcast import CommitBroadcast
from tercet.raft.config import RaftConfig
from tercet.raft.entry_batch import make_entries
from tercet.raft.log import RaftLog
from tercet.raft.message_types import AFTER_APPEND, FORWARDED
from tercet.raft.pending_writes import PendingWrites
from tercet.raft.progress import Progress
from tercet.raft.read_only import ReadOnly
from tercet.raft.tracker import Tracker
from tercet.raft.types import NO_MEMBER, ConfState, Entry, HardState, Message, Role, Snapshot

_NO_HARD_STATE: Final = HardState()
_NO_CONF_STATE: Final = ConfState()


class RaftState:
    """One member's state. The owner reads it and changes it through `Raft` and `RawNode` only."""

    __slots__ = (
        "appends_due",
        "applied_index",
        "commit_broadcast",
        "commit_index",
        "committed_handed_out",
        "config",
        "election_elapsed",
        "election_timeout",
        "entries_handed_out",
        "hard_state_handed_out",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "leader_id",
        "leader_transferee",
        "log",
        "may_campaign",
        "messages",
        "pending_conf_index",
        "pending_snapshot",
        "pending_writes",
        "postponed_reads",
        "read_only",
        "read_states",
        "role",
        "snapshot_requested",
        "snapshot_source",
        "term",
        "tracker",
        "voted_for",
        "votes",
    )

    def __init__(
        self,
        config: RaftConfig,
        log: RaftLog,
        *,
        hard_state: HardState = _NO_HARD_STATE,
        conf_state: ConfState = _NO_CONF_STATE,
        applied: int = 0,
    ) -> None:
        """Restore a member from disk: all of `log` is durable, `conf_state` is the configuration as of `applied`.

        The first start of a new cluster passes its configuration as committed entries and an empty `conf_state`; a member
        that joins a cluster passes neither. Both wait for the configuration to be applied before they can campaign.
        Raises StorageFailure if the log ends before the committed or the applied index.
        """
        commit = max(hard_state.commit, applied, log.snapshot_index)
        if commit > log.last_index:
            raise StorageFailure(f"the log ends at {log.last_index}, before the commit index {commit}: entries are missing")
        require(applied >= log.snapshot_index, "the log starts after the applied index", applied, log)
        self.config = config
        self.id = config.id
        self.log = log
        self.tracker = Tracker(conf_state, last_index=log.last_index, inflight_max=config.max_inflight_messages)
        self.pending_writes = PendingWrites(stable_index=log.last_index, stable_term=hard_state.term)
        self.snapshot_source: Callable[[], Snapshot | None] = _no_snapshot
        self.snapshot_requested: Callable[[int], None] = _ignore
        """Called with a follower that asks for a snapshot, whatever its log has."""

        self.term = hard_state.term
        self.voted_for = hard_state.vote
        self.commit_index = commit
        self.applied_index = applied

        self.messages: list[Message] = []
        self.read_states: list[tuple[bytes, int]] = []
        self.pending_snapshot: Snapshot | None = None  # received, not yet handed out
        self.may_campaign = True  # False: this member has lost the state that a leader needs
        self.entries_handed_out = log.last_index
        self.committed_handed_out = applied
        self.hard_state_handed_out = hard_state

        self.role: Role
        self.leader_id: int
        self.votes: dict[int, bool]
        self.become_follower(self.term, NO_MEMBER)

    # Roles.

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader` in `term`; 0: no leader is known yet."""
        self._reset(term)
        self.leader_id = leader
        self.role = Role.FOLLOWER

    def become_pre_candidate(self) -> None:
        """Forget the leader, but keep the term and the vote: a pre-vote must disturb nobody."""
        self.leader_id = NO_MEMBER
        self.votes = {}
        self.restart_election_timer()
        self.role = Role.PRE_CANDIDATE

    def become_candidate(self) -> None:
        """Enter the next term and vote for ourselves. The vote counts once it is durable (`Raft.on_persisted`)."""
        self._reset(self.term + 1)
        self.voted_for = self.id
        self.role = Role.CANDIDATE

    def become_leader(self) -> None:
        """Lead the current term, and append its empty entry: without a commit of its own term a leader cannot know what
        earlier leaders committed (paper §8).
        """
        self._reset(self.term)
        self.leader_id = self.id
        self.role = Role.LEADER
        own = self.tracker.peers.get(self.id)
        if own is not None:
            own.recent_active = True
            own.match = self.stable_index
            own.become_replicate()
        # The log may hold an unapplied configuration change; treating its end as one delays the next change, no more.
        self.pending_conf_index = self.log.last_index
        self.append(make_entries(self.term, self.log.last_index + 1, [b""]))

    def _reset(self, term: int) -> None:
        """Clear what belongs to the previous role, and, in a new term, the vote."""
        if term != self.term:
            self.term = term
            self.voted_for = NO_MEMBER
        self.leader_id = NO_MEMBER
        self.restart_election_timer()
        self.heartbeat_elapsed = 0
        self.leader_transferee: int = NO_MEMBER
        self.votes = {}
        self.tracker.reset(last_index=self.log.last_index)
        self.pending_conf_index = 0
        self.read_only = ReadOnly()
        self.postponed_reads: list[tuple[int, bytes]] = []
        self.appends_due = False
        self.commit_broadcast = CommitBroadcast(deferred=self.config.defer_commit_broadcast)
        self.heartbeat_due = False

    def restart_election_timer(self) -> None:
        """Draw a new timeout each time, so that candidates which split a vote do not collide again (paper §5.2)."""
        self.election_elapsed = 0
        self.election_timeout = self.config.election_ticks + self.config.random.randrange(self.config.election_ticks)

    # Output.

    def send(self, message: Message) -> None:
        """Send `message` with this turn, or, if it acknowledges a write or a vote, after that is durable."""
        kind = message.type
        if message.from_ == NO_MEMBER:
            message.from_ = self.id
        if message.term == 0 and kind not in FORWARDED:
            message.term = self.term
        if kind in AFTER_APPEND:
            self.pending_writes.hold(message)
        else:
            self.messages.append(message)

    def request_commit_broadcast(self, index: int) -> None:
        """Make appends due, even empty ones, if a follower does not yet know the commit of `index`."""
        if not self.commit_broadcast.has_unsent_commit:
            return
        followers = [peer for member, peer in self.tracker.peers.items() if member != self.id and not peer.is_paused]
        if any(peer.can_raise_commit(index) for peer in followers):
            self.commit_broadcast.is_due = self.appends_due = True
        elif not any(peer.can_raise_commit(self.commit_index) for peer in followers):
            self.commit_broadcast.has_unsent_commit = False

    # The log and its cursors.

    def append(self, entries: Sequence[Entry]) -> None:
        """Append a leader's own entries; they are sent at the end of the turn."""
        self.log.append(entries)
        self.appends_due = True

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls."""
        if index > self.commit_index:
            require(index <= self.log.last_index, "commits an entry that is not in the log", index, self.log)
            self.commit_index = index

    def truncate_log(self, last_index: int) -> None:
        """Remove the entries after `last_index`, which conflict with the leader's."""
        require(last_index >= self.commit_index, "truncates a committed entry", last_index, self.commit_index)
        self.log.truncate(last_index)
        self.pending_writes.truncated(last_index)
        self.entries_handed_out = min(self.entries_handed_out, last_index)

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the log, and everything not yet applied, by `snapshot`."""
        require(snapshot.index > self.commit_index, "restores a snapshot older than the commit", snapshot, self.commit_index)
        self.log.restore(snapshot.index, snapshot.term)
        self.pending_writes.truncated(0)
        self.entries_handed_out = snapshot.index
        self.pending_snapshot = snapshot
        self.commit_to(snapshot.index)
        self.committed_handed_out = snapshot.index
        self.tracker.install(_NO_CONF_STATE, last_index=snapshot.index)
        self.tracker.install(snapshot.conf_state, last_index=snapshot.index)

    # Questions.

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def conf_state(self) -> ConfState:
        return self.tracker.conf_state

    @property
    def stable_index(self) -> int:
        """The log is durable up to here."""
        return self.pending_writes.stable_index

    def hard_state(self) -> HardState:
        """The current one, whether handed out or not."""
        return HardState(self.term, self.voted_for, self.commit_index)

    def progress(self, member: int) -> Progress | None:
        """What a leader knows of `member`; meaningless on others. None: not in the configuration."""
        return self.tracker.peers.get(member)

    def is_promotable(self) -> bool:
        """May this member campaign: is it a voter with its state, and is no snapshot being installed?"""
        installing = self.pending_snapshot is not None or self.pending_writes.is_installing
        progress = self.tracker.peers.get(self.id)
        return progress is not None and not progress.is_learner and not installing and self.may_campaign

    def hears_leader(self) -> bool:
        """Has a leader been heard within the election timeout, so that votes are refused (thesis §4.2.3)?"""
        return self.config.check_quorum and self.leader_id != NO_MEMBER and self.election_elapsed < self.config.election_ticks


def _no_snapshot() -> Snapshot | None:
    return None


def _ignore(member: int) -> None: ...
