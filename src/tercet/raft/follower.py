"""What does a member do that leads nothing? It stores what its leader sends, and passes requests on to it.

The acknowledgements sent here wait in promises.py until what they speak of is on disk.
Source: paper §5.3, §7; etcd raft.go (stepFollower, handleAppendEntries, handleHeartbeat, handleSnapshot).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tercet.errors import StorageFailure
from tercet.raft import confchange, election
from tercet.raft.types import NO_MEMBER, Entry, Message, MessageType, Role, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tercet.raft.raft import Raft


def become(raft: Raft, term: int, leader: int) -> None:
    """Follow `leader` (0: nobody known yet) in `term`."""
    raft.reset(term)
    raft.leader_id = leader
    raft.role = Role.FOLLOWER
    raft.handlers = HANDLERS


def forward_proposals(raft: Raft, entries: list[Entry]) -> bool:
    """Send our own proposals to the leader; it gives them their term and index. False: nobody is known to lead."""
    if raft.leader_id == NO_MEMBER:
        return False
    raft.send(Message(MessageType.PROP, to=raft.leader_id, entries=entries))
    return True


def forward_read(raft: Raft, context: bytes) -> bool:
    if raft.leader_id == NO_MEMBER:
        return False
    raft.send(Message(MessageType.READ_INDEX, to=raft.leader_id, entries=[Entry(0, 0, context)]))
    return True


def _on_append(raft: Raft, message: Message) -> None:
    entries = message.entries
    if not _is_well_formed(entries, message) or not _follow_sender(raft, message):
        return
    log = raft.log
    if message.index < raft.commit_index:
        _acknowledge(raft, raft.commit_index)
    elif log.term(message.index) != message.log_term:
        _reject(raft, message)
    else:
        if entries:
            _store(raft, entries)
        # Not beyond what this message has proven to agree with the leader's log: ours may go on with something else.
        last_new = message.index + len(entries)
        raft.commit_to(min(message.commit, last_new))
        _acknowledge(raft, last_new)


def _is_well_formed(entries: Sequence[Entry], message: Message) -> bool:
    """Do the entries follow the position they are said to follow, in terms that the sender can have seen?"""
    index, term = message.index, message.log_term
    for entry in entries:
        index += 1
        if entry.index != index or entry.term < term:
            return False
        term = entry.term
    return term <= message.term


def _follow_sender(raft: Raft, message: Message) -> bool:
    """Take the sender for our leader. A second one in the same term cannot be: whatever it says, it is not for us."""
    if raft.leader_id != message.from_:
        if raft.leader_id != NO_MEMBER:
            return False
        raft.leader_id = message.from_
    raft.election_elapsed = 0
    return True


def _store(raft: Raft, entries: Sequence[Entry]) -> None:
    """Keep what agrees, replace from the first conflict on, leave what lies behind if there is none (paper §5.3)."""
    log = raft.log
    if entries[0].index <= log.last_index:
        conflict = log.first_conflict(entries)
        entries = entries[conflict - entries[0].index :]
        if entries and conflict <= log.last_index:
            raft.truncate_log(conflict - 1)
    if entries:
        log.append(entries)


def _acknowledge(raft: Raft, index: int) -> None:
    raft.send(Message(MessageType.APP_RESP, to=raft.leader_id, index=index))


def _reject(raft: Raft, message: Message) -> None:
    """Say where we may agree: our last position that is not newer than the term the leader has there."""
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


def _on_heartbeat(raft: Raft, message: Message) -> None:
    """The leader lives; the context goes back unchanged, a quorum of echoes confirms its reads."""
    if not _follow_sender(raft, message):
        return
    if message.commit > raft.log.last_index:
        # A leader sends at most what we acknowledged to it, and we acknowledge only what is on disk.
        raise StorageFailure(
            f"member {raft.id:x} acknowledged index {message.commit} in term {raft.term}, "
            f"but its log ends at {raft.log.last_index}: its disk has lost entries"
        )
    raft.commit_to(message.commit)
    raft.send(Message(MessageType.HEARTBEAT_RESP, to=message.from_, context=message.context))


def _on_snapshot(raft: Raft, message: Message) -> None:
    snapshot = message.snapshot
    if snapshot is None or not 0 < snapshot.term <= message.term or not confchange.is_sound(snapshot.conf_state):
        return
    if not _follow_sender(raft, message):
        return
    if _is_wanted(raft, snapshot):
        raft.restore(snapshot)
        _acknowledge(raft, snapshot.index)
    else:
        _acknowledge(raft, raft.commit_index)


def _is_wanted(raft: Raft, snapshot: Snapshot) -> bool:
    """Not what we have already, nor a configuration that does not know us."""
    if snapshot.index <= raft.commit_index or raft.id not in confchange.members(snapshot.conf_state):
        return False
    if raft.log.term(snapshot.index) == snapshot.term:  # the log holds it: all there is to learn is that it is committed
        raft.commit_to(snapshot.index)
        return False
    return True


def _on_timeout_now(raft: Raft, message: Message) -> None:
    election.campaign_now(raft)


def _on_request_for_leader(raft: Raft, message: Message) -> None:
    """Somebody takes us for the leader: pass it on, in the sender's name.

    It cannot go in circles: each member that passes it on knows of a leader in a later term than the one before it.
    """
    if raft.leader_id != NO_MEMBER:
        raft.send(
            Message(message.type, to=raft.leader_id, from_=message.from_, entries=message.entries, context=message.context)
        )


def _on_read_index_response(raft: Raft, message: Message) -> None:
    if len(message.entries) == 1:
        raft.read_states.append((message.entries[0].data, message.index))


HANDLERS: Final[dict[MessageType, Callable[[Raft, Message], None]]] = {
    MessageType.APP: _on_append,
    MessageType.HEARTBEAT: _on_heartbeat,
    MessageType.SNAP: _on_snapshot,
    MessageType.TIMEOUT_NOW: _on_timeout_now,
    MessageType.PROP: _on_request_for_leader,
    MessageType.READ_INDEX: _on_request_for_leader,
    MessageType.TRANSFER_LEADER: _on_request_for_leader,
    MessageType.READ_INDEX_RESP: _on_read_index_response,
}
