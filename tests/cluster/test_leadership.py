"""Leadership when a leader is frozen or stopped, and the end of a member."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.cluster.writers import check_agreement
from tests.support.client import Client
from tests.support.processes import QUICK, STEADY, wait_until
from tests.support.waiting import scaled


def test_d16_a_resumed_leader_serves_no_stale_read(plan: Planned) -> None:
    """etcd #20418, #7331: a deposed leader answered linearizable reads from its own state.

    Reads wait in its socket when it resumes, so it receives them before it learns of the new leader.
    """
    cluster = plan(flags=QUICK).start()
    for number in range(2):
        frozen = cluster.leader()
        others = cluster.others(frozen)
        key, value = b"k%d" % number, b"new"
        frozen.client.put(key, b"old")
        frozen.pause()
        try:
            leader = cluster.leader(among=others)
            leader.client.put(key, value)
            ask = frozen.client.channel.unary_unary(
                "/etcdserverpb.KV/Range",
                request_serializer=rpc_pb2.RangeRequest.SerializeToString,
                response_deserializer=rpc_pb2.RangeResponse.FromString,
            )
            waiting = [ask.future(rpc_pb2.RangeRequest(key=key), timeout=scaled(10)) for _ in range(20)]
            time.sleep(0.1)  # the requests reach the socket of the frozen member
        finally:
            frozen.resume()
        for answer in waiting:
            assert answer.result().kvs[0].value == value
        assert frozen.client.get(key) == value
    check_agreement(cluster.members)


def test_a_leader_that_is_stopped_transfers_leadership(plan: Planned) -> None:
    """There is a new term when it exits; without a transfer, an election would begin after the election timeout."""
    cluster = plan(flags=STEADY).start()
    leader = cluster.leader()
    others = cluster.others(leader)
    leader.client.put(b"a", b"1")
    term = leader.client.status().raftTerm
    assert leader.stop() == -signal.SIGTERM
    assert max(member.client.status().raftTerm for member in others) == term + 1
    successor = cluster.leader(among=others)
    assert successor.client.put(b"a", b"2").header.raft_term == term + 1
    assert "closed etcd server" in leader.said()
    assert "Traceback" not in leader.said()
    leader.restart()
    assert leader.client.get(b"a") == b"2"
    # Stop all at once: the leader has no transferee, and exits all the same.
    for member in cluster.members:
        assert member.process is not None
        member.process.terminate()
    for member in cluster.members:
        assert member.wait_exit() == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_member_exits_by_the_signal(plan: Planned, number: signal.Signals) -> None:
    """A shell sees 130 or 143. The same holds for a member that does not serve yet because its peers are down."""
    alone, waiting = plan(["n1"], QUICK, directory="alone"), plan(flags=QUICK, directory="waiting")
    alone["n1"].start()
    waiting["n1"].start().wait_said("starting an etcd server")
    alone["n1"].wait_ready()
    for member in (alone["n1"], waiting["n1"]):
        assert member.stop(number) == -number
        assert "Traceback" not in member.said()
    assert "received signal; shutting down" in alone["n1"].said()
    assert "closed etcd server" in alone["n1"].said()


def test_the_service_manager_is_notified_when_the_member_serves(plan: Planned, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        cluster = plan(["n1", "n2"], QUICK)
        cluster["n1"].variables = {"NOTIFY_SOCKET": str(path)}
        cluster["n1"].start().wait_said("starting an etcd server")
        manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            manager.recv(100)  # not notified without a quorum
        cluster["n2"].start()
        manager.settimeout(20)
        assert manager.recv(100) == b"READY=1"
        cluster["n1"].client.put(b"a", b"1")


def test_writes_need_a_quorum(plan: Planned) -> None:
    """With two of three members frozen, no write is acknowledged; once they resume, all members agree."""
    cluster = plan(flags=QUICK).start()
    leader = cluster.leader()
    for member in cluster.others(leader):
        member.pause()
    with pytest.raises(Client.Error):
        leader.client.put(b"a", b"1", timeout=1)
    wait_until(lambda: not leader.client.status().leader, "the leader has stepped down")
    with pytest.raises(Client.Error):
        leader.client.range(b"a", timeout=0.5)
    assert leader.http("/health")[0] == 503
    assert leader.http("/livez")[0] == 200
    assert leader.client.range(b"a", serializable=True).header.revision >= 1
    for member in cluster.others(leader):
        member.resume()
    for member in cluster.members:
        member.wait_ready()
    check_agreement(cluster.members)
