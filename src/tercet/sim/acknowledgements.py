"""What members have acknowledged in messages, over all incarnations: it must be true when sent and stay true.

A vote, or an acknowledgement of entries, must be durable before it leaves, and a restart must find it. So for each message that
leaves a member:
- one vote a term, whatever happens to the voter (paper §5.2), for a candidate whose log is not behind the voter's (§5.4.1);
- the vote, or the acknowledged entries, are on the disk by then (paper §5.4, figure 2: respond after updating stable storage);
- only entries that came from this leader, or that are committed, are acknowledged: others may differ from the leader's.
And at any time:
- a member in the term of its last acknowledgement still has what it acknowledged;
- a leader is a voter, was elected by a quorum of votes, and what it commits a quorum has acknowledged to it, of both halves of
  a joint configuration;
- a leader's `match` of a follower is no higher than what that follower acknowledged in the leader's term, and where the
  follower's log ended there, it ended in the leader's entry; that of itself is no higher than what its own disk has;
- a leader counts no echo of a heartbeat that was not sent to it, and a restarted member asks with new contexts;
- a read index is not below what was committed anywhere when the read began (thesis §6.4).
"""

from __future__ import annotations

from typing import NamedTuple

from tercet.errors import require
from tercet.raft import Raft
from tercet.raft.types import ConfState, Message, MessageType, Role


class Durable(NamedTuple):
    """What a member's log has on disk."""

    term: int
    vote: int
    last_index: int
    last_term: int


class Progress(NamedTuple):
    """What a member knows to be committed, and what it has applied."""

    committed: int
    applied: int


