"""What does the leader do with proposals, changes of configuration, transfers, and its own doubts?

It begins with an empty entry: until one of its own term is committed it cannot know what else is (paper §8). It takes one
change of configuration at a time, counted from the moment its entry is appended until that is applied. Sending and counting are
in replication.py, reads in read_index.py.
Source: paper §5.2, §6; thesis §3.10, §4, §6.2; etcd raft.go (stepLeader, switchToConfig).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tercet.raft import confchange, follower, read_index, replication
from tercet.raft.codec import MalformedMessage, conf_change_in, encode_conf_change
from tercet.raft.entry_batch import make_entries
from tercet.raft.types import (
    NO_MEMBER,
    ConfChange,
    ConfChangeV2,
    Entry,
    EntryType,
    Message,
    MessageType,
    Role,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tercet.raft.raft import Raft


def become(raft: Raft) -> None:
    """A quorum has voted for us."""
    raft.reset(raft.term)
    raft.leader_id = raft.id
    raft.role = Role.LEADER
    raft.handlers = HANDLERS
    own = raft.tracker.peers.get(raft.id)
    if own is not None:
        own.recent_active = True
        own.match = raft.stable_index
        own.become_replicate()
    # There may be a change of configuration in the log that we do not know of; if not, waiting costs little.
    raft.pending_conf_index = raft.log.last_index
    _append(raft, make_entries(raft.term, raft.log.last_index + 1, [b""]))


def tick(raft: Raft) -> None:
    raft.heartbeat_elapsed += 1
    raft.election_elapsed += 1
    if raft.election_elapsed >= raft.config.election_ticks:
        raft.election_elapsed = 0
        if raft.config.check_quorum and not raft.tracker.quorum_active(raft.id):
            # Cut off from the others, who may have a leader by now: no client should go on waiting for us (thesis §6.2).
            follower.become(raft, raft.term, NO_MEMBER)
            return
        raft.leader_transferee = NO_MEMBER  # it had its time
    if raft.heartbeat_elapsed >= raft.config.heartbeat_ticks:
        raft.heartbeat_elapsed = 0
        raft.heartbeat_due = True


def propose(raft: Raft, proposals: Sequence[bytes]) -> bool:
    if not _accepts_proposals(raft):
        return False
    _append(raft, make_entries(raft.term, raft.log.last_index + 1, proposals))
    return True


def propose_conf_change(raft: Raft, kind: EntryType, change: ConfChange | ConfChangeV2) -> bool:
    if not _accepts_proposals(raft) or not _is_possible(raft, change):
        return False
    index = raft.log.last_index + 1
    raft.pending_conf_index = index
    _append(raft, [Entry(raft.term, index, encode_conf_change(change), kind)])
    return True


def on_read_request(raft: Raft, member: int, context: bytes) -> None:
    read_index.start(raft, member, context)


def transfer_leadership(raft: Raft, target: int) -> None:
    """Stop taking proposals, bring `target` up to date, then tell it to stand at once (thesis §3.10)."""
    progress = raft.tracker.peers.get(target)
    if progress is None or progress.is_learner or target == raft.leader_transferee:
        return
    raft.leader_transferee = NO_MEMBER
    if target == raft.id:
        return
    raft.election_elapsed = 0  # it has one election timeout
    raft.leader_transferee = target
    if progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=target))
    else:
        replication.request_append(raft, progress)


def on_configuration_changed(raft: Raft) -> None:
    """Fewer voters may make a quorum of what is already stored and echoed; new members get their first probe."""
    if not replication.advance_commit(raft):
        raft.appends_due = True
    read_index.answer_confirmed(raft)
    if not raft.tracker.is_voter(raft.leader_transferee):
        raft.leader_transferee = NO_MEMBER


def on_applied(raft: Raft) -> None:
    """Leave a joint configuration that asks for it, once it has come into force."""
    if raft.conf_state.auto_leave and raft.applied_index >= raft.pending_conf_index:
        propose_conf_change(raft, EntryType.CONF_CHANGE_V2, ConfChangeV2())


def _accepts_proposals(raft: Raft) -> bool:
    """Not once we are removed, nor while another one is about to lead."""
    return raft.id in raft.tracker.peers and raft.leader_transferee == NO_MEMBER


def _is_possible(raft: Raft, change: ConfChange | ConfChangeV2) -> bool:
    if raft.pending_conf_index > raft.applied_index:
        return False
    try:
        confchange.changed(raft.conf_state, change)
    except confchange.ConfChangeRefused:
        return False
    return True


def _append(raft: Raft, entries: Sequence[Entry]) -> None:
    raft.log.append(entries)
    raft.appends_due = True


def _on_proposal(raft: Raft, message: Message) -> None:
    """Proposals that another member has forwarded."""
    proposed = message.entries
    if not proposed or not _accepts_proposals(raft):
        return
    index = raft.log.last_index + 1
    raft.commit_news.awaited_index = raft.log.last_index + len(proposed)
    if not any(entry.type for entry in proposed):
        _append(raft, make_entries(raft.term, index, [entry.data for entry in proposed]))
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
            entries.append(Entry(raft.term, position))  # as etcd does it: the entry stays, its effect goes
    _append(raft, entries)


def _on_read_index(raft: Raft, message: Message) -> None:
    if len(message.entries) == 1:
        read_index.start(raft, message.from_, message.entries[0].data)


def _on_transfer_leader(raft: Raft, message: Message) -> None:
    transfer_leadership(raft, message.from_)


HANDLERS: Final[dict[MessageType, Callable[[Raft, Message], None]]] = {
    MessageType.PROP: _on_proposal,
    MessageType.APP_RESP: replication.on_append_response,
    MessageType.HEARTBEAT_RESP: replication.on_heartbeat_response,
    MessageType.READ_INDEX: _on_read_index,
    MessageType.TRANSFER_LEADER: _on_transfer_leader,
}
