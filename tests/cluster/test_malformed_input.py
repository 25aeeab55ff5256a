"""Malformed input from the network: an error response or a closed connection, without effect on other clients."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import struct
import time

import grpc  # type: ignore[import-untyped]
import pytest

from tercet.proto import rpc_pb2
from tests.cluster.conftest import Planned
from tests.cluster.writers import Load, check_agreement
from tests.support.client import Client
from tests.support.processes import QUICK, STEADY, Cluster, Member
from tests.support.waiting import scaled

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


GARBAGE = {
    "random bytes": os.urandom(4096),
    "a TLS handshake": bytes.fromhex("1603010200010001fc0303") + os.urandom(300),
    "endless HTTP/1.1 headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: " + b"b" * 200_000,
    "a preface followed by random bytes": PREFACE + os.urandom(1000),
    "a frame that is too large": PREFACE + frame(4, 0, 0, b"") + frame(0, 0, 1, bytes(1 << 20)),
    "random bytes as headers": PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, os.urandom(100)),
    "endless CONTINUATION frames": PREFACE + frame(4, 0, 0, b"") + frame(1, 0, 1, b"") + frame(9, 0, 1, b"") * 20_000,
    "endless PING frames": PREFACE + frame(4, 0, 0, b"") + frame(6, 0, 0, bytes(8)) * 20_000,
    "endless RST_STREAM frames": PREFACE + frame(4, 0, 0, b"") + frame(3, 0, 1, bytes(4)) * 20_000,
    "half a preface": PREFACE[:10],
    "nothing": b"",
}


@pytest.fixture
def cluster(plan: Planned) -> Cluster:
    return plan(["n1", "n2"], QUICK).start()


def resident_bytes(member: Member) -> int:
    with open(f"/proc/{member.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def send(port: int, data: bytes) -> None:
    """Send `data`, and wait briefly for a response or the end of the connection."""
    with socket.create_connection(("127.0.0.1", port), scaled(2)) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass


def test_garbage_at_both_listeners_does_not_disturb_the_cluster(plan: Planned) -> None:
    cluster = plan(["n1", "n2"], STEADY).start()
    member = cluster["n1"]
    cluster["n2"].client.put(b"a", b"1")
    terms = {one.client.status().raftTerm for one in cluster.members}
    before = resident_bytes(member)
    with Load(cluster, writers=2, call_seconds=30) as load:
        for data in GARBAGE.values():
            send(member.client_port, data)
            send(member.peer_port, data)
        for path in ("/raft/stream/message/1", "/raft/snapshot", "/raft", "/members", "/nonexistent"):
            for method in ("GET", "POST", "PUT"):
                peer = http.client.HTTPConnection("127.0.0.1", member.peer_port, timeout=scaled(10))
                peer.request(method, path, body=os.urandom(500) if method != "GET" else None)
                answer = peer.getresponse()
                assert answer.status >= 400 or path == "/members"
                peer.close()
        load.wait_for(10)
    load.check(cluster)
    assert not [failure for writer in load.writers for failure in writer.failures]
    assert {one.client.status().raftTerm for one in cluster.members} == terms
    assert resident_bytes(member) < before + (100 << 20)
    for one in cluster.members:
        assert "Traceback" not in one.said()
        assert "stacktrace" not in one.said()


def test_invalid_requests(cluster: Cluster) -> None:
    client = cluster["n1"].client

    def error(path: str, body: bytes) -> Client.Error:
        with pytest.raises(Client.Error) as caught:
            client.channel.unary_unary(path)(body, timeout=scaled(5))
        return caught.value

    put = "/etcdserverpb.KV/Put"
    malformed = error(put, b"\x0a\xff\xff\xff\xff\x0f")
    assert malformed.code() is grpc.StatusCode.INTERNAL
    large = rpc_pb2.PutRequest(key=b"a", value=bytes(1_600_000))
    assert error(put, large.SerializeToString()).details() == "etcdserver: request is too large"
    larger = error(put, bytes(3_000_000))
    assert larger.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error("/etcdserverpb.KV/NoSuch", b"").code() is grpc.StatusCode.UNIMPLEMENTED
    assert error("/no.Such/Service", b"").code() is grpc.StatusCode.UNIMPLEMENTED
    assert error(put, b"").details() == "etcdserver: key is not provided"
    client.put(b"a", b"1")
    check_agreement(cluster.members)
    assert "Traceback" not in cluster["n1"].said()


def test_a_member_of_another_cluster_is_rejected_at_the_peer_port(cluster: Cluster) -> None:
    member = cluster["n1"]
    peer = http.client.HTTPConnection("127.0.0.1", member.peer_port, timeout=scaled(10))
    headers = {"X-Etcd-Cluster-Id": "123", "X-Server-From": "1", "X-Server-Version": "3.7.0", "X-Min-Cluster-Version": "3.0.0"}
    peer.request("POST", "/raft", body=b"anything", headers=headers)
    answer = peer.getresponse()
    assert answer.status == 412
    assert answer.read().strip() == b"cluster ID mismatch"
    assert "another cluster" in member.wait_said("another cluster")
    member.client.put(b"a", b"1")


def test_a_client_that_does_not_read_replies_harms_no_other(plan: Planned) -> None:
    """Memory stays bounded and other clients are served: the member stops reading a connection with many unread replies."""
    member = plan(["n1", "n2"], STEADY).start()["n1"]
    member.client.put(b"big", bytes(1_000_000))
    before = resident_bytes(member)
    clients = [grpc.insecure_channel(member.endpoint, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    calls = []
    for channel in clients:
        read = channel.unary_unary("/etcdserverpb.KV/Range")
        request = rpc_pb2.RangeRequest(key=b"big", serializable=True).SerializeToString()
        calls += [read.future(request, timeout=scaled(20)) for _ in range(100)]
    began = time.monotonic()
    for number in range(20):
        member.client.put(b"small", b"%d" % number)
    assert time.monotonic() - began < scaled(5)
    for call in calls:
        call.cancel()
    for channel in clients:
        channel.close()
    # 8 MiB of unread replies each (rpc/bounded_connection.py); reads in the making are held back (services/scheduler.py).
    assert resident_bytes(member) < before + (300 << 20)
