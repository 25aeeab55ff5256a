"""A follower that the log cannot reach any more gets the whole database, and goes on from there."""

from __future__ import annotations

from tests.cluster.conftest import Planned
from tests.cluster.processes import QUICK, Member, wait_until
from tests.cluster.writers import Load, check_agreement

SMALL_LOG = (*QUICK, "--snapshot-count=50", "--snapshot-catchup-entries=5")
INSTALLED = "installed snapshot"


def snapshot_files(member: Member) -> list[str]:
    return [path.name for path in (member.data / "member" / "snap").iterdir() if path.name != "db"]


def test_a_follower_that_was_away_comes_back_by_snapshot(plan: Planned) -> None:
    cluster = plan(flags=SMALL_LOG).start()
    follower = cluster.others(cluster.leader())[0]
    others = cluster.others(follower)
    follower.client.put(b"gone", b"1")
    follower.kill()
    with Load(cluster) as load:
        load.wait_for(100)
    others[0].client.delete(b"gone")
    others[0].client.compact(others[0].client.put(b"kept", b"1").header.revision)
    follower.restart()
    follower.wait_said(INSTALLED)
    load.check(cluster)
    assert follower.client.get(b"gone", serializable=True) is None
    assert snapshot_files(follower) == []
    follower.kill()
    follower.restart()
    load.check(cluster)
    assert INSTALLED not in follower.said()


def test_snapshots_in_quick_succession_do_not_take_each_others_file(plan: Planned) -> None:
    """etcd #18055: the second snapshot's arrival removed the first one's file before it was opened."""
    cluster = plan(flags=SMALL_LOG).start()
    follower = cluster.others(cluster.leader())[0]
    with Load(cluster, value_bytes=2000) as load:
        load.wait_for(20)
        follower.kill()
        load.wait_for(60)
        follower.start()
        for count in range(1, 4):
            wait_until(lambda count=count: follower.said().count(INSTALLED) >= count, f"{count} snapshots are installed")
            # Frozen, it cannot acknowledge; the log goes on and is trimmed, and nothing but another snapshot will help.
            follower.pause()
            load.wait_for(60)
            follower.resume()
        follower.wait_ready()
        # Killed wherever it happens to be: receiving, installing or already following.
        follower.kill()
        load.wait_for(60)
        follower.start().wait_said("received", seconds=20)
        follower.kill()
        follower.restart()
    load.check(cluster)
    check_agreement(cluster.members)
    assert snapshot_files(follower) == []
