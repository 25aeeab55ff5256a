"""When may the leader answer a linearizable read?

Once it has committed something of its own term (before that it may not know of all that is committed, paper §8), and once a
quorum has confirmed that it still leads (read_only.py). If it is the only voter, nobody else can.
Source: thesis §6.4; etcd raft.go (MsgReadIndex). Departs in: the only voter waits for the first commit of its term, too, since
the commit index it found on its disk may be older than what it has already answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tercet.raft.types import Entry, Message, MessageType

if TYPE_CHECKING:
    from tercet.raft.raft import Raft

_POSTPONED_MAX: Final = 1 << 16  # reads dropped beyond it are asked again by their members


def start(raft: Raft, member: int, context: bytes) -> None:
    """A read of `member`, ours or forwarded, has come."""
    if raft.log.term(raft.commit_index) != raft.term:
        if len(raft.postponed_reads) < _POSTPONED_MAX:
            raft.postponed_reads.append((member, context))
    elif raft.tracker.is_only_voter(raft.id):
        _answer(raft, member, context, raft.commit_index)
    elif raft.read_only.add(member, context, raft.commit_index):
        raft.heartbeat_due = True


def on_commit(raft: Raft) -> None:
    """The commit index has moved in our own term: reads that waited for this may start."""
    postponed, raft.postponed_reads = raft.postponed_reads, []
    for member, context in postponed:
        start(raft, member, context)


def on_echo(raft: Raft, member: int, context: bytes) -> None:
    """`member` has answered a heartbeat."""
    if raft.read_only.acknowledge(member, context):
        answer_confirmed(raft)


def answer_confirmed(raft: Raft) -> None:
    """Answer the reads whose round a quorum has echoed."""
    for request in raft.read_only.take_confirmed(raft.tracker.reached_index(raft.read_only.acknowledged)):
        _answer(raft, request.member, request.context, request.index)


def _answer(raft: Raft, member: int, context: bytes, index: int) -> None:
    if member == raft.id:
        raft.read_states.append((context, index))
    else:
        raft.broadcast_commit(raft.commit_index)  # it waits until it has applied up to `index`
        raft.send(Message(MessageType.READ_INDEX_RESP, to=member, index=index, entries=[Entry(0, 0, context)]))