class Acknowledgements:
    """Record of all votes and acknowledgements of a run."""

    def __init__(self) -> None:
        self._votes: dict[tuple[int, int], int] = {}  # (member, term) -> candidate
        self._candidate_logs: dict[tuple[int, int], tuple[int, int]] = {}  # (candidate, term) -> (last term, last index)
        self._last_vote: dict[int, int] = {}  # member -> term
        self._acknowledged: dict[int, tuple[int, int]] = {}  # member -> (term, index) of the newest term
        self._commits: dict[int, tuple[int, int, ConfState]] = {}  # leader -> (term, commit, configuration) when last checked
        self._reads: dict[bytes, int] = {}  # context -> committed index when the read was first sent
        self._read_by: dict[bytes, tuple[int, int]] = {}  # context -> (member, incarnation) that asks with it
        self._incarnations: dict[int, int] = {}
        # (member, term, index acknowledged) -> the last term of its log, if it ended there
        self._last_terms: dict[tuple[int, int, int], int] = {}
        self._echoes: dict[tuple[int, int, int], int] = {}  # (leader, term, follower) -> newest round
        self._received: dict[tuple[int, int], int] = {}  # (term, follower) -> the last index that came from its leader

    def sent(self, sender: int, message: Message, durable: Durable, committed: int, own: Progress) -> None:
        """Check a message that leaves a member. committed: the highest index committed anywhere; own: of the sender."""
        kind = message.type
        if kind == MessageType.APP_RESP:
            if not message.reject:
                self._entries_acknowledged(message, durable, own.committed)
        elif message.snapshot is not None:
            # A database that was received may hold more, which is not known here to be committed.
            index = message.snapshot.index
            require(index <= own.applied, "a snapshot of entries that are not applied", message, own)
        elif kind == MessageType.VOTE_RESP:
            if not message.reject:
                self._voted(message.from_, message.term, message.to, durable)
                self._check_candidate_log(message, durable)
        elif kind == MessageType.VOTE:
            self._voted(message.from_, message.term, message.from_, durable)
            self._candidate_logs[message.from_, message.term] = (message.log_term, message.index)
        elif kind == MessageType.HEARTBEAT_RESP and message.context:
            place = (message.to, message.term, message.from_)
            self._echoes[place] = max(int.from_bytes(message.context, "little"), self._echoes.get(place, 0))
        elif kind == MessageType.READ_INDEX:
            if sender == message.from_:  # not forwarded
                asked = (sender, self._incarnations.get(sender, 0))
                known = self._read_by.setdefault(message.entries[0].data, asked)
                require(known == asked, "a read-index context is used again after a restart", known, asked)
            self._reads.setdefault(message.entries[0].data, committed)
        elif kind == MessageType.READ_INDEX_RESP:
            asked_at = self._reads.get(message.entries[0].data, 0)
            require(message.index >= asked_at, "a read index below what was committed when the read began", message, asked_at)

    def received(self, message: Message) -> None:
        """Note a message that a member receives."""
        snapshot = message.snapshot
        if snapshot is not None or message.type == MessageType.APP:
            place = (message.term, message.to)
            last = message.index + len(message.entries) if snapshot is None else snapshot.index
            self._received[place] = max(last, self._received.get(place, 0))

    def _voted(self, member: int, term: int, candidate: int, durable: Durable) -> None:
        known = self._votes.setdefault((member, term), candidate)
        require(known == candidate, "voted twice in one term", member, term, known, candidate)
        require(
            durable.term > term or (durable.term, durable.vote) == (term, candidate),
            "a vote leaves before it is durable",
            member,
            term,
            durable,
        )
        self._last_vote[member] = max(term, self._last_vote.get(member, 0))

    def _check_candidate_log(self, message: Message, durable: Durable) -> None:
        """A vote leaves once the voter's log is durable; entries of the vote's own term came after it."""
        candidate = self._candidate_logs[message.to, message.term]
        voter = (durable.last_term, durable.last_index)
        require(
            durable.last_term >= message.term or candidate >= voter,
            "a vote for a log behind the voter's",
            message,
            candidate,
            voter,
        )

    def _entries_acknowledged(self, message: Message, durable: Durable, own_commit: int) -> None:
        member, term, index = message.from_, message.term, message.index
        received = self._received.get((term, member), 0)
        known = max(received, own_commit)
        require(index <= known, "entries are acknowledged that did not come from the leader", member, term, index, known)
        require(durable.last_index >= index, "entries are acknowledged before they are durable", member, index, durable)
        require(durable.term >= term, "an acknowledgement leaves before its term is durable", member, term, durable)
        if durable.last_index == index:
            self._last_terms[member, term, index] = durable.last_term
        known_term, known_index = self._acknowledged.get(member, (0, 0))
        if term > known_term or (term == known_term and index > known_index):
            self._acknowledged[member] = (term, index)

    def check(self, raft: Raft) -> None:
        """Check one member after an event."""
        term, index = self._acknowledged.get(raft.id, (0, 0))
        if raft.term == term:
            require(raft.log.last_index >= index, "acknowledged entries are lost", raft.id, term, index, raft.log)
        if raft.role is Role.LEADER:
            self._check_matches(raft)
            self._check_echoes(raft)
            self._check_quorum(raft)
        else:
            # The commit index that a deposed leader has noted for a read may be too old when it leads again.
            waiting = len(raft.read_only) + len(raft.postponed_reads)
            require(not waiting, "reads of an earlier leadership are kept", raft.id, raft.term, waiting)

    def _check_quorum(self, raft: Raft) -> None:
        """An entry may be committed, and the change in it applied, in one event: a quorum of either configuration will do."""
        term, commit, before = self._commits.get(raft.id, (0, 0, raft.conf_state))
        self._commits[raft.id] = (raft.term, raft.commit_index, raft.conf_state)
        if term != raft.term:
            voters = {member for (member, of), candidate in self._votes.items() if (of, candidate) == (raft.term, raft.id)}
            is_voter = any(raft.id in (*conf.voters, *conf.voters_outgoing) for conf in (raft.conf_state, before))
            require(is_voter, "a learner or a removed member was elected", raft.id, raft.term, raft.conf_state)
            elected = any(_is_quorum(conf, voters | {raft.id}) for conf in (raft.conf_state, before))
            require(elected, "a leader without a quorum of votes", raft.id, raft.term, raft.conf_state, voters)
        elif raft.commit_index > commit:
            have = {
                member for member, acknowledged in self._acknowledged.items() if acknowledged >= (raft.term, raft.commit_index)
            }
            if raft.stable_index >= raft.commit_index:
                have.add(raft.id)
            committed = any(_is_quorum(conf, have) for conf in (raft.conf_state, before))
            require(committed, "committed without a quorum", raft.id, raft.commit_index, raft.conf_state, have)

    def _check_matches(self, raft: Raft) -> None:
        for member, progress in raft.tracker.peers.items():
            if member == raft.id:
                stable = raft.stable_index
                require(progress.match <= stable, "the leader counts entries of its own in flight", raft.id, progress, stable)
            elif progress.match:
                term, index = self._acknowledged.get(member, (0, 0))
                require(
                    term > raft.term or (term == raft.term and progress.match <= index),
                    "the leader counts entries that a follower has not acknowledged to it",
                    raft.id,
                    member,
                    progress,
                    (term, index),
                )
                ended = self._last_terms.get((member, raft.term, progress.match))
                require(
                    ended is None or raft.log.term(progress.match) in (None, ended),
                    "a follower acknowledges entries that differ from the leader's",
                    raft.id,
                    member,
                    progress,
                    ended,
                )

    def _check_echoes(self, raft: Raft) -> None:
        for member, echoed in raft.read_only.acknowledged.items():
            sent = self._echoes.get((raft.id, raft.term, member), 0)
            require(
                member == raft.id or echoed <= sent,
                "the leader counts an echo that was not sent",
                raft.id,
                member,
                echoed,
                sent,
            )

    def restarted(self, raft: Raft) -> None:
        """Check a member that has just restarted: its disk still has what it acknowledged."""
        self._incarnations[raft.id] = self._incarnations.get(raft.id, 0) + 1
        term, _ = self._acknowledged.get(raft.id, (0, 0))
        voted = self._last_vote.get(raft.id, 0)
        require(raft.term >= max(term, voted), "a restart lost the term", raft.id, raft.term, term, voted)
        if voted and raft.term == voted:
            candidate = self._votes[raft.id, voted]
            require(raft.voted_for == candidate, "a restart lost the vote", raft.id, voted, raft.voted_for, candidate)


def _is_quorum(conf_state: ConfState, members: set[int]) -> bool:
    halves = (conf_state.voters, conf_state.voters_outgoing)
    return all(2 * len(members.intersection(half)) > len(half) for half in halves if half)
