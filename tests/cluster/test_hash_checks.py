"""The leader finds the member whose store differs; with InitialCorruptCheck that member does not start."""

from __future__ import annotations

import pytest

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.support.client import Client
from tests.support.forgery import forge, stored_value
from tests.support.processes import QUICK, Cluster, Member, wait_until

CHECKS = ("--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s")


@pytest.fixture
def cluster(plan: Planned) -> Cluster:
    """Three members; the database of n2 has a different value, and n2 is stopped."""
    cluster = plan(flags=[*QUICK, *CHECKS]).start()
    cluster["n1"].client.put(b"key", b"a value of some length")
    stored = stored_value(cluster["n2"], b"key")
    cluster["n2"].stop()
    forge(cluster["n2"], stored)
    return cluster


def alarms(member: Member) -> list[tuple[int, int]]:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
    answer = member.client.call("Maintenance/Alarm", request, rpc_pb2.AlarmResponse, 30)
    return [(one.memberID, one.alarm) for one in answer.alarms]


def found_by_the_leader(cluster: Cluster) -> list[tuple[int, int]]:
    """The alarms after a compaction.

    The leader names no member if it compares before the third member has compacted or answered, as etcd's: then again.
    """
    client = cluster["n1"].client
    for number in range(20):
        client.compact(client.put(b"other", b"%d" % number).header.revision)
        found = wait_until(lambda: alarms(cluster["n1"]), "the alarm is raised")
        if found != [(0, rpc_pb2.CORRUPT)]:
            break
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, alarm=rpc_pb2.CORRUPT)
        client.call("Maintenance/Alarm", request, rpc_pb2.AlarmResponse, 30)
    return found


def test_the_leader_raises_the_alarm_for_the_member_whose_hash_differs(cluster: Cluster) -> None:
    victim = cluster["n2"]
    victim.start("--feature-gates=InitialCorruptCheck=true")
    assert victim.wait_exit() == 1
    assert "found data inconsistency with peers" in victim.reason()
    victim.restart()
    victim_id = victim.client.status().header.member_id
    assert found_by_the_leader(cluster) == [(victim_id, rpc_pb2.CORRUPT)]
    assert any("Detected compaction hash mismatch" in member.said() for member in cluster.members)
    with pytest.raises(Client.Error, match="etcdserver: corrupt cluster"):
        cluster["n3"].client.put(b"key", b"refused")
    gates = cluster["n1"].http("/metrics")[1]
    assert 'etcd_server_feature_enabled{name="CompactHashCheck",stage="ALPHA"} 1' in gates
    assert 'etcd_server_feature_enabled{name="InitialCorruptCheck",stage="ALPHA"} 0' in gates
