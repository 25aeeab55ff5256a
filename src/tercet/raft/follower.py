"""The follower: store what the leader sends, forward requests to it.

Acknowledgements sent here are held in pending_writes.py until what they acknowledge is on disk.
Source: paper §5.3, §7; etcd raft.go (stepFollower, handleAppendEntries, handleHeartbeat, handleSnapshot).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft import confchange, election
from tercet.raft.codec import MalformedMessage, conf_change_in
from tercet.raft.state import RaftState
from tercet.raft.types import NO_MEMBER, Entry, Message, MessageType, Snapshot


def forward_proposals(raft: RaftState, entries: list[Entry]) -> bool:
    """Send our own proposals to the leader, which assigns term and index. False: no leader is known."""
    if raft.leader_id == NO_MEMBER:
        return False
    raft.send(Message(MessageType.PROP, to=raft.leader_id, entries=entries))
    return True


def forward_read(raft: RaftState, context: bytes) -> bool:
    """Ask the leader for its read index. False: no leader is known."""
    if raft.leader_id == NO_MEMBER:
        return False
    raft.send(Message(MessageType.READ_INDEX, to=raft.leader_id, entries=[Entry(0, 0, context)]))
    return True


def _on_append(raft: RaftState, message: Message) -> None:
    entries = message.entries
    if not _is_well_formed(entries, message) or not _accept_leader(raft, message):
        return
    if not raft.may_campaign and entries:
        entries = _before_removal(raft, entries, leader=message.from_)
        if not entries:
            return  # the leader sends them again
    log = raft.log
    if message.index < raft.commit_index:
        _acknowledge(raft, raft.commit_index)
    elif log.term(message.index) != message.log_term:
        _reject(raft, message)
    else:
        if entries:
            _store(raft, entries)
        # Not beyond what this message proves to match the leader's log: later entries of ours may still conflict.
        last_new = message.index + len(entries)
        raft.commit_to(min(message.commit, last_new))
        _acknowledge(raft, last_new)


def _is_well_formed(entries: Sequence[Entry], message: Message) -> bool:
    """Are the indexes consecutive after the previous one, with terms that never fall nor exceed the sender's?"""
    index, term = message.index, message.log_term
    for entry in entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= message.term


def _accept_leader(raft: RaftState, message: Message) -> bool:
    """Take the sender as leader of this term. False for a second one, which cannot exist: ignore it."""
    if raft.leader_id != message.from_:
        if raft.leader_id != NO_MEMBER:
            return False
        raft.leader_id = message.from_
    raft.election_elapsed = 0
    return True


def _store(raft: RaftState, entries: Sequence[Entry]) -> None:
    """Skip entries that match, replace from the first conflict, keep the rest of the log if there is none (paper §5.3)."""
    log = raft.log
    if entries[0].index <= log.last_index:
        conflict = log.first_conflict(entries)
        entries = entries[conflict - entries[0].index :]
        if entries and conflict <= log.last_index:
            raft.truncate_log(conflict - 1)
    if entries:
        log.append(entries)


def _before_removal(raft: RaftState, entries: list[Entry], *, leader: int) -> list[Entry]:
    """`entries` up to the one that removes the leader, for a member that has lost the state that a leader needs.

    The leader is to give it that state. Were the removal committed with this member's acknowledgement, those that remain might
    be this member, which cannot lead, and others whose logs are shorter, which cannot be elected.
    """
    for position, entry in enumerate(entries):
        if entry.type and raft.log.term(entry.index) != entry.term and _takes_vote_of(entry, leader):
            return entries[:position]
    return entries


def _takes_vote_of(entry: Entry, member: int) -> bool:
    """Does a change of the configuration remove a voter, or make it a learner?"""
    try:
        return confchange.takes_vote_of(conf_change_in(entry), member)
    except MalformedMessage:
        return False


def _acknowledge(raft: RaftState, index: int) -> None:
    raft.send(Message(MessageType.APP_RESP, to=raft.leader_id, index=index))


def _reject(raft: RaftState, message: Message) -> None:
    """Reject, with a hint where the logs may match: our last position whose term is not above the leader's there."""
    hint, hint_term = raft.log.last_position_up_to(index=min(message.index, raft.log.last_index), term=message.log_term)
    raft.send(
        Message(
            MessageType.APP_RESP,
            to=message.from_,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=hint_term,
        )
    )


def _on_heartbeat(raft: RaftState, message: Message) -> None:
    """Take over the commit index and echo the context: a quorum of echoes confirms the leader's reads."""
    if not _accept_leader(raft, message):
        return
    if message.commit > raft.log.last_index:
        # A leader sends at most what we acknowledged to it, and we acknowledge only what is on disk.
        raise StorageFailure(
            f"member {raft.id:x} acknowledged index {message.commit} in term {raft.term}, "
            f"but its log ends at {raft.log.last_index}: its disk has lost entries"
        )
    raft.commit_to(message.commit)
    raft.send(Message(MessageType.HEARTBEAT_RESP, to=message.from_, context=message.context))


def _on_snapshot(raft: RaftState, message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is None or not 0 < snapshot.term <= message.term or not confchange.is_sound(snapshot.conf_state):
        return
    if not _accept_leader(raft, message):
        return
    if _is_needed(raft, snapshot):
        raft.restore(snapshot)
        _acknowledge(raft, snapshot.index)
    else:
        _acknowledge(raft, raft.commit_index)


def _is_needed(raft: RaftState, snapshot: Snapshot) -> bool:
    """False for a snapshot behind our commit, one whose configuration lacks us, or one that our log already covers."""
    if snapshot.index <= raft.commit_index or raft.id not in confchange.members(snapshot.conf_state):
        return False
    if raft.log.term(snapshot.index) == snapshot.term:  # only its being committed is new
        raft.commit_to(snapshot.index)
        return False
    return True


def _on_timeout_now(raft: RaftState, message: Message) -> None:
    election.campaign_for_transfer(raft)


def _on_request_for_leader(raft: RaftState, message: Message) -> None:
    """Forward a request that was sent to us as leader, in its sender's name.

    It cannot loop: each member that forwards it knows a leader of a later term than the member before.
    """
    if raft.leader_id != NO_MEMBER:
        raft.send(
            Message(message.type, to=raft.leader_id, from_=message.from_, entries=message.entries, context=message.context)
        )


def _on_read_index_response(raft: RaftState, message: Message) -> None:
    if len(message.entries) == 1:
        raft.read_states.append((message.entries[0].data, message.index))


HANDLERS: Final[dict[MessageType, Callable[[RaftState, Message], None]]] = {
    MessageType.APP: _on_append,
    MessageType.HEARTBEAT: _on_heartbeat,
    MessageType.SNAP: _on_snapshot,
    MessageType.TIMEOUT_NOW: _on_timeout_now,
    MessageType.PROP: _on_request_for_leader,
    MessageType.READ_INDEX: _on_request_for_leader,
    MessageType.TRANSFER_LEADER: _on_request_for_leader,
    MessageType.READ_INDEX_RESP: _on_read_index_response,
}
