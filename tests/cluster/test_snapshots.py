"""A follower behind the start of the leader's log receives a snapshot, and continues from there."""

from __future__ import annotations

import time

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.cluster.writers import Load
from tests.support.processes import QUICK, Member
from tests.support.watching import Create, Stream

SMALL_LOG = (*QUICK, "--snapshot-count=50", "--snapshot-catchup-entries=5")
MINIMAL_LOG = (*QUICK, "--snapshot-count=10", "--snapshot-catchup-entries=1")
INSTALLED = "applied snapshot"


def snapshot_files(member: Member) -> list[str]:
    return [path.name for path in (member.data / "member" / "snap").iterdir() if path.name != "db"]


def test_a_stopped_follower_catches_up_by_snapshot(plan: Planned) -> None:
    cluster = plan(flags=SMALL_LOG).start()
    follower = cluster.others(cluster.leader())[0]
    others = cluster.others(follower)
    follower.client.put(b"gone", b"1")
    follower.kill()
    with Load(cluster) as load:
        load.wait_for(100)
    others[0].client.delete(b"gone")
    kept = others[0].client.put(b"kept", b"1").header.revision
    others[0].client.compact(kept)
    follower.restart()
    follower.wait_said(INSTALLED)
    for start_revision in (kept, kept - 1):  # the second is cancelled, because it is compacted
        stream = Stream(follower.client)
        stream.create(Create(key=b"kept", start_revision=start_revision))
        stream.await_created()
        answer = stream.next()
        assert isinstance(answer, rpc_pb2.WatchResponse), answer
        assert answer.compact_revision if start_revision < kept else answer.events[0].kv.mod_revision == kept
        stream.close()
    load.check(cluster)
    assert follower.client.get(b"gone", serializable=True) is None
    assert snapshot_files(follower) == []
    follower.kill()
    follower.restart()
    load.check(cluster)
    assert INSTALLED not in follower.said()


def test_a_follower_killed_during_its_catch_up_gets_another_snapshot(plan: Planned) -> None:
    """The leader compacts its log at once, under load. A follower that is frozen or killed while it receives or
    installs a snapshot, or after that, gets another one, and catches up.
    """
    cluster = plan(flags=MINIMAL_LOG).start()
    follower = cluster.others(cluster.leader())[0]
    with Load(cluster, value_bytes=2000) as load:
        load.wait_for(20)
        follower.kill()
        load.wait_for(60)
        follower.start().wait_said("received and saved database snapshot")
        for life in range(4):
            follower.kill()
            load.wait_for(20)
            follower.start().wait_said("starting an etcd server")
            time.sleep(0.05 * life)
            follower.pause()
            load.wait_for(20)
            follower.resume()
        follower.wait_ready()
        follower.kill()
        load.wait_for(20)
        follower.restart()
    load.check(cluster)
    follower.stop()
    assert snapshot_files(follower) == []
    assert "stacktrace" not in follower.log.read_text()


def test_under_load_one_snapshot_is_enough(plan: Planned) -> None:
    """The leader keeps the entries after a snapshot until its receiver has installed it. Otherwise the receiver needs another
    snapshot, and under a steady load never catches up: 60 snapshots in 30 seconds.
    """
    cluster = plan(flags=MINIMAL_LOG).start()
    follower = cluster.others(cluster.leader())[0]
    with Load(cluster, value_bytes=2000) as load:
        for _ in range(2):
            load.wait_for(20)
            follower.kill()
            load.wait_for(100)
            follower.restart()
            assert follower.said().count(INSTALLED) <= 10
    load.check(cluster)
