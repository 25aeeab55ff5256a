"""Migration: a member of the other kind joins, becomes leader, and the first member is removed."""

from __future__ import annotations

import subprocess

from tests.mixed.conftest import Mix
from tests.mixed.mixture import CATCH_UP_ENTRIES, SNAPSHOT_ENTRIES, check_same, complaints, make_leader
from tests.mixed.story import Story
from tests.support.processes import ETCD, TERCET, Cluster, Member, etcdctl

_REMOVED = "the member has been permanently removed"


def run(member: Member, *words: str) -> subprocess.CompletedProcess[str]:
    """Run etcdctl, which must succeed."""
    done = etcdctl([member], *words)
    assert done.returncode == 0, done.stderr
    return done


def add(asked: Member, joining: Member) -> None:
    added = run(asked, "member", "add", joining.name, f"--peer-urls=http://127.0.0.1:{joining.peer_port}")
    assert 'ETCD_INITIAL_CLUSTER_STATE="existing"' in added.stdout
    joining.start().wait_ready()


def remove(asked: Member, leaving: Member) -> None:
    leaving_id = leaving.client.status().header.member_id
    assert "removed from cluster" in run(asked, "member", "remove", f"{leaving_id:x}").stdout
    assert leaving.wait_exit() == 0


def fill_log(member: Member) -> None:
    """Fill the log, so that a joining member needs a snapshot."""
    for number in range(2 * SNAPSHOT_ENTRIES + CATCH_UP_ENTRIES):
        member.client.put(b"many", b"%d" % number)


def names(cluster: Cluster, asked: Member) -> set[str]:
    assert len(cluster.members) >= len(asked.client.members())
    return {member.name for member in asked.client.members()}


def test_an_etcd_cluster_moves_to_tercet(mix: Mix) -> None:
    cluster = mix({"e1": ETCD, "t1": TERCET}, initial_members=["e1"])
    etcd, tercet = cluster.members
    etcd.start().wait_ready()
    story = Story(seed=5)
    story.send([etcd], 60)
    fill_log(etcd)
    add(etcd, tercet)
    tercet.wait_said("applied snapshot")
    story.send(cluster.members, 60)
    check_same(cluster.members)
    make_leader(cluster, tercet)
    story.send(cluster.members, 40)
    check_same(cluster.members)
    remove(tercet, etcd)
    story.send([tercet], 40)
    tercet.kill()
    tercet.restart()
    story.send([tercet], 20)
    assert names(cluster, tercet) == {"t1"}
    assert complaints(etcd, but=[_REMOVED]) == []


def test_an_etcd_joins_a_tercet_leader_and_becomes_leader(mix: Mix) -> None:
    """3.5.1 joins only if the cluster version is not above its own, so another 3.5.1 has to be a member already."""
    cluster = mix({"e1": ETCD, "t1": TERCET, "e2": ETCD}, initial_members=["e1", "t1"])
    first, tercet, joining = cluster.members
    for member in (first, tercet):
        member.start()
    for member in (first, tercet):
        member.wait_ready()
    make_leader(cluster, tercet)
    story = Story(seed=6)
    story.send([first, tercet], 60)
    fill_log(tercet)
    add(tercet, joining)
    joining.wait_said("applied snapshot")
    story.send(cluster.members, 60)
    check_same(cluster.members)
    make_leader(cluster, joining)
    story.send(cluster.members, 40)
    check_same(cluster.members)
    remove(joining, tercet)
    story.send([first, joining], 40)
    check_same([first, joining])
    assert names(cluster, joining) == {"e1", "e2"}
    assert complaints(first) == complaints(joining) == []


def test_an_old_etcd_cannot_join_a_newer_cluster(mix: Mix) -> None:
    """It exits as it does in a cluster of etcd 3.7."""
    cluster = mix({"t1": TERCET, "e1": ETCD}, initial_members=["t1"])
    tercet, etcd = cluster.members
    tercet.start().wait_ready()
    run(tercet, "member", "add", etcd.name, f"--peer-urls=http://127.0.0.1:{etcd.peer_port}")
    etcd.start()
    assert etcd.wait_exit() == 1
    assert "incompatible with current running cluster" in etcd.said()
