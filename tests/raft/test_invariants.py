"""Each invariant fails when its rule is broken."""

from __future__ import annotations

import pytest

from tercet.errors import InvariantViolation
from tercet.raft import Entry, Role
from tercet.raft.invariants import View, Witness, check_state, check_step, view
from tests.raft.cluster import Cluster


def cluster() -> Cluster:
    it = Cluster.of(3)
    it.elect(1)
    it.propose(1, b"a")
    it.run()
    return it


@pytest.mark.parametrize(
    ("member", "broken"),
    [
        (2, {"commit_index": 9}),
        (2, {"applied_index": 9}),
        (2, {"term": 0}),
        (2, {"leader_id": 2}),
        (2, {"role": Role.CANDIDATE}),
        (1, {"term": 2}),
        (1, {"leader_transferee": 9}),
        (1, {"role": Role.FOLLOWER}),
    ],
)
def test_an_impossible_state_is_reported(member: int, broken: dict[str, object]) -> None:
    raft = cluster()[member]
    check_state(raft)
    for name, value in broken.items():
        setattr(raft, name, value)
    with pytest.raises(InvariantViolation):
        check_state(raft)


def test_impossible_progress_is_reported() -> None:
    raft = cluster()[1]
    raft.tracker.peers[2].match = 3
    with pytest.raises(InvariantViolation, match="impossible progress"):
        check_state(raft)


LEADER = View(1, 2, 1, 1, Role.LEADER, 5, 2, 4, 6, 1, 6, 2)


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (LEADER._replace(term=1), "term went back"),
        (LEADER._replace(commit_index=4), "commit index went back"),
        (LEADER._replace(applied_index=3), "applied index went back"),
        (LEADER._replace(first_index=0), "first index went back"),
        (LEADER._replace(voted_for=2), "voted twice"),
        (LEADER._replace(last_index=5), "truncated its log"),
        (LEADER._replace(role=Role.CANDIDATE), "became candidate"),
        (LEADER._replace(role=Role.FOLLOWER, leader_id=2), "two leaders"),
        (LEADER._replace(commit_index=6, commit_term=1), "older term"),
    ],
)
def test_an_impossible_step_is_reported(after: View, text: str) -> None:
    check_step(LEADER, LEADER)
    with pytest.raises(InvariantViolation, match=text):
        check_step(LEADER, after)


def test_two_leaders_in_one_term_are_reported() -> None:
    witness, first, second = Witness(), cluster(), Cluster.of(3)
    witness.observe(first[1])
    second.elect(2)
    with pytest.raises(InvariantViolation, match="two"):
        witness.observe(second[2])


def test_two_entries_at_one_index_and_term_are_reported() -> None:
    witness, it = Witness(), cluster()
    witness.observe(it[1])
    it[2].log.truncate(1)
    it[2].log.append([Entry(1, 2, b"b")])
    with pytest.raises(InvariantViolation, match="two entries at one index"):
        witness.observe(it[2])


def test_two_entries_committed_at_one_index_are_reported() -> None:
    witness, it = Witness(), cluster()
    witness.observe(it[1])
    it[2].log.truncate(1)
    it[2].term = 2
    it[2].log.append([Entry(2, 2, b"a")])
    with pytest.raises(InvariantViolation, match="two entries committed"):
        witness.observe(it[2])


def test_a_leader_that_lacks_a_committed_entry_is_reported() -> None:
    witness, it, other = Witness(), cluster(), Cluster.of(3, pre_vote=False)
    witness.observe(it[1])
    other.campaign(2)
    other.network.clear()
    other.elect(2)
    other[2].log.truncate(0)
    other[2].log.append([Entry(2, 1)])
    other[2].commit_index = other[2].applied_index = 0
    other[2].pending_writes.stable_index = 0
    for progress in other[2].tracker.peers.values():
        progress.match, progress.next = 0, 1
    with pytest.raises(InvariantViolation, match="lacks a committed entry"):
        witness.observe(other[2])


def test_view_shows_the_state_of_the_member() -> None:
    raft = cluster()[1]
    assert view(raft) == View(1, 1, 1, 1, Role.LEADER, 2, 1, 2, 2, 1, 2, 1)
