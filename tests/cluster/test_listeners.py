"""Listeners: several addresses, with and without TLS, and separate ones for HTTP and metrics."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tercet.pki import ClusterCertificates
from tests.cluster.conftest import Planned
from tests.cluster.writers import Load
from tests.http.fetch import fetch
from tests.server.certificates import Authority
from tests.support.client import Client, Credentials
from tests.support.processes import QUICK, etcdctl, free_port, server_context
from tests.support.waiting import scaled


def ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/health")
    connection.getresponse().read()


def test_a_cluster_with_mutual_tls_for_clients_and_peers(plan: Planned, certificates: ClusterCertificates) -> None:
    cluster = plan(flags=QUICK, certificates=certificates).start()
    with Load(cluster) as load:
        load.wait_for(30)
        victim = cluster.leader()
        victim.kill()
        load.wait_for(30)
        victim.restart()
    load.check(cluster)
    assert etcdctl(cluster.members, "endpoint", "health").returncode == 0
    # Connections without TLS or without a certificate are rejected; the peer listener also rejects client certificates.
    plain = Client(victim.endpoint)
    with pytest.raises(Client.Error):
        plain.put(b"a", b"1", timeout=1)
    plain.close()
    pair = certificates.client
    context = server_context()
    for port, files in ((victim.client_port, None), (victim.peer_port, None), (victim.peer_port, pair)):
        if files is not None:
            context.load_cert_chain(files.certificate, files.key)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=scaled(10), context=context)
        with pytest.raises((OSError, http.client.HTTPException)):  # a TLS alert, a reset or an end of file
            ask(connection)
        connection.close()


def test_peers_over_unix_sockets(plan: Planned) -> None:
    cluster = plan(["n1", "n2"], QUICK)
    with TemporaryDirectory() as sockets:  # the path of a Unix socket has at most 108 bytes
        for member in cluster.members:
            for one in cluster.members:
                tcp, unix = f"http://127.0.0.1:{one.peer_port}", f"unix://{sockets}/{one.name}"
                member.flags = [flag.replace(tcp, unix) for flag in member.flags]
        cluster.start()
        leader = cluster.leader()
        leader.client.put(b"a", b"1")
        (follower,) = cluster.others(leader)
        assert follower.client.get(b"a") == b"1"
        cluster.dispose()


def test_listeners_with_and_without_tls_at_several_addresses(plan: Planned, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("server", "n1", "127.0.0.1", "localhost")
    member = plan(["n1"], QUICK)["n1"]
    secure, web, metrics = free_port(), free_port(), free_port()
    path = tmp_path / "member.sock"
    urls = f"http://127.0.0.1:{member.client_port},https://127.0.0.1:{secure},unix://{path}"
    member.flags = [flag for flag in member.flags if not flag.startswith("--listen-client-urls")]
    member.flags += [
        f"--listen-client-urls={urls}",
        f"--listen-client-http-urls=http://127.0.0.1:{web}",
        f"--listen-metrics-urls=http://127.0.0.1:{metrics}",
        f"--cert-file={pair.cert}",
        f"--key-file={pair.key}",
    ]
    member.start().wait_said("ready to serve")
    member.client.put(b"a", b"1")
    secured = Client(f"127.0.0.1:{secure}", Credentials(Path(authority.path), Path(pair.cert), Path(pair.key)))
    local = Client(f"unix:{path}")
    assert secured.get(b"a") == b"1"
    assert local.get(b"a") == b"1"
    secured.close()
    local.close()
    assert json.loads(member.http("/health", web)[1])["health"] == "true"
    assert member.http("/health", metrics)[0] == 200
    status, page = member.http("/metrics", metrics)
    assert (status, "etcd_server_has_leader 1" in page) == (200, True)
    assert member.http("/version", metrics)[0] == 404
    # The gRPC address no longer serves HTTP.
    with pytest.raises((OSError, http.client.HTTPException)):
        member.http("/health")
    member.stop()
    for port in (member.client_port, secure, web, metrics, member.peer_port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_the_gateway_can_be_switched_off(plan: Planned) -> None:
    member = plan(["n1"], [*QUICK, "--enable-grpc-gateway=false"]).start()["n1"]
    for path in ("/v3/kv/range", "/v3", "/v3beta/kv/range"):
        assert fetch(f"http://{member.endpoint}{path}", "POST", body=b"{}").status == 404
    member.client.put(b"a", b"1")
