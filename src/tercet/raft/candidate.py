"""The candidate and the pre-candidate: count votes.

Proposals and reads are dropped: there is no leader to forward them to. A pre-candidate is still in its old term with its vote
unchanged; it has only given up its leader. On a message from a leader of the same term both become followers (raft.py).
Source: paper §5.2; thesis §9.6; etcd raft.go (stepCandidate).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet.raft import election
from tercet.raft.state import RaftState
from tercet.raft.types import Message, MessageType


def _on_vote_response(raft: RaftState, message: Message) -> None:
    election.count_vote(raft, message.from_, granted=not message.reject)


def _on_pre_vote_response(raft: RaftState, message: Message) -> None:
    """A grant carries the term asked for, a rejection our current one; anything else answers an earlier campaign."""
    if message.reject or message.term == raft.term + 1:
        election.count_vote(raft, message.from_, granted=not message.reject)


CANDIDATE_HANDLERS: Final[dict[MessageType, Callable[[RaftState, Message], None]]] = {MessageType.VOTE_RESP: _on_vote_response}
PRE_CANDIDATE_HANDLERS: Final[dict[MessageType, Callable[[RaftState, Message], None]]] = {
    MessageType.PRE_VOTE_RESP: _on_pre_vote_response
}
