"""How do the leader's entries reach everyone, and when are they committed?

Whatever makes an append due (proposals, an answer, a commit) only notes it; `send_due`, once a turn, sends each follower what
it may have by then. So all proposals of a turn travel in one message, and a commit rides on the next entries if there are any.
A turn with 30 proposals and two acknowledgements costs one message a follower, not three.

Committed is what a quorum holds on disk, the leader's own disk among equals, and only if it is of the leader's own term: an
older entry may sit on a majority and still be replaced (paper §5.4.2, figure 8). With it everything before it is committed.
Source: paper §5.3, §5.4; thesis §10.2.1; etcd raft.go (maybeSendAppend, stepLeader).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.errors import require
from tercet.raft import read_index
from tercet.raft.progress import Progress, ProgressState
from tercet.raft.types import Message, MessageType

if TYPE_CHECKING:
    from tercet.raft.raft import Raft


def send_due(raft: Raft) -> None:
    """Send what this turn has made due."""
    if raft.heartbeat_due:
        raft.heartbeat_due = False
        _send_heartbeats(raft)
    if raft.appends_due:
        raft.appends_due = False
        broadcast_commit = raft.commit_news.take()
        for member, progress in raft.tracker.peers.items():
            if member != raft.id:
                _send_appends(raft, member, progress, broadcast_commit=broadcast_commit)


def request_append(raft: Raft, progress: Progress) -> None:
    """Let an append to this follower be due, even an empty one: its answer is what we want."""
    progress.force_append = True
    raft.appends_due = True


def broadcast_commit(raft: Raft, index: int) -> None:
    """Let appends be due, even empty ones, to followers that have yet to hear of a commit at `index`."""
    waiting = [peer for member, peer in raft.tracker.peers.items() if member != raft.id and not peer.is_paused]
    if any(peer.can_raise_commit(index) for peer in waiting):
        raft.commit_news.is_due = raft.appends_due = True
    elif not any(peer.can_raise_commit(raft.commit_index) for peer in waiting):
        raft.commit_news.has_unsent_commit = False


def on_own_disk(raft: Raft) -> None:
    """Our own disk holds more: it counts like any other voter's."""
    progress = raft.tracker.peers.get(raft.id)
    if progress is not None and progress.acknowledge(raft.stable_index):
        advance_commit(raft)


def advance_commit(raft: Raft) -> bool:
    """Commit what a quorum holds, if there is something new of our own term."""
    index = raft.tracker.committed_index()
    if index <= raft.commit_index or raft.log.term(index) != raft.term:
        return False
    raft.commit_news.committed(raft.commit_index, pending_conf_index=raft.pending_conf_index)
    raft.commit_to(index)
    raft.appends_due = True
    read_index.on_commit(raft)
    return True


def on_append_response(raft: Raft, message: Message) -> None:
    progress = raft.tracker.peers[message.from_]
    progress.recent_active = True
    if message.reject:
        _back_off(raft, progress, message)
    elif message.index <= raft.log.last_index:
        _acknowledge(raft, progress, message)


def on_heartbeat_response(raft: Raft, message: Message) -> None:
    """A sign of life: if the follower lacks something, what was sent to it may be lost, so ask for an answer."""
    progress = raft.tracker.peers[message.from_]
    progress.recent_active = True
    progress.paused = False
    if progress.match < raft.log.last_index or progress.state is ProgressState.PROBE:
        request_append(raft, progress)
    read_index.on_echo(raft, message.from_, message.context)


def on_unreachable(raft: Raft, member: int) -> None:
    """Entries that were sent ahead are probably lost: find out from where to send again."""
    progress = raft.tracker.peers.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


def on_snapshot_report(raft: Raft, member: int, ok: bool) -> None:
    """The transport has delivered a snapshot, or not. Either way the follower speaks next: it installs, or we wait a
    heartbeat.
    """
    progress = raft.tracker.peers.get(member)
    if progress is not None and progress.state is ProgressState.SNAPSHOT:
        if not ok:
            progress.pending_snapshot = 0
        progress.become_probe()
        progress.paused = True


def _send_heartbeats(raft: Raft) -> None:
    context = raft.read_only.heartbeat_context(raft.id)
    for member, progress in raft.tracker.peers.items():
        if member != raft.id:
            # Never a commit beyond what this follower is known to hold: its log may go on with another leader's entries.
            commit = min(progress.match, raft.commit_index)
            raft.send(Message(MessageType.HEARTBEAT, to=member, commit=commit, context=context))


def _send_appends(raft: Raft, member: int, progress: Progress, *, broadcast_commit: bool) -> None:
    force, progress.force_append = progress.force_append, False
    force = force or (broadcast_commit and progress.can_raise_commit(raft.commit_index))
    while _send_append(raft, member, progress, force=force):
        force = False


def _send_append(raft: Raft, member: int, progress: Progress, *, force: bool) -> bool:
    """Send one append if it brings entries, or is asked for. True: there is more."""
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


def _send_snapshot(raft: Raft, member: int, progress: Progress) -> None:
    """The follower needs what is compacted. One that does not answer would not take a snapshot either."""
    if not progress.recent_active:
        return
    snapshot = raft.snapshot_source()
    if snapshot is None:
        return  # not ready: its next heartbeat's answer asks again
    require(0 < snapshot.index <= raft.commit_index, "a snapshot of what is not committed", snapshot.index)
    progress.become_snapshot(snapshot.index)
    raft.send(Message(MessageType.SNAP, to=member, snapshot=snapshot))


def _back_off(raft: Raft, progress: Progress, message: Message) -> None:
    """The follower's log differs: try where it may agree. With its term there we skip all of ours that cannot match."""
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.last_position_up_to(index=hint, term=message.log_term)
    if progress.back_off(rejected=message.index, hint=hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        request_append(raft, progress)


def _acknowledge(raft: Raft, progress: Progress, message: Message) -> None:
    """The follower agrees with our log up to an index, on its disk."""
    index = message.index
    is_news = progress.acknowledge(index)
    if not is_news and not (progress.state is ProgressState.PROBE and progress.match == index):
        return
    if progress.state is ProgressState.REPLICATE:
        progress.free_inflight(index)
    elif progress.state is ProgressState.PROBE or progress.match + 1 >= raft.log.first_index:
        progress.become_replicate()
    elif progress.match >= progress.pending_snapshot:
        progress.become_probe()  # it has the snapshot, but our log begins even later by now: it needs another one
    raft.appends_due = True
    advance_commit(raft)
    if message.from_ == raft.leader_transferee and progress.match == raft.log.last_index:
        raft.send(Message(MessageType.TIMEOUT_NOW, to=message.from_))
