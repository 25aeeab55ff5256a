"""ReadIndex: when a leader may answer a linearizable read.

Two conditions: it has committed an entry of its own term (before that it may not know everything that is committed, paper §8),
and a quorum has confirmed since the read arrived that it is still leader (read_only.py). A sole voter needs no confirmation.
Source: thesis §6.4; etcd raft.go (MsgReadIndex). Departs in: a sole voter also waits for the first commit of its term, since
the commit index on its disk may be older than what it has already answered.
"""

from __future__ import annotations

from typing import Final

from tercet.raft.state import RaftState
from tercet.raft.types import Entry, Message, MessageType

_POSTPONED_MAX: Final = 1 << 16  # reads beyond it are dropped; their members retry


def start(raft: RaftState, member: int, context: bytes) -> None:
    """Start a read of `member`, our own or forwarded."""
    if raft.log.term(raft.commit_index) != raft.term:
        if len(raft.postponed_reads) < _POSTPONED_MAX:
            raft.postponed_reads.append((member, context))
    elif raft.tracker.is_only_voter(raft.id):
        _answer(raft, member, context, raft.commit_index)
    elif raft.read_only.add(member, context, raft.commit_index):
        raft.heartbeat_due = True


def on_commit(raft: RaftState) -> None:
    """The commit index has advanced in our own term: start the reads that waited for it."""
    postponed, raft.postponed_reads = raft.postponed_reads, []
    for member, context in postponed:
        start(raft, member, context)


def on_heartbeat_echo(raft: RaftState, member: int, context: bytes) -> None:
    """`member` has echoed the context of a heartbeat."""
    if raft.read_only.acknowledge(member, context):
        answer_confirmed(raft)


def answer_confirmed(raft: RaftState) -> None:
    """Answer the reads whose round a quorum has echoed."""
    for request in raft.read_only.take_confirmed(raft.tracker.reached_index(raft.read_only.acknowledged)):
        _answer(raft, request.member, request.context, request.index)


def _answer(raft: RaftState, member: int, context: bytes, index: int) -> None:
    if member == raft.id:
        raft.read_states.append((context, index))
    else:
        raft.request_commit_broadcast(raft.commit_index)  # the member waits until it has applied `index`
        raft.send(Message(MessageType.READ_INDEX_RESP, to=member, index=index, entries=[Entry(0, 0, context)]))
