"""One member's part in consensus: what does it do when a message, a tick or a proposal comes?

The core is told things and answers with things to do. It never reads a clock, touches a disk or a socket, draws chance other
than from the generator it was given, or asserts on what a peer sent: a message that makes no sense changes nothing.

    in    step, tick, propose, read_index, ...      one after another, as they come
    out   take_ready()                              once per turn: all that the turn decided, as one batch
    back  persisted(number), applied_to(index)      when the disk and the state machine have done their part

One member alone, from start to its first commit:
    tick x 10..19 -> stands for term 1; take_ready: Ready(1, hard_state=(term 1, vote 1), must_sync)
    persisted(1)  -> its own vote counts only now: leader; take_ready: Ready(2, entries=[1/1 empty], must_sync)
    persisted(2)  -> entry 1 is on a quorum of one disk; take_ready: Ready(3, hard_state=(commit 1), committed=[1/1])

The rule of terms (paper §5.1) stands here, in front of everything. What follows depends on the role, each of which has a file
and a table of its handlers: follower.py, candidate.py (pre-candidates too), leader.py; election.py is what roles share.

Invariants (invariants.py checks them): applied <= handed out <= commit <= last index; handed out <= stable index.
Source: Raft paper and thesis; etcd raft. Departs in: several writes may be under way (promises.py), sends are gathered and made
by `take_ready` (replication.py), votes are asked for only once the term is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tercet.errors import StorageFailure, require
from tercet.raft import confchange, election, follower, leader, replication
from tercet.raft.codec import encode_conf_change
from tercet.raft.commit_broadcast import CommitBroadcast
from tercet.raft.log import RaftLog
from tercet.raft.message_types import FORWARDED, FROM_LEADER, LOCAL, PROMISING, RESPONSES, VOTE_REQUESTS
from tercet.raft.pending_writes import PendingWrites, Write
from tercet.raft.progress import Progress
from tercet.raft.read_only import ReadOnly
from tercet.raft.ready import Ready
from tercet.raft.tracker import Tracker
from tercet.raft.types import (
    NO_MEMBER,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
)

_TERM_MAX: Final = 1 << 62  # no cluster gets there; a term near 2^64 would leave nobody a next one

_NO_HARD_STATE: Final = HardState()
_NO_CONF_STATE: Final = ConfState()


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """What does not change in a member's life. Times are in ticks, sizes in bytes of entries' wire form."""

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 512
    max_committed_bytes: int = 1 << 20
    commit_waits: bool = False  # for entries to travel with, or `broadcast_commit`: see commit_news.py
    random: Random = field(kw_only=True)

    def __post_init__(self) -> None:
        require(self.id != NO_MEMBER, "a member needs an id", self)
        require(0 < self.heartbeat_ticks < self.election_ticks, "heartbeats must be more frequent than elections", self)
        require(self.max_inflight_messages > 0, "at least one message must be allowed in flight", self)


class Raft:
    """One member. The owner calls the methods; the names without one (`peers`, `votes`, ...) belong to this room."""

    __slots__ = (
        "_committed_handed_out",
        "_entries_handed_out",
        "_hard_state_handed_out",
        "_messages",
        "_ready_number",
        "_snapshot",
        "appends_due",
        "applied_index",
        "commit_index",
        "commit_news",
        "config",
        "election_elapsed",
        "election_timeout",
        "handlers",
        "heartbeat_due",
        "heartbeat_elapsed",
        "id",
        "leader_id",
        "leader_transferee",
        "log",
        "pending_conf_index",
        "postponed_reads",
        "promises",
        "read_only",
        "read_states",
        "role",
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
        """A member as its disk has it: all of `log` is durable, `conf_state` is the configuration at `applied`.

        A first start of a new cluster passes its configuration as committed entries with an empty `conf_state`; a member that
        joins one passes nothing. Neither stands for election before the configuration has reached it.
        Raises StorageFailure where the log ends before what was committed or applied.
        """
        commit = max(hard_state.commit, applied, log.snapshot_index)
        if commit > log.last_index:
            raise StorageFailure(f"the log ends at {log.last_index}, but {commit} was committed: entries are missing")
        require(applied >= log.snapshot_index, "the log starts behind what is applied", applied, log)
        self.config = config
        self.id = config.id
        self.log = log
        self.tracker = Tracker(conf_state, last_index=log.last_index, inflight_max=config.max_inflight_messages)
        self.promises = PendingWrites(stable_index=log.last_index, stable_term=hard_state.term)
        self.snapshot_source: Callable[[], Snapshot | None] = _no_snapshot

        self.term = hard_state.term
        self.voted_for = hard_state.vote
        self.commit_index = commit
        self.applied_index = applied

        self._ready_number = 0
        self._messages: list[Message] = []
        self._snapshot: Snapshot | None = None
        self._entries_handed_out = log.last_index
        self._committed_handed_out = applied
        self._hard_state_handed_out = hard_state
        self.read_states: list[tuple[bytes, int]] = []

        self.role: Role
        self.leader_id: int
        self.handlers: dict[MessageType, Callable[[Raft, Message], None]]
        follower.become(self, self.term, NO_MEMBER)

    def tick(self) -> None:
        """One unit of time has passed (etcd: --heartbeat-interval, 100 ms)."""
        if self.role is Role.LEADER:
            leader.tick(self)
        else:
            election.tick(self)

    def step(self, message: Message) -> None:
        """A message came from a peer. Raises StorageFailure where it proves that our own disk has forgotten something."""
        kind = message.type
        sender = message.from_
        if message.to != self.id or sender == self.id or sender == NO_MEMBER or kind in LOCAL:
            return
        if kind in RESPONSES and sender not in self.tracker.peers:
            return
        if message.term != self.term or not message.term:
            if not message.term:
                if kind not in FORWARDED:
                    return
            elif message.term < self.term:
                self._answer_lower_term(message)
                return
            elif not self._follow_higher_term(message):
                return
        if kind in VOTE_REQUESTS:
            election.on_vote_request(self, message)
            return
        handler = self.handlers.get(kind)
        if handler is not None:
            handler(self, message)

    def campaign(self) -> None:
        """Stand for election now, with a pre-vote where that is configured."""
        election.campaign(self)

    def propose(self, proposals: Sequence[bytes]) -> bool:
        """Append these as one batch, or send them to the leader. False: dropped for certain, nobody leads or is about to.

        True promises nothing: a proposal is done when it comes back among the committed entries, which it may still do when
        its proposer has given up on it.
        """
        if not proposals:
            return True
        if self.role is Role.LEADER:
            return leader.propose(self, proposals)
        return follower.forward_proposals(self, [Entry(0, 0, data) for data in proposals])

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> bool:
        """As `propose`. False also where one is pending already, or where `change` does not fit the configuration."""
        kind = EntryType.CONF_CHANGE_V2 if isinstance(change, ConfChangeV2) else EntryType.CONF_CHANGE
        if self.role is Role.LEADER:
            return leader.propose_conf_change(self, kind, change)
        return follower.forward_proposals(self, [Entry(0, 0, encode_conf_change(change), kind)])

    def read_index(self, context: bytes) -> bool:
        """Ask up to where a linearizable read must wait; `context` comes back in `read_states`. False: no leader is known.

        context: unique among all reads of all members and lives. The answer may be lost: ask again, with another one.
        """
        if self.role is Role.LEADER:
            leader.on_read_request(self, self.id, context)
            return True
        return follower.forward_read(self, context)

    def transfer_leadership(self, target: int) -> None:
        """Let `target` lead. It has an election timeout to catch up and win; until then proposals are refused."""
        if self.role is Role.LEADER:
            leader.transfer_leadership(self, target)
        elif self.leader_id != NO_MEMBER:
            self.send(Message(MessageType.TRANSFER_LEADER, to=self.leader_id, from_=target))

    def broadcast_commit(self, index: int) -> None:
        """Let followers hear that `index` is committed, unless entries have told them since (`RaftConfig.commit_waits`)."""
        if self.role is Role.LEADER and self.commit_news.has_unsent_commit:
            replication.broadcast_commit(self, index)

    def report_unreachable(self, member: int) -> None:
        if self.role is Role.LEADER:
            replication.on_unreachable(self, member)

    def report_snapshot(self, member: int, ok: bool) -> None:
        if self.role is Role.LEADER:
            replication.on_snapshot_report(self, member, ok)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """The entry that holds `change` is being applied; call before `applied_to` its index.

        Returns the configuration from here on. Raises ConfChangeRefused where it does not fit; then nothing has changed.
        """
        conf_state = confchange.changed(self.tracker.conf_state, change)
        self.tracker.install(conf_state, last_index=self.log.last_index)
        if self.role is Role.LEADER:
            leader.on_configuration_changed(self)
        return conf_state

    def applied_to(self, index: int) -> None:
        """The state machine has applied everything up to `index`."""
        require(index <= self._committed_handed_out, "applied what was not handed out", index, self._committed_handed_out)
        if index > self.applied_index:
            self.applied_index = index
            if self.role is Role.LEADER:
                leader.on_applied(self)

    def compact(self, index: int) -> None:
        """Drop the log up to `index`, which a durable snapshot covers."""
        require(index <= self.applied_index, "compacts what is not applied", index, self.applied_index)
        self.log.compact(index)

    def persisted(self, number: int) -> None:
        """Ready `number`, and all before it, is durable; its snapshot, if it had one, is installed."""
        require(number <= self._ready_number, "a Ready that was never taken is durable", number, self._ready_number)
        for write in self.promises.finish(number):
            if write.snapshot_index:
                self._installed(write)
            # A word given in an earlier term helps nobody any more: that term's leader is not one.
            self._messages += [message for message in write.messages if message.term >= self.term]
        if self.role is Role.LEADER:
            replication.on_own_disk(self)
        elif self.role is Role.CANDIDATE and self.promises.stable_term == self.term and self.id not in self.votes:
            election.count_vote(self, self.id, granted=True)

    def has_ready(self) -> bool:
        """Would `take_ready` have anything to say?"""
        return bool(
            self._messages
            or self.appends_due
            or self.heartbeat_due
            or self.read_states
            or self._snapshot
            or self._entries_handed_out < self.log.last_index
            or self._committed_handed_out < min(self.commit_index, self.promises.stable_index)
            or self.promises.has_kept
            or (self.term, self.voted_for, self.commit_index) != self._hard_state_handed_out
        )

    def take_ready(self) -> Ready:
        """All that was decided since the last call; the owner now does it."""
        if self.role is Role.LEADER:
            replication.send_due(self)
        self._ready_number += 1
        before = self._hard_state_handed_out
        if (self.term, self.voted_for, self.commit_index) != before:
            self._hard_state_handed_out = self.hard_state()
        hard_state = self._hard_state_handed_out
        snapshot, self._snapshot = self._snapshot, None
        entries = self._entries_to_write()
        must_sync = bool(entries or snapshot) or (before.term, before.vote) != (hard_state.term, hard_state.vote)
        if must_sync:
            self.promises.begin(
                self._ready_number,
                term=self.term,
                last_index=self.log.last_index,
                snapshot_index=snapshot.index if snapshot else 0,
            )
        else:
            self._messages += self.promises.idle()
        messages, self._messages = self._messages, []
        read_states, self.read_states = self.read_states, []
        return Ready(
            self._ready_number,
            messages,
            hard_state if hard_state is not before else None,
            entries,
            snapshot,
            must_sync,
            self._entries_to_apply(),
            read_states,
        )

    def take_messages(self) -> list[Message]:
        """What may leave now, ahead of the next Ready: the words that `persisted` has just set free."""
        messages, self._messages = self._messages, []
        return messages

    def _entries_to_write(self) -> list[Entry]:
        last_index = self.log.last_index
        if self._entries_handed_out == last_index:
            return []
        entries = self.log.entries(self._entries_handed_out + 1, last_index + 1)
        self._entries_handed_out = last_index
        return entries

    def _entries_to_apply(self) -> list[Entry]:
        # Not before our own disk holds them: so what is applied never has to be taken back after a crash.
        limit = min(self.commit_index, self.promises.stable_index)
        if self._committed_handed_out >= limit:
            return []
        entries = self.log.entries(self._committed_handed_out + 1, limit + 1, self.config.max_committed_bytes)
        self._committed_handed_out = entries[-1].index
        return entries

    def hard_state(self) -> HardState:
        """As it stands now, handed out or not."""
        return HardState(self.term, self.voted_for, self.commit_index)

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def conf_state(self) -> ConfState:
        return self.tracker.conf_state

    @property
    def stable_index(self) -> int:
        return self.promises.stable_index

    def progress(self, member: int) -> Progress | None:
        """What we know of `member`; of use on a leader only. None: not in the configuration."""
        return self.tracker.peers.get(member)

    def is_promotable(self) -> bool:
        """May this member stand for election: is it a voter, and has it the state that its log starts behind?"""
        installing = self._snapshot is not None or self.promises.is_installing
        progress = self.tracker.peers.get(self.id)
        return progress is not None and not progress.is_learner and not installing

    def _follow_higher_term(self, message: Message) -> bool:
        """Move to a later term where the message says that there is one. False: the message is not for us."""
        kind = message.type
        if message.term > _TERM_MAX:
            return False
        if kind in VOTE_REQUESTS and message.context != election.CAMPAIGN_TRANSFER and self._hears_leader():
            # We hear a leader: whoever does not may be cut off or removed, and must not unseat it (thesis §4.2.3).
            return False
        if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESP and not message.reject):
            return True  # speaks of a term that its sender may enter, not of one that anybody is in
        follower.become(self, message.term, message.from_ if kind in FROM_LEADER else NO_MEMBER)
        return True

    def _hears_leader(self) -> bool:
        return self.config.check_quorum and self.leader_id != NO_MEMBER and self.election_elapsed < self.config.election_ticks

    def _answer_lower_term(self, message: Message) -> None:
        """Tell a stale leader or pre-candidate the present term; let everything else of the past go.

        Without the first, a member that came back with a higher term could never join a leader whose messages it ignores: with
        pre-vote and check-quorum on, nothing else tells that leader.
        """
        if message.type is MessageType.PRE_VOTE:
            self.send(Message(MessageType.PRE_VOTE_RESP, to=message.from_, term=self.term, reject=True))
        elif message.type in (MessageType.APP, MessageType.HEARTBEAT) and (self.config.check_quorum or self.config.pre_vote):
            self.send(Message(MessageType.APP_RESP, to=message.from_))

    # What the roles share.

    def reset(self, term: int) -> None:
        """Begin a role: a new term forgets the vote, and every beginning what was only true of the last role."""
        if term != self.term:
            self.term = term
            self.voted_for = NO_MEMBER
        self.leader_id = NO_MEMBER
        self.restart_election_timer()
        self.heartbeat_elapsed = 0
        self.leader_transferee: int = NO_MEMBER
        self.votes: dict[int, bool] = {}
        self.tracker.reset(last_index=self.log.last_index)
        self.pending_conf_index = 0
        self.read_only = ReadOnly()
        self.postponed_reads: list[tuple[int, bytes]] = []
        self.appends_due = False
        self.commit_news: CommitBroadcast = CommitBroadcast(waits=self.config.commit_waits)
        self.heartbeat_due = False

    def restart_election_timer(self) -> None:
        """A new timeout each time, so that members which stood together once will not do so again (paper §5.2)."""
        self.election_elapsed = 0
        self.election_timeout = self.config.election_ticks + self.config.random.randrange(self.config.election_ticks)

    def send(self, message: Message) -> None:
        """Let `message` leave with this turn, or, if it promises something, once that is durable."""
        kind = message.type
        if message.from_ == NO_MEMBER:
            message.from_ = self.id
        if message.term == 0 and kind not in FORWARDED:
            message.term = self.term
        if kind in PROMISING:
            self.promises.keep(message)
        else:
            self._messages.append(message)

    def commit_to(self, index: int) -> None:
        """Raise the commit index; it never falls."""
        if index > self.commit_index:
            require(index <= self.log.last_index, "commits what is not in the log", index, self.log)
            self.commit_index = index

    def truncate_log(self, last_index: int) -> None:
        """Cut the log behind `last_index`: another leader's entries will take the place of what follows."""
        require(last_index >= self.commit_index, "cuts off a committed entry", last_index, self.commit_index)
        self.log.truncate(last_index)
        self.promises.truncated(last_index)
        self._entries_handed_out = min(self._entries_handed_out, last_index)

    def restore(self, snapshot: Snapshot) -> None:
        """Let `snapshot` take the place of the log and of everything not yet applied."""
        self.log.restore(snapshot.index, snapshot.term)
        self.promises.truncated(0)
        self._entries_handed_out = snapshot.index
        self._snapshot = snapshot
        self.commit_to(snapshot.index)
        self._committed_handed_out = snapshot.index
        self.tracker.install(_NO_CONF_STATE, last_index=snapshot.index)
        self.tracker.install(snapshot.conf_state, last_index=snapshot.index)

    def _installed(self, write: Write) -> None:
        self.applied_index = max(self.applied_index, write.snapshot_index)


def _no_snapshot() -> Snapshot | None:
    return None
