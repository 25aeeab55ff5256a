"""The smallest case of rules that matter only in rare interleavings: bugs planted here passed every other test."""

from __future__ import annotations

from random import Random

import pytest

from tercet.raft import (
    ConfChange,
    ConfChangeType,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Raft,
    RaftConfig,
    RaftLog,
    RawNode,
    Snapshot,
)
from tercet.raft.codec import encode_conf_change
from tests.raft.cluster import Cluster

THREE = ConfState(voters=(1, 2, 3))
ADD_4 = ConfChange(ConfChangeType.ADD_NODE, 4)


def node(*entries: Entry, term: int, vote: int = 0, commit: int = 0) -> RawNode:
    """Member 1 of three, restarted with this log."""
    hard_state = HardState(term, vote, commit)
    return RawNode(Raft(RaftConfig(1, random=Random(1)), RaftLog(0, 0, entries), hard_state=hard_state, conf_state=THREE))


def finish(it: RawNode) -> list[Entry]:
    """Let the disk write everything. Returns the committed entries."""
    committed: list[Entry] = []
    while it.has_ready():
        ready = it.take_ready()
        committed += ready.committed
        it.persisted(ready.number)
    return committed


def lead(it: RawNode) -> None:
    """Win the next term with the vote of member 2."""
    it.raft.become_candidate()
    finish(it)
    it.raft.step(Message(MessageType.VOTE_RESP, to=1, from_=2, term=it.raft.term))
    assert it.raft.is_leader
    finish(it)


def test_a_vote_in_the_current_term_is_synced_before_it_is_sent() -> None:
    """Only `vote` changes; lost in a power cut, it could be given to another candidate of the same term."""
    it = node(term=3)
    it.raft.step(Message(MessageType.VOTE, to=1, from_=2, term=3))
    ready = it.take_ready()
    assert (ready.hard_state, ready.must_sync, ready.messages) == (HardState(3, 2, 0), True, [])
    it.persisted(ready.number)
    assert [message.type for message in it.take_messages()] == [MessageType.VOTE_RESP]


def test_a_new_leader_accepts_no_change_before_it_has_applied_its_log() -> None:
    """The log may hold a change of an earlier leader, which is not in the configuration yet."""
    change = Entry(1, 2, encode_conf_change(ADD_4), EntryType.CONF_CHANGE)
    it = node(Entry(1, 1), change, term=1, commit=1)
    lead(it)
    assert not it.raft.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 2))
    it.raft.step(Message(MessageType.APP_RESP, to=1, from_=2, term=2, index=3))
    finish(it)
    assert it.raft.commit_index == 3
    it.raft.apply_conf_change(ADD_4)
    it.raft.applied_to(3)
    assert it.raft.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 2))


def test_a_new_leader_does_not_count_what_followers_acknowledged_before() -> None:
    """They may have truncated it since, so only acknowledgements of this term count."""
    it = node(Entry(1, 1), Entry(1, 2), term=1)
    lead(it)
    for follower in (2, 3):
        it.raft.step(Message(MessageType.APP_RESP, to=1, from_=follower, term=2, index=3))
    assert it.raft.commit_index == 3
    it.raft.step(Message(MessageType.HEARTBEAT, to=1, from_=2, term=3))
    lead(it)
    assert [(peer.match, peer.next) for member, peer in it.raft.tracker.peers.items() if member != 1] == [(0, 4), (0, 4)]


@pytest.mark.parametrize(("index", "commit"), [(2, 4), (3, 4), (4, 4), (5, 5)])
def test_a_snapshot_that_the_log_reaches_beyond_is_not_installed(index: int, commit: int) -> None:
    """It would remove committed or acknowledged entries. A snapshot above the commit index only raises that index."""
    log = RaftLog(3, 1, [Entry(1, 4), Entry(1, 5), Entry(1, 6)])
    config = RaftConfig(1, random=Random(1))
    it = RawNode(Raft(config, log, hard_state=HardState(1, 0, 4), conf_state=THREE, applied=4))
    it.raft.step(Message(MessageType.SNAP, to=1, from_=2, term=1, snapshot=Snapshot(index, 1, THREE)))
    ready = it.take_ready()
    assert (ready.snapshot, log.first_index, log.last_index, it.raft.commit_index) == (None, 4, 6, commit)
    acks = [message.index for message in ready.messages + it.take_messages() if message.type is MessageType.APP_RESP]
    assert acks == [commit]


def test_reads_do_not_outlive_the_leadership_that_began_them() -> None:
    """Another leader may have committed more before the read began, so the old read index would be stale."""
    cluster = Cluster.of(3)
    cluster.elect(1)
    raft = cluster[1]
    raft.read_index(b"old")
    raft.postponed_reads.append((2, b"postponed"))
    (heartbeat, _) = (m for m in cluster.members[1].node.take_ready().messages if m.type is MessageType.HEARTBEAT)
    raft.become_follower(raft.term + 1, 2)
    assert (len(raft.read_only), raft.postponed_reads) == (0, [])
    raft.become_candidate()
    raft.become_leader()
    echo = Message(MessageType.HEARTBEAT_RESP, to=1, from_=2, term=raft.term, context=heartbeat.context)
    raft.step(echo)
    assert raft.read_states == []
