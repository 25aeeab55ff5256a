"""Leases are granted and revoked through the log: all members agree, whichever of them leads."""

from __future__ import annotations

import time

import pytest

from tercet.proto import rpc_pb2
from tests.mixed.mixture import check_same, make_leader, wait_level
from tests.support.processes import Cluster, Member, wait_until
from tests.support.waiting import scaled


def grant(member: Member, id: int, seconds: int) -> rpc_pb2.LeaseGrantResponse:
    request = rpc_pb2.LeaseGrantRequest(ID=id, TTL=seconds)
    return member.client.call("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse, 30)


def put(member: Member, key: bytes, lease: int) -> None:
    member.client.call("KV/Put", rpc_pb2.PutRequest(key=key, lease=lease), rpc_pb2.PutResponse, 30)


def test_a_lease_that_an_etcd_leader_expires_ends_on_all_members(cluster: Cluster) -> None:
    etcd = cluster["e1"]
    make_leader(cluster, etcd)
    assert grant(etcd, 69, 0).TTL == 2  # the minimum follows from the election timeout, as in tercet
    grant(etcd, 70, 4)
    grant(etcd, 71, 1000)
    for member in cluster.members:
        put(member, b"short/" + member.name.encode(), 70)
        put(member, b"long/" + member.name.encode(), 71)
    before = wait_level(cluster.members)  # a member's own revision may be behind a put that another has answered
    for member in cluster.members:
        wait_until(lambda member=member: not member.client.all(b"short/", serializable=True), "the lease has expired")  # type: ignore[misc]
    check_same(cluster.members)
    assert len(etcd.client.all(b"long/")) == 3
    assert wait_level(cluster.members) <= before + 2  # one revision for all keys, and the check
    request = rpc_pb2.LeaseRevokeRequest(ID=71)
    etcd.client.call("Lease/LeaseRevoke", request, rpc_pb2.LeaseRevokeResponse, 30)
    check_same(cluster.members)
    assert not cluster["t1"].client.all(b"long/")


def test_leases_survive_restarts(cluster: Cluster) -> None:
    """A lease is granted while one member is down; the member catches up, and after restarts every member has the lease."""
    etcd, tercet = cluster["e1"], cluster["t1"]
    tercet.kill()
    grant(etcd, 72, 1000)
    put(cluster["t2"], b"survives", 72)
    tercet.restart()
    check_same(cluster.members)
    for member in (tercet, etcd):
        member.stop()
        member.restart()
    check_same(cluster.members)
    pair = tercet.client.range(b"survives").kvs[0]
    assert pair.lease == 72


def time_to_live(member: Member, id: int) -> rpc_pb2.LeaseTimeToLiveResponse:
    request = rpc_pb2.LeaseTimeToLiveRequest(ID=id, keys=True)
    return member.client.call("Lease/LeaseTimeToLive", request, rpc_pb2.LeaseTimeToLiveResponse, 30)


def renew(member: Member, id: int) -> int:
    """The TTL that a renewal is answered with."""
    method = member.client.channel.stream_stream(
        "/etcdserverpb.Lease/LeaseKeepAlive",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=rpc_pb2.LeaseKeepAliveResponse.FromString,
    )
    (answer,) = method(iter([rpc_pb2.LeaseKeepAliveRequest(ID=id)]), timeout=scaled(10))
    return int(answer.TTL)


@pytest.mark.parametrize("leader", ["t1", "e1"])
def test_every_member_renews_and_reports_leases_whichever_kind_leads(cluster: Cluster, leader: str) -> None:
    make_leader(cluster, cluster[leader])
    lease = 730 + (leader == "e1")
    grant(cluster["t2"], lease, 1000)
    put(cluster["e1"], b"told/" + leader.encode(), lease)
    check_same(cluster.members)
    for member in cluster.members:
        assert renew(member, lease) == 1000
        assert renew(member, 12345) == 0
        found = time_to_live(member, lease)
        assert (found.grantedTTL, list(found.keys)) == (1000, [b"told/" + leader.encode()])
        assert 990 <= found.TTL <= 1000
        assert found.header.member_id == member.client.status().header.member_id
        assert time_to_live(member, 12345).TTL == -1


def test_a_tercet_leader_expires_leases_and_keeps_those_that_are_renewed(cluster: Cluster) -> None:
    """Renewed at members of both kinds that do not lead."""
    tercet = cluster["t1"]
    make_leader(cluster, tercet)
    for lease in (740, 741):
        grant(cluster["e1"], lease, 5)
        put(cluster["t2"], b"leader/%d" % lease, lease)

    def other_has_expired() -> bool:
        time.sleep(0.2)
        assert renew(cluster["e1"], 741) == 5
        assert renew(cluster["t2"], 741) == 5
        return b"leader/740" not in tercet.client.all(b"leader/")

    wait_until(other_has_expired, "the lease that nobody renews expires")
    assert list(tercet.client.all(b"leader/")) == [b"leader/741"]
    wait_until(lambda: not tercet.client.all(b"leader/"), "the lease expires once nobody renews it")
    check_same(cluster.members)


def test_a_lease_outlives_a_change_of_the_leader_and_then_expires(cluster: Cluster) -> None:
    make_leader(cluster, cluster["e1"])
    grant(cluster["t1"], 750, 8)
    put(cluster["t1"], b"changes", 750)
    make_leader(cluster, cluster["t1"])
    assert renew(cluster["e1"], 750) == 8
    make_leader(cluster, cluster["e1"])
    make_leader(cluster, cluster["t2"])
    assert 1 <= time_to_live(cluster["t1"], 750).TTL <= 9
    wait_until(lambda: not cluster["t1"].client.all(b"changes"), "the lease has expired", seconds=30)
    check_same(cluster.members)
