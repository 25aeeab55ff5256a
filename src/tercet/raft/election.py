"""When does a member stand for election, and whom does it vote for?

A member that hears no leader for its timeout first asks "would you vote for me?" without touching its term (pre-vote, thesis
§9.6): a member that was cut off and comes back then disturbs nobody. Only with a quorum of yes does it enter the next term and
ask in earnest. A transfer skips the question, and its request says so, since the voters still hear their leader.

One that holds a committed but unapplied change of configuration does not stand: it would ask the wrong voters.
Source: paper §5.2, §5.4.1; thesis §4.2.3, §9.6; etcd raft.go (hup, campaign, Step).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tercet.raft import candidate, follower, leader
from tercet.raft.quorum import VoteResult
from tercet.raft.types import NO_MEMBER, EntryType, Message, MessageType, Role

if TYPE_CHECKING:
    from tercet.raft.raft import Raft

CAMPAIGN_TRANSFER: Final = b"CampaignTransfer"  # etcd's mark of a vote that its leader has asked for


def tick(raft: Raft) -> None:
    """Time passes for a member that does not lead."""
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.election_timeout and raft.is_promotable():
        raft.election_elapsed = 0
        campaign(raft)


def campaign(raft: Raft) -> None:
    """Stand, if this member may."""
    if not _may_stand(raft):
        return
    if not raft.config.pre_vote:
        stand(raft)
        return
    candidate.become_pre_candidate(raft)
    _ask(raft, MessageType.PRE_VOTE, raft.term + 1)
    count_vote(raft, raft.id, granted=True)  # promises nothing, so it needs no disk


def campaign_now(raft: Raft) -> None:
    """Stand because the leader said so."""
    if _may_stand(raft):
        stand(raft, context=CAMPAIGN_TRANSFER)


def stand(raft: Raft, *, context: bytes = b"") -> None:
    """Enter the next term and ask for votes. Our own counts when it is on disk (core.persisted), and so leave the requests.

    Before that a crash could make us forget that we stood: we would ask a second time in the same term, with another log, and
    lead it twice.
    """
    candidate.become_candidate(raft)
    _ask(raft, MessageType.VOTE, raft.term, context)


def count_vote(raft: Raft, member: int, *, granted: bool) -> None:
    """One answer; the first of each member counts."""
    raft.votes.setdefault(member, granted)
    result = raft.tracker.vote_result(raft.votes)
    if result is VoteResult.LOST:
        follower.become(raft, raft.term, NO_MEMBER)
    elif result is VoteResult.WON and raft.role is Role.PRE_CANDIDATE:
        stand(raft)
    elif result is VoteResult.WON:
        leader.become(raft)


def on_vote_request(raft: Raft, message: Message) -> None:
    """Grant or refuse, in whatever role: a leader refuses because it has voted for itself."""
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


def _ask(raft: Raft, kind: MessageType, term: int, context: bytes = b"") -> None:
    log = raft.log
    for voter in raft.tracker.voters:
        if voter != raft.id:
            raft.send(Message(kind, to=voter, term=term, index=log.last_index, log_term=log.last_term, context=context))


def _may_stand(raft: Raft) -> bool:
    return raft.role is not Role.LEADER and raft.is_promotable() and not _has_unapplied_conf_change(raft)


def _has_unapplied_conf_change(raft: Raft) -> bool:
    unapplied = raft.log.entries(raft.applied_index + 1, raft.commit_index + 1)
    return any(entry.type != EntryType.NORMAL for entry in unapplied)
