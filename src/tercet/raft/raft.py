"""Consensus of one member: what a message, a tick or a proposal changes.

`Raft` is the state (state.py) and its inputs. It enforces the rule of terms (paper §5.1) on every message and passes the
message to the rules of the current role: follower.py, candidate.py (pre-candidates too) or leader.py. Votes are granted in any
role (election.py). `RawNode` (raw_node.py) takes the output.

`Raft` reads no clock, touches no disk or socket, and draws random numbers only from the generator in its configuration. A
message that makes no sense changes nothing; peers cannot trigger an InvariantViolation.

Source: Raft paper and thesis; etcd raft.go (Step, tickElection, tickHeartbeat).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tercet.errors import require
from tercet.raft import candidate, confchange, election, follower, leader, replication
from tercet.raft.codec import encode_conf_change
from tercet.raft.message_types import FORWARDED, FROM_LEADER, LOCAL, RESPONSES, VOTE_REQUESTS
from tercet.raft.state import RaftState
from tercet.raft.types import (
    NO_MEMBER,
    ConfChange,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    Message,
    MessageType,
    Role,
    Snapshot,
)

_TERM_MAX: Final = 1 << 62  # no cluster reaches it; a term near 2^64 would leave no next one
_HandlerTable = dict[MessageType, Callable[[RaftState, Message], None]]


class Raft(RaftState):
    """One member: its state and its inputs."""

    __slots__ = ()

    def tick(self) -> None:
        """One heartbeat interval has passed (etcd: --heartbeat-interval, 100 ms)."""
        if self.role is Role.LEADER:
            leader.tick(self)
        else:
            election.tick(self)

    def step(self, message: Message) -> None:
        """Process a message from a peer. Raises StorageFailure if it proves that our own disk has lost entries."""
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
            elif not self._accept_higher_term(message):
                return
        if kind in VOTE_REQUESTS:
            election.on_vote_request(self, message)
            return
        handler = self._handlers(message).get(kind)
        if handler is not None:
            handler(self, message)

    def campaign(self) -> None:
        """Start an election now, with a pre-vote where that is configured."""
        election.campaign(self)

    def propose(self, proposals: Sequence[bytes]) -> bool:
        """Append these as one batch, or forward them to the leader.

        False: dropped for certain; no leader is known, or leadership is being transferred. True is no guarantee: a proposal
        is done when it comes back as a committed entry, which may happen after its proposer has given up on it.
        """
        if not proposals:
            return True
        if self.role is Role.LEADER:
            return leader.propose(self, proposals)
        return follower.forward_proposals(self, [Entry(0, 0, data) for data in proposals])

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> bool:
        """As `propose`. False also while another change is pending, or if `change` does not fit the configuration."""
        kind = EntryType.CONF_CHANGE_V2 if isinstance(change, ConfChangeV2) else EntryType.CONF_CHANGE
        if self.role is Role.LEADER:
            return leader.propose_conf_change(self, kind, change)
        return follower.forward_proposals(self, [Entry(0, 0, encode_conf_change(change), kind)])

    def read_index(self, context: bytes) -> bool:
        """Request the index that a linearizable read must wait for; `context` comes back in `read_states`.

        context: unique among all reads of all members and restarts. The answer may be lost: retry with another context.
        False: no leader is known.
        """
        if self.role is Role.LEADER:
            leader.on_read_request(self, self.id, context)
            return True
        return follower.forward_read(self, context)

    def transfer_leadership(self, target: int) -> None:
        """Hand leadership to `target`. It has an election timeout to catch up and win; until then proposals are refused."""
        if self.role is Role.LEADER:
            leader.transfer_leadership(self, target)
        elif self.leader_id != NO_MEMBER:
            self.send(Message(MessageType.TRANSFER_LEADER, to=self.leader_id, from_=target))

    def broadcast_commit(self, index: int) -> None:
        """Tell followers that `index` is committed, unless a MsgApp has done so (`RaftConfig.defer_commit_broadcast`)."""
        if self.role is Role.LEADER:
            self.request_commit_broadcast(index)

    def request_snapshot(self) -> None:
        """Ask the leader for a snapshot. `step` decides about it like about any other: raft may not need it."""
        if self.role is not Role.LEADER and self.leader_id != NO_MEMBER:
            self.send(Message(MessageType.SNAP_STATUS, to=self.leader_id, reject=True))

    def send_snapshot(self, member: int, snapshot: Snapshot) -> None:
        """Send a snapshot that `member` has asked for. Its log goes on to be replicated meanwhile."""
        if self.role is Role.LEADER:
            self.send(Message(MessageType.SNAP, to=member, snapshot=snapshot))

    def report_unreachable(self, member: int) -> None:
        """The transport has lost messages to `member`."""
        if self.role is Role.LEADER:
            replication.on_unreachable(self, member)

    def report_snapshot(self, member: int, ok: bool) -> None:
        """The transport has delivered a snapshot to `member`, or failed to."""
        if self.role is Role.LEADER:
            replication.on_snapshot_report(self, member, ok)

    def apply_conf_change(self, change: ConfChange | ConfChangeV2) -> ConfState:
        """Apply the entry that holds `change`; call before `applied_to` its index.

        Returns the new configuration. Raises ConfChangeRefused, with nothing changed, if `change` does not fit.
        """
        conf_state = confchange.changed(self.tracker.conf_state, change)
        self.tracker.install(conf_state, last_index=self.log.last_index)
        if self.role is Role.LEADER:
            leader.on_configuration_changed(self)
        return conf_state

    def applied_to(self, index: int) -> None:
        """The state machine has applied all entries up to `index`."""
        require(index <= self.committed_handed_out, "applied an entry not handed out", index, self.committed_handed_out)
        if index > self.applied_index:
            self.applied_index = index
            if self.role is Role.LEADER:
                leader.on_applied(self)

    def compact(self, index: int) -> None:
        """Drop the log up to `index`, which a durable snapshot covers."""
        require(index <= self.applied_index, "compacts an entry not applied", index, self.applied_index)
        self.log.compact(index)

    def on_persisted(self) -> None:
        """More of our own disk is durable: count our own acknowledgement or vote (`RawNode.persisted`)."""
        if self.role is Role.LEADER:
            replication.on_own_disk(self)
        elif self.role is Role.CANDIDATE and self.pending_writes.stable_term == self.term and self.id not in self.votes:
            election.count_vote(self, self.id, granted=True)

    def _handlers(self, message: Message) -> _HandlerTable:
        """The handlers of the current role."""
        role = self.role
        if role is Role.FOLLOWER:
            return follower.HANDLERS
        if role is Role.LEADER:
            return leader.HANDLERS
        if message.type in FROM_LEADER:  # somebody else has won the term that we campaign in
            self.become_follower(message.term, message.from_)
            return follower.HANDLERS
        return candidate.PRE_CANDIDATE_HANDLERS if role is Role.PRE_CANDIDATE else candidate.CANDIDATE_HANDLERS

    def _accept_higher_term(self, message: Message) -> bool:
        """Enter the later term if the message proves that it exists. False: ignore the message."""
        kind = message.type
        if message.term > _TERM_MAX:
            return False
        if kind in VOTE_REQUESTS and message.context != election.CAMPAIGN_TRANSFER and self.hears_leader():
            # A member that does not hear our leader may be partitioned or removed, and must not unseat it (thesis §4.2.3).
            return False
        if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESP and not message.reject):
            return True  # names the term that the pre-candidate would enter; no member is in it yet
        self.become_follower(message.term, message.from_ if kind in FROM_LEADER else NO_MEMBER)
        return True

    def _answer_lower_term(self, message: Message) -> None:
        """Send the current term to a stale leader or pre-candidate; drop other messages of earlier terms.

        With pre-vote or check-quorum, a member whose term ran ahead ignores the leader and may not unseat it; without this
        answer the leader would never learn of the higher term, and the member could never rejoin.
        """
        if message.type is MessageType.PRE_VOTE:
            self.send(Message(MessageType.PRE_VOTE_RESP, to=message.from_, term=self.term, reject=True))
        elif message.type in (MessageType.APP, MessageType.HEARTBEAT) and (self.config.check_quorum or self.config.pre_vote):
            self.send(Message(MessageType.APP_RESP, to=message.from_))
