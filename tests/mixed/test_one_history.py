"""One etcd 3.5.1 and two tercet members apply one history, whichever leads and whichever restarts, to the same state."""

from __future__ import annotations

import pytest

from tests.mixed.mixture import CATCH_UP_ENTRIES, SNAPSHOT_ENTRIES, check_same, complaints, kill, make_leader
from tests.mixed.story import Story
from tests.support.processes import Cluster


@pytest.mark.parametrize("leader", ["e1", "t1", "t2"])
def test_any_member_can_lead(cluster: Cluster, leader: str) -> None:
    make_leader(cluster, cluster[leader])
    story = Story(seed=sum(leader.encode()))
    story.send(cluster.members, 80)
    assert story.answered > 70
    check_same(cluster.members)


@pytest.mark.parametrize("leader", ["e1", "t1"])
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("name", ["e1", "t1"])
def test_any_member_can_restart(cluster: Cluster, leader: str, name: str, end: str) -> None:
    """This includes the leader: a member of the same or of the other kind succeeds it."""
    make_leader(cluster, cluster[leader])
    member = cluster[name]
    story = Story(seed=hash((leader == "e1", name == "e1", end == "kill")))
    story.send(cluster.members, 20)
    if end == "kill":
        kill(member)
    else:
        member.stop()
    cluster.leader()
    story.send(cluster.others(member), 30)
    member.restart()
    story.send(cluster.members, 20)
    check_same(cluster.members)


@pytest.mark.parametrize(("leader", "name"), [("t1", "e1"), ("e1", "t1"), ("t1", "t2")])
def test_a_member_that_was_down_catches_up_by_a_snapshot(cluster: Cluster, leader: str, name: str) -> None:
    """The log is compacted past the follower's position, so the leader sends its database, also to the other kind."""
    make_leader(cluster, cluster[leader])
    member = cluster[name]
    story = Story(seed=len(leader + name))
    member.kill()
    story.send(cluster.others(member), 60)
    for number in range(2 * SNAPSHOT_ENTRIES + CATCH_UP_ENTRIES):
        cluster[leader].client.put(b"many", b"%d" % number)
    member.restart()
    member.wait_said("applied snapshot")
    story.send(cluster.members, 20)
    check_same(cluster.members)
    make_leader(cluster, member)  # it can lead as well
    story.send(cluster.members, 20)
    member.stop()
    member.restart()
    check_same(cluster.members)


def test_etcd_logged_no_error(cluster: Cluster) -> None:
    assert complaints(cluster["e1"]) == []
