"""The periodic corruption check, by a leader of either kind: each reads the hashes of the other and names the wrong member."""

from __future__ import annotations

import pytest

from tercet.proto import rpc_pb2
from tests.mixed.conftest import Mix
from tests.mixed.mixture import is_etcd, make_leader
from tests.support.forgery import forge, stored_value
from tests.support.processes import ETCD, TERCET, Member, wait_until


def alarms(member: Member) -> list[tuple[int, int]]:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
    answer = member.client.call("Maintenance/Alarm", request, rpc_pb2.AlarmResponse, 30)
    return [(one.memberID, one.alarm) for one in answer.alarms]


def check_often(member: Member) -> None:
    if is_etcd(member):
        path = member.directory / f"{member.name}.yaml"
        path.write_text(path.read_text() + "experimental-corrupt-check-time: 1000000000\n")
    else:
        member.flags = [*member.flags, "--corrupt-check-time=1s"]


@pytest.mark.parametrize("leader", ["e1", "t1"])
def test_the_leader_blames_the_member_whose_hash_differs(mix: Mix, leader: str) -> None:
    cluster = mix({"e1": ETCD, "t1": TERCET, "t2": TERCET})
    for member in cluster.members:
        check_often(member)
    cluster.start()
    victim = cluster["t2"]
    cluster["e1"].client.put(b"key", b"a value of some length")
    stored = stored_value(victim, b"key")
    victim_id = victim.client.status().header.member_id
    victim.stop()
    forge(victim, stored)
    make_leader(cluster, cluster[leader])
    cluster[leader].wait_said("finished peer corruption check")
    assert alarms(cluster["e1"]) == []
    victim.start().wait_said("ready to serve client requests")  # its health ends with the alarm, in a second
    found = wait_until(lambda: alarms(cluster["e1"]), "the alarm is raised")
    assert found == [(victim_id, rpc_pb2.CORRUPT)]
    assert alarms(cluster["t1"]) == found
