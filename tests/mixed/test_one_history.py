"""One etcd 3.5.1 and two tercets live through one history: whoever leads, whoever dies, they end with the same state."""

from __future__ import annotations

import pytest

from tests.mixed.mixture import CATCH_UP_ENTRIES, SNAPSHOT_ENTRIES, check_same, complaints, is_etcd, make_leader
from tests.mixed.story import Story
from tests.support.processes import Cluster


@pytest.mark.parametrize("leader", ["e1", "t1", "t2"])
def test_whoever_leads(cluster: Cluster, leader: str) -> None:
    make_leader(cluster, cluster[leader])
    story = Story(seed=sum(leader.encode()))
    story.tell(cluster.members, 80)
    assert story.answered > 70
    check_same(cluster.members)


@pytest.mark.parametrize("leader", ["e1", "t1"])
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("name", ["e1", "t1"])
def test_each_may_go_and_come_back(cluster: Cluster, leader: str, name: str, end: str) -> None:
    """The leader among them: the lead is then taken over by one of the other kind or of its own."""
    make_leader(cluster, cluster[leader])
    member = cluster[name]
    story = Story(seed=hash((leader == "e1", name == "e1", end == "kill")))
    story.tell(cluster.members, 20)
    getattr(member, end)()
    cluster.leader()
    story.tell(cluster.others(member), 30)
    member.restart()
    story.tell(cluster.members, 20)
    check_same(cluster.members)


@pytest.mark.parametrize(("leader", "name"), [("t1", "e1"), ("e1", "t1"), ("t1", "t2")])
def test_a_snapshot_brings_back_who_was_away(cluster: Cluster, leader: str, name: str) -> None:
    """The log is compacted past what the follower has; the leader sends its whole database, to the other kind as well."""
    make_leader(cluster, cluster[leader])
    member = cluster[name]
    story = Story(seed=len(leader + name))
    member.kill()
    story.tell(cluster.others(member), 60)
    for number in range(2 * SNAPSHOT_ENTRIES + CATCH_UP_ENTRIES):
        cluster[leader].client.put(b"many", b"%d" % number)
    member.restart()
    member.wait_said("installed snapshot at" if not is_etcd(member) else "applied snapshot")
    story.tell(cluster.members, 20)
    check_same(cluster.members)
    make_leader(cluster, member)  # it can do all that the others can
    story.tell(cluster.members, 20)
    member.stop()
    member.restart()
    check_same(cluster.members)


def test_etcd_had_nothing_to_complain_about(cluster: Cluster) -> None:
    assert complaints(cluster["e1"]) == []
