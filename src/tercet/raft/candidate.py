"""What does a member do while it waits for votes?

It counts them, and gives up as soon as somebody leads its term. Proposals and reads are dropped: there is nobody to send them
to. A pre-candidate is still in its old term, its vote untouched; it has only stopped to believe in a leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tercet.raft import election, follower
from tercet.raft.types import NO_MEMBER, Message, MessageType, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from tercet.raft.raft import Raft


def become_pre_candidate(raft: Raft) -> None:
    raft.leader_id = NO_MEMBER
    raft.votes = {}
    raft.restart_election_timer()
    raft.role = Role.PRE_CANDIDATE
    raft.handlers = PRE_CANDIDATE_HANDLERS


def become_candidate(raft: Raft) -> None:
    raft.reset(raft.term + 1)
    raft.voted_for = raft.id
    raft.role = Role.CANDIDATE
    raft.handlers = CANDIDATE_HANDLERS


def _on_vote_response(raft: Raft, message: Message) -> None:
    election.count_vote(raft, message.from_, granted=not message.reject)


def _on_pre_vote_response(raft: Raft, message: Message) -> None:
    """A grant names the term we asked about, a refusal the one its sender and we are in; others answer an earlier question."""
    if message.reject or message.term == raft.term + 1:
        election.count_vote(raft, message.from_, granted=not message.reject)


def _on_message_from_leader(raft: Raft, message: Message) -> None:
    """Somebody else has won this term."""
    follower.become(raft, message.term, message.from_)
    raft.handlers[message.type](raft, message)


_COMMON: Final[dict[MessageType, Callable[[Raft, Message], None]]] = {
    MessageType.APP: _on_message_from_leader,
    MessageType.HEARTBEAT: _on_message_from_leader,
    MessageType.SNAP: _on_message_from_leader,
}
CANDIDATE_HANDLERS: Final = {**_COMMON, MessageType.VOTE_RESP: _on_vote_response}
PRE_CANDIDATE_HANDLERS: Final = {**_COMMON, MessageType.PRE_VOTE_RESP: _on_pre_vote_response}
