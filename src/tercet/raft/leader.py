"""The leader: proposals, configuration changes, leadership transfer, check-quorum.

One configuration change at a time: none is accepted from the append of its entry until that entry is applied. Sending and
counting are in replication.py, reads in read_index.py.
Source: paper §5.2, §6; thesis §3.10, §4, §6.2; etcd raft.go (stepLeader, switchToConfig).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tercet.raft import confchange, read_index, replication
from tercet.raft.codec import MalformedMessage, conf_change_in, encode_conf_change
from tercet.raft.entry_batch import make_entries
from tercet.raft.state import RaftState
from tercet.raft.types import NO_MEMBER, ConfChange, ConfChangeV2, Entry, EntryType, Message, MessageType


def tick(raft: RaftState) -> None:
    """Advance the timers: a heartbeat when it is due, and once an election timeout the quorum check."""
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum and not raft.tracker.quorum_active(raft.id):
            # Partitioned from a quorum, which may have elected another leader: clients must not wait for us (thesis §6.2).
            raft.become_follower(raft.term, NO_MEMBER)
            return
        raft.leader_transferee = NO_MEMBER  # the transfer has timed out
    if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        raft.heartbeat_due = True


def propose(raft: RaftState, proposals: Sequence[bytes]) -> bool:
    """Append `proposals` as one batch. False: removed from the cluster, or transferring leadership."""
    if not _accepts_proposals(raft):
        return False
    raft.append(make_entries(raft.term, raft.log.last_index + 1, proposals))
    return True


def propose_conf_change(raft: RaftState, kind: EntryType, change: ConfChange | ConfChangeV2) -> bool:
    """Append `change`. False as for `propose`, while another change is pending, or if it does not fit the configuration."""
    if not _accepts_proposals(raft) or not _is_possible(raft, change):
        return False
    index = raft.log.last_index + 1
    raft.pending_conf_index = index
    raft.append([Entry(raft.term, index, encode_conf_change(change), kind)])
    return True


def on_read_request(raft: RaftState, member: int, context: bytes) -> None:
    read_index.start(raft, member, context)


def transfer_leadership(raft: RaftState, target: int) -> None:
    """Stop accepting proposals, bring `target` up to date, then send it MsgTimeoutNow (thesis §3.10)."""
    progress = raft.tracker.peers.get(target)
    if progress is None or progress.is_learner or target == raft.leader_transferee:
        return
    raft.leader_transferee = NO_MEMBER
    if target == raft.id:
        return
    raft.election_elapsed = 0  # the transfer has one election timeout
    raft.leader_transferee = target
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=target))
    else:
        replication.request_append(raft, progress)


def on_configuration_changed(raft: RaftState) -> None:
    """Re-evaluate commits and reads, since the new quorum may be smaller; new members get their first probe."""
    if not replication.advance_commit(raft):
        raft.appends_due = True
    read_index.answer_confirmed(raft)
    if not raft.tracker.is_voter(raft.leader_transferee):
        raft.leader_transferee = NO_MEMBER


def on_applied(raft: RaftState) -> None:
    """Leave a joint configuration with `auto_leave` once it is applied."""
    if raft.conf_state.auto_leave and raft.applied_index >= raft.pending_conf_index:
        propose_conf_change(raft, EntryType.CONF_CHANGE_V2, ConfChangeV2())


def _accepts_proposals(raft: RaftState) -> bool:
    """False once we are removed from the configuration, and during a leadership transfer."""
    return raft.id in raft.tracker.peers and raft.leader_transferee == NO_MEMBER


def _is_possible(raft: RaftState, change: ConfChange | ConfChangeV2) -> bool:
    if raft.pending_conf_index > raft.applied_index:
        return False
    try:
        confchange.changed(raft.conf_state, change)
    except confchange.ConfChangeRefused:
        return False
    return True


def _on_proposal(raft: RaftState, message: Message) -> None:
    """Append proposals that another member has forwarded."""
    proposed = message.entries
    if not proposed or not _accepts_proposals(raft):
        return
    index = raft.log.last_index + 1
    raft.commit_broadcast.awaited_index = raft.log.last_index + len(proposed)
    if not any(entry.type for entry in proposed):
        raft.append(make_entries(raft.term, index, [entry.data for entry in proposed]))
        return
    try:
        changes = [conf_change_in(entry) if entry.type else None for entry in proposed]
    except MalformedMessage:
        return
    entries: list[Entry] = []
    for position, (entry, change) in enumerate(zip(proposed, changes, strict=True), index):
        if change is None:
            entries.append(Entry(raft.term, position, entry.data))
        elif _is_possible(raft, change):
            raft.pending_conf_index = position
            entries.append(Entry(raft.term, position, entry.data, entry.type))
        else:
            entries.append(Entry(raft.term, position))  # as in etcd: an empty entry takes the place of a refused change
    raft.append(entries)


def _on_read_index(raft: RaftState, message: Message) -> None:
    if len(message.entries) == 1:
        read_index.start(raft, message.from_, message.entries[0].data)


def _on_snapshot_request(raft: RaftState, message: Message) -> None:
    if message.from_ in raft.tracker.peers:
        raft.snapshot_requested(message.from_)


def _on_transfer_leader(raft: RaftState, message: Message) -> None:
    transfer_leadership(raft, message.from_)


HANDLERS: Final[dict[MessageType, Callable[[RaftState, Message], None]]] = {
    MessageType.PROP: _on_proposal,
    MessageType.SNAP_STATUS: _on_snapshot_request,
    MessageType.APP_RESP: replication.on_append_response,
    MessageType.HEARTBEAT_RESP: replication.on_heartbeat_response,
    MessageType.READ_INDEX: _on_read_index,
    MessageType.TRANSFER_LEADER: _on_transfer_leader,
}
