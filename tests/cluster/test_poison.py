"""Client requests must not crash a member, neither when they are applied nor when the log is replayed."""

from __future__ import annotations

import contextlib
import time

import grpc  # type: ignore[import-untyped]
import pytest

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.replica.test_nested_requests import nested_txn
from tests.support.client import Client
from tests.support.processes import QUICK, Cluster, wait_until
from tests.support.waiting import scaled


@pytest.fixture
def cluster(plan: Planned) -> Cluster:
    return plan(["n1", "n2"], QUICK).start()


def restart_all(cluster: Cluster) -> None:
    assert [member.name for member in cluster.running] == [member.name for member in cluster.members]
    for member in cluster.members:
        member.kill()
    for member in cluster.members:
        member.start()
    for member in cluster.members:
        member.wait_ready()


def test_the_deepest_txn_allowed_is_applied_and_replayed(cluster: Cluster) -> None:
    client = cluster.leader().client
    send = client.channel.unary_unary("/etcdserverpb.KV/Txn")
    for depth in (48, 49, 50, 51):
        with contextlib.suppress(grpc.RpcError):
            send(nested_txn(depth), timeout=scaled(5))
    deepest = client.get(b"deep")
    assert deepest is not None
    restart_all(cluster)
    for member in cluster.members:
        assert member.client.get(b"deep") == deepest


def test_peer_urls_that_cannot_be_dialed_stop_no_member(cluster: Cluster) -> None:
    """etcd accepts Unix sockets as peer URLs, so the log may contain one."""
    first, second = cluster.members
    learner = rpc_pb2.MemberAddRequest(peerURLs=["unix://nowhere"], isLearner=True)

    def is_added() -> bool:
        with contextlib.suppress(Client.Error):
            first.client.call("Cluster/MemberAdd", learner, rpc_pb2.MemberAddResponse, timeout=scaled(5))
        return len(first.client.members()) == 3

    wait_until(is_added, "a learner is added once the members have been connected for long enough")
    ids = {member.name: member.ID for member in first.client.members()}
    for urls in (["garbage"], [], ["http://127.0.0.1:1/path"]):
        request = rpc_pb2.MemberUpdateRequest(ID=ids["n2"], peerURLs=urls)
        with pytest.raises(Client.Error, match="given member URLs are invalid"):
            first.client.call("Cluster/MemberUpdate", request, rpc_pb2.MemberUpdateResponse, timeout=scaled(5))
    restart_all(cluster)
    assert ("unix://nowhere",) in {tuple(member.peerURLs) for member in second.client.members()}
    second.client.put(b"a", b"1")


def test_an_alarm_without_a_name_is_kept_and_stops_no_member(cluster: Cluster) -> None:
    """As in etcd from 3.6 on; one of 3.5 stops at such an entry, so that a cluster of its version refuses it."""
    first = cluster.members[0]
    wait_until(lambda: '"etcdcluster":"3.7' in first.http("/version")[1], "the cluster has its version")
    alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=77)  # type: ignore[arg-type]
    first.client.call("Maintenance/Alarm", alarm, rpc_pb2.AlarmResponse, timeout=scaled(5))
    assert first.client.status().errors == ["memberID:1 alarm:77"]
    assert first.http("/health")[0] == 503
    first.client.put(b"a", b"1")
    alarm.action = rpc_pb2.AlarmRequest.DEACTIVATE
    first.client.call("Maintenance/Alarm", alarm, rpc_pb2.AlarmResponse, timeout=scaled(5))
    assert first.client.status().errors == []
    assert first.http("/health")[0] == 200


def test_clients_that_cancel_long_requests_stop_no_member(cluster: Cluster) -> None:
    first = cluster.members[0]
    for number in range(2000):
        first.client.put(b"key-%d" % number, bytes(300))
    snapshot = first.client.channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        for delay in (0.001, 0.003, 0.006):
            with contextlib.suppress(Client.Error):
                first.client.hash_kv(0, timeout=delay)
            stream = snapshot(b"", timeout=scaled(5))
            time.sleep(delay)
            stream.cancel()
    assert first.is_running
    first.client.put(b"a", b"1")
