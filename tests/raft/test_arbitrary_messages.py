"""Arbitrary messages from peers: none breaks an invariant, and only proof that its own disk lost entries stops a member."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import StorageFailure
from tercet.raft import ConfState, Entry, Message, MessageType, Raft, RawNode, Snapshot
from tercet.raft.invariants import check_state, check_step, view
from tests.raft.cluster import Cluster
from tests.support.properties import examples

NUMBER = st.one_of(st.integers(0, 8), st.sampled_from([2**62, 2**63, 2**64 - 1]))
IDS = st.lists(st.integers(0, 5), max_size=3).map(tuple)
ENTRY = st.builds(Entry, st.integers(0, 8), st.integers(0, 12), st.binary(max_size=3), st.integers(0, 3))
SNAPSHOT = st.builds(Snapshot, NUMBER, NUMBER, st.builds(ConfState, IDS, IDS, IDS, IDS, st.booleans()))
MESSAGE = st.builds(
    Message,
    st.sampled_from(list(MessageType)),
    to=st.sampled_from([1, 1, 1, 2]),
    from_=st.integers(0, 5),
    term=NUMBER,
    log_term=NUMBER,
    index=NUMBER,
    entries=st.lists(ENTRY, max_size=3),
    commit=NUMBER,
    snapshot=st.none() | SNAPSHOT,
    reject=st.booleans(),
    reject_hint=NUMBER,
    context=st.sampled_from([b"", b"CampaignTransfer", bytes(8), (1).to_bytes(8, "little"), b"x"]),
)


def leader() -> Raft:
    cluster = Cluster.of(3)
    cluster.elect(1)
    cluster.propose(1, b"a", b"b")
    cluster.run()
    cluster[1].read_index(b"read")
    return cluster[1]


def follower() -> Raft:
    cluster = Cluster.of(3)
    cluster.elect(2)
    cluster.propose(2, b"a", b"b")
    cluster.run()
    return cluster[1]


def candidate() -> Raft:
    cluster = Cluster.of(3, pre_vote=False)
    cluster.campaign(1)
    return cluster[1]


def pre_candidate() -> Raft:
    cluster = Cluster.of(3)
    cluster.campaign(1)
    return cluster[1]


def joining() -> Raft:
    cluster = Cluster()
    cluster.add(1)
    return cluster[1]


@pytest.mark.parametrize("start", [leader, follower, candidate, pre_candidate, joining])
@examples(70)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=8))
def test_no_message_breaks_an_invariant(start: object, messages: list[Message]) -> None:
    assert callable(start)
    raft = start()
    node = RawNode(raft)
    for message in messages:
        before = view(raft)
        try:
            raft.step(message)
        except StorageFailure:
            assert message.type is MessageType.HEARTBEAT
            assert message.commit > raft.log.last_index
            return
        while node.has_ready():
            ready = node.take_ready()
            node.persisted(ready.number)
        check_state(raft)
        check_step(before, view(raft))


def test_waiting_reads_are_bounded() -> None:
    raft = leader()
    for number in range(70_000):
        raft.step(Message(MessageType.READ_INDEX, to=1, from_=2, entries=[Entry(0, 0, b"%d" % number)]))
    assert len(raft.read_only) == 1 << 16
