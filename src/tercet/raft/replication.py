"""Replication: sending the log to followers, and advancing the commit index.

Proposals, acknowledgements and commits only mark appends as due; `send_due` sends them once a turn. All proposals of a turn
then share one message per follower, and a commit index is carried by the entries sent with it: a turn with 30 proposals and two
acknowledgements costs one message per follower, not three.

An index is committed once a quorum has it on disk, the leader's own disk counting like any other, and only if it is of the
leader's term: an older entry on a majority may still be replaced (paper §5.4.2, figure 8). Entries before it commit with it.
Source: paper §5.3, §5.4; thesis §10.2.1; etcd raft.go (maybeSendAppend, stepLeader).
"""

from __future__ import annotations

from tercet.errors import require
from tercet.raft import read_index
from tercet.raft.progress import Progress, ProgressState
from tercet.raft.state import RaftState
from tercet.raft.types import Message, MessageType


def send_due(raft: RaftState) -> None:
    """Send the heartbeats and appends that this turn has made due."""
    if raft.heartbeat_due:
        raft.heartbeat_due = False
        _send_heartbeats(raft)
    if raft.appends_due:
        raft.appends_due = False
        may_send_commit = raft.commit_broadcast.take()
        for member, progress in raft.tracker.peers.items():
            if member != raft.id:
                _send_appends(raft, member, progress, may_send_commit=may_send_commit)


def request_append(raft: RaftState, progress: Progress) -> None:
    """Make an append to this follower due, even an empty one, for the sake of its response."""
    progress.force_append = True
    raft.appends_due = True


def on_own_disk(raft: RaftState) -> None:
    """More of the log is durable here: count it like any voter's acknowledgement."""
    progress = raft.tracker.peers.get(raft.id)
    if progress is not None and progress.acknowledge(raft.stable_index):
        advance_commit(raft)


def advance_commit(raft: RaftState) -> bool:
    """Advance the commit index to what a quorum has stored, if that entry is of our own term. True if it advanced."""
    index = raft.tracker.committed_index()
    if index <= raft.commit_index or raft.log.term(index) != raft.term:
        return False
    raft.commit_broadcast.committed(raft.commit_index, pending_conf_index=raft.pending_conf_index)
    raft.commit_to(index)
    raft.appends_due = True
    read_index.on_commit(raft)
    return True


def on_append_response(raft: RaftState, message: Message) -> None:
    progress = raft.tracker.peers[message.from_]
    progress.recent_active = True
    if message.reject:
        _back_off(raft, progress, message)
    elif message.index <= raft.log.last_index:
        _acknowledge(raft, progress, message)


def on_heartbeat_response(raft: RaftState, message: Message) -> None:
    """The follower is alive: if it lacks entries, appends to it may have been lost, so probe with another one."""
    progress = raft.tracker.peers[message.from_]
    progress.recent_active = True
    progress.paused = False
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        request_append(raft, progress)
    read_index.on_heartbeat_echo(raft, message.from_, message.context)


def on_unreachable(raft: RaftState, member: int) -> None:
    """Entries sent ahead are probably lost: probe for where to resume."""
    progress = raft.tracker.peers.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def on_snapshot_report(raft: RaftState, member: int, ok: bool) -> None:
    """Leave the SNAPSHOT state; the next append waits for the follower's response, or for a heartbeat response."""
    progress = raft.tracker.peers.get(member)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        if not ok:
            progress.pending_snapshot = 0
        progress.become_probe()
        progress.paused = True


def _send_heartbeats(raft: RaftState) -> None:
    context = raft.read_only.heartbeat_context(raft.id)
    for member, progress in raft.tracker.peers.items():
        if member != raft.id:
            # Not beyond what this follower has acknowledged: its log may continue with another leader's entries.
            commit = min(progress.match, raft.commit_index)
            raft.send(Message(MessageType.HEARTBEAT, to=member, commit=commit, context=context))


def _send_appends(raft: RaftState, member: int, progress: Progress, *, may_send_commit: bool) -> None:
    force, progress.force_append = progress.force_append, False
    force = force or (may_send_commit and progress.can_raise_commit(raft.commit_index))
    while _send_append(raft, member, progress, force=force):
        force = False


def _send_append(raft: RaftState, member: int, progress: Progress, *, force: bool) -> bool:
    """Send one append if there are entries to send, or if forced. True: more entries remain."""
    if progress.is_paused:
        return False
    log = raft.log
    last_index, commit = log.last_index, raft.commit_index
    has_entries = progress.next <= last_index and not (progress.state is ProgressState.REPLICATE and progress.is_full)
    if not (has_entries or force):
        return False
    before = progress.next - 1
    before_term = log.term(before)
    if before_term is None:
        _send_snapshot(raft, member, progress)
        return False
    entries = log.entries(progress.next, last_index + 1, raft.config.max_message_bytes) if has_entries else []
    raft.send(Message(MessageType.APP, to=member, log_term=before_term, index=before, entries=entries, commit=commit))
    progress.sent(len(entries))
    progress.sent_commit = commit
    return has_entries and progress.next <= last_index


def _send_snapshot(raft: RaftState, member: int, progress: Progress) -> None:
    """The follower needs compacted entries. Do not open a snapshot for one that does not respond."""
    if not progress.recent_active:
        return
    snapshot = raft.snapshot_source()
    if snapshot is None:
        return  # not ready: the follower's next heartbeat response tries again
    require(0 < snapshot.index <= raft.commit_index, "a snapshot of an uncommitted index", snapshot.index)
    progress.become_snapshot(snapshot.index)
    raft.send(Message(MessageType.SNAP, to=member, snapshot=snapshot))


def _back_off(raft: RaftState, progress: Progress, message: Message) -> None:
    """The follower's log differs: retry where it may match. The term in its hint skips all our entries of later terms."""
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.last_position_up_to(index=hint, term=message.log_term)
    if progress.back_off(rejected=message.index, hint=hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        request_append(raft, progress)


def _acknowledge(raft: RaftState, progress: Progress, message: Message) -> None:
    """The follower's disk matches our log up to `message.index`."""
    index = message.index
    has_advanced = progress.acknowledge(index)
    if not has_advanced and not (progress.state is ProgressState.PROBE and progress.match == index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.free_inflight(index)
    elif progress.state is ProgressState.PROBE or progress.match + 1 >= raft.log.first_index:
        progress.become_replicate()
    elif progress.match >= progress.pending_snapshot:
        progress.become_probe()  # it installed the snapshot, but our log has been compacted past it: send another
    if progress.next <= raft.log.last_index or not raft.commit_broadcast.deferred:
        raft.appends_due = True  # else there is nothing to send: the later acknowledgements of a lone put need no Ready
    advance_commit(raft)
    if message.from_ == raft.leader_transferee and progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=message.from_))
