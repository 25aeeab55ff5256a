"""Leases are granted and revoked through the log: all members agree, whichever of them leads."""

from __future__ import annotations

from tercet.proto import rpc_pb2
from tests.mixed.mixture import check_same, make_leader
from tests.support.processes import Cluster, Member, wait_until


def grant(member: Member, id: int, seconds: int) -> rpc_pb2.LeaseGrantResponse:
    request = rpc_pb2.LeaseGrantRequest(ID=id, TTL=seconds)
    return member.client.call("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse, 5)


def put(member: Member, key: bytes, lease: int) -> None:
    member.client.call("KV/Put", rpc_pb2.PutRequest(key=key, lease=lease), rpc_pb2.PutResponse, 5)


def test_a_lease_that_an_etcd_leader_expires_ends_on_all_members(cluster: Cluster) -> None:
    etcd = cluster["e1"]
    make_leader(cluster, etcd)
    assert grant(etcd, 70, 0).TTL == 1  # the minimum follows from the election timeout, as in tercet
    grant(etcd, 71, 1000)
    for member in cluster.members:
        put(member, b"short/" + member.name.encode(), 70)
        put(member, b"long/" + member.name.encode(), 71)
    before = etcd.client.status().header.revision
    check_same(cluster.members)
    for member in cluster.members:
        wait_until(lambda member=member: not member.client.all(b"short/", serializable=True), "the lease has expired")  # type: ignore[misc]
    check_same(cluster.members)
    assert len(etcd.client.all(b"long/")) == 3
    assert etcd.client.status().header.revision <= before + 3  # one revision for all keys, and two checks
    request = rpc_pb2.LeaseRevokeRequest(ID=71)
    etcd.client.call("Lease/LeaseRevoke", request, rpc_pb2.LeaseRevokeResponse, 5)
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


def test_a_tercet_leader_hands_over_to_etcd_while_there_are_leases(cluster: Cluster) -> None:
    """A lease expires on time although a tercet was made leader."""
    etcd, tercet = cluster["e1"], cluster["t1"]
    make_leader(cluster, tercet)
    grant(etcd, 73, 5)
    put(tercet, b"expiring", 73)
    leader = etcd.client.status().header.member_id
    wait_until(lambda: etcd.client.status().leader == leader, "etcd leads")
    wait_until(lambda: not tercet.client.all(b"expiring", serializable=True), "the lease has expired", seconds=30)
    check_same(cluster.members)
