"""Elections: when a member campaigns, and for which candidate it votes.

On an election timeout a member first asks for pre-votes without changing its term (thesis §9.6), so that a member that returns
from a partition disturbs nobody. With a quorum of pre-votes it enters the next term and asks for votes. A leadership transfer
skips the pre-vote and marks its requests, since the voters still hear their leader.

A member with a committed but unapplied configuration change does not campaign: it would ask the wrong voters.
Source: paper §5.2, §5.4.1; thesis §4.2.3, §9.6; etcd raft.go (hup, campaign, poll, Step).
"""

from __future__ import annotations

from typing import Final

from tercet.raft.quorum import VoteResult
from tercet.raft.state import RaftState
from tercet.raft.types import NO_MEMBER, EntryType, Message, MessageType, Role

CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"  # etcd's context of a vote request that the leader has caused


def tick(raft: RaftState) -> None:
    """Advance the election timer of a member that is not leader.

    Only a campaign restarts it. A member whose timer runs out while it may not campaign has still not heard from its leader, so
    it must go on granting votes to others (thesis §4.2.3).
    """
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.election_timeout:
        campaign(raft)


def campaign(raft: RaftState) -> None:
    """Start an election, if this member may."""
    if not _may_campaign(raft):
        return
    if not raft.config.pre_vote:
        _request_votes(raft)
        return
    raft.become_pre_candidate()
    _send_requests(raft, MessageType.PRE_VOTE, raft.term + 1)
    count_vote(raft, raft.id, granted=True)  # commits us to nothing, so it need not be durable


def campaign_for_transfer(raft: RaftState) -> None:
    """Start an election at once: the leader hands leadership to us."""
    if _may_campaign(raft):
        _request_votes(raft, context=CAMPAIGN_TRANSFER)


def count_vote(raft: RaftState, member: int, *, granted: bool) -> None:
    """Record one answer, the first of each member, and act on the result."""
    raft.votes.setdefault(member, granted)
    result = raft.tracker.vote_result(raft.votes)
    if result is VoteResult.LOST:
        raft.become_follower(raft.term, NO_MEMBER)
    elif result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        _request_votes(raft)
    elif result is VoteResult.WON:
        raft.become_leader()


def on_vote_request(raft: RaftState, message: Message) -> None:
    """Grant or reject, in any role: a leader rejects because it has voted for itself."""
    is_pre_vote = message.type is MessageType.PRE_VOTE
    is_free = (
        raft.voted_for == message.from_  # a repeated request gets the same answer
        or (raft.voted_for == NO_MEMBER and raft.leader_id == NO_MEMBER)
        or (is_pre_vote and message.term > raft.term)
    )
    kind = MessageType.PRE_VOTE_RESP if is_pre_vote else MessageType.VOTE_RESP
    if not (is_free and raft.log.is_up_to_date(index=message.index, term=message.log_term)):
        raft.send(Message(kind, to=message.from_, term=raft.term, reject=True))
        return
    raft.send(Message(kind, to=message.from_, term=message.term))
    if not is_pre_vote:
        raft.voted_for = message.from_
        raft.election_elapsed = 0


def _request_votes(raft: RaftState, *, context: bytes = b"") -> None:
    """Enter the next term and request votes. The requests leave, and our own vote counts, once the new term is durable.

    Otherwise a crash could erase it: this member could campaign, and win, twice in one term.
    """
    raft.become_candidate()
    _send_requests(raft, MessageType.VOTE, raft.term, context)


def _send_requests(raft: RaftState, kind: MessageType, term: int, context: bytes = b"") -> None:
    log = raft.log
    for voter in raft.tracker.voters:
        if voter != raft.id:
            raft.send(Message(kind, to=voter, term=term, index=log.last_index, log_term=log.last_term, context=context))


def _may_campaign(raft: RaftState) -> bool:
    return raft.role is not Role.LEADER and raft.is_promotable() and not _has_unapplied_conf_change(raft)


def _has_unapplied_conf_change(raft: RaftState) -> bool:
    unapplied = raft.log.entries(raft.applied_index + 1, raft.commit_index + 1)
    return any(entry.type != EntryType.NORMAL for entry in unapplied)
