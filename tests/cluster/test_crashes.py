"""kill -9 under load: no acknowledged write is lost or applied twice, and killed members rejoin."""

from __future__ import annotations

import time

from tests.cluster.conftest import Planned
from tests.cluster.writers import Load, check_agreement
from tests.support.processes import QUICK

# Log compaction and snapshots to followers happen every few hundred entries.
SMALL_LOG = (*QUICK, "--snapshot-count=200", "--snapshot-catchup-entries=100")


def test_kills_of_followers_and_leaders_lose_no_acknowledged_write(plan: Planned) -> None:
    cluster = plan(flags=SMALL_LOG).start()
    with Load(cluster) as load:
        load.wait_for(60)
        for victim_leads in (False, True, True):
            leader = cluster.leader()
            victim = leader if victim_leads else cluster.others(leader)[0]
            victim.kill()
            load.wait_for(80)
            victim.restart()
            load.wait_for(30)
    load.check(cluster)


def test_a_kill_of_all_members_loses_no_acknowledged_write(plan: Planned) -> None:
    cluster = plan(flags=SMALL_LOG).start()
    with Load(cluster) as load:
        for _ in range(2):
            load.wait_for(100)
            for member in cluster.members:
                member.process.kill()  # type: ignore[union-attr]
            for member in cluster.members:
                member.kill()
            cluster.start()
        load.wait_for(20)
    load.check(cluster)


def test_d02_a_single_member_killed_right_after_its_response_keeps_the_write(plan: Planned) -> None:
    """etcd #14370: a cluster of one answered before its log was durable."""
    cluster = plan(["n1"], SMALL_LOG).start()
    member = cluster["n1"]
    for number in range(4):
        key = b"last/%d" % number
        for filler in range(100 * number):
            member.client.put(b"filler", b"%d" % filler)
        answer = member.client.put(key, b"acknowledged")
        member.kill()
        member.restart()
        found = member.client.range(key)
        assert [pair.value for pair in found.kvs] == [b"acknowledged"]
        assert found.kvs[0].mod_revision == answer.header.revision == found.header.revision


def test_d01_entries_between_apply_and_commit_are_applied_exactly_once(plan: Planned) -> None:
    """etcd #13766: the backend held an entry's effect but not its index, so the entry was applied again after a crash.

    The backend commits every few milliseconds here, so that members are killed before, during and after its commits.
    """
    cluster = plan(flags=(*SMALL_LOG, "--backend-batch-interval=3ms")).start()
    with Load(cluster) as load:
        for round_number in range(3):
            load.wait_for(30)
            for member in cluster.members:
                time.sleep(0.01 * round_number)
                member.process.kill()  # type: ignore[union-attr]
            for member in cluster.members:
                member.kill()
            cluster.start()
    load.check(cluster)
    applied = sum(len(cluster["n1"].client.all(writer.prefix)) for writer in load.writers)
    assert check_agreement(cluster.members).header.revision == 1 + applied


def test_d06_a_compacted_deletion_keeps_its_revision(plan: Planned) -> None:
    """etcd #17780, #6633: the newest revision was a tombstone. After its compaction and a crash the file did not record it, and
    the store's revision went back.
    """
    cluster = plan(["n1"], SMALL_LOG).start()
    member = cluster["n1"]
    member.client.put(b"a", b"1")
    member.client.put(b"b", b"1")
    deleted = member.client.delete(b"b").header.revision
    member.client.compact(deleted)
    for _ in range(2):
        member.kill()
        member.restart()
        found = member.client.range(b"a")
        assert found.header.revision == deleted
        assert found.kvs[0].value == b"1"
        assert member.client.get(b"b") is None
        assert member.client.range(b"a", revision=deleted).kvs[0].value == b"1"
    assert member.client.put(b"c", b"1").header.revision == deleted + 1


def test_an_interrupted_defragmentation_leaves_a_valid_store(plan: Planned) -> None:
    """etcd #14685, #14730, #11613: after a kill during a defragmentation nothing is applied twice, and the leftover file does
    not prevent the next one.
    """
    cluster = plan(flags=SMALL_LOG).start()
    member = cluster["n1"]
    for number in range(40):
        member.client.put(b"bulk%d" % number, bytes(200_000))
    with Load(cluster) as load:
        for delay in (0.0, 0.03, 0.06):
            load.wait_for(20)
            defragmenting = member.client.defragment_later()
            time.sleep(delay)
            member.kill()
            defragmenting.exception()  # it has ended, in one way or the other
            member.restart()
        load.wait_for(20)
        member.client.delete(b"bulk", prefix=True)
        member.client.compact(member.client.range(b"bulk").header.revision)
        before = member.client.status().dbSize
        member.client.defragment_later().result()
        assert member.client.status().dbSize < before / 2
    load.check(cluster)
    assert len(list((member.data / "member" / "snap" / "db").glob("*.lmdb"))) == 1
