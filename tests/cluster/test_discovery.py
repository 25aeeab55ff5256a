"""Clusters that find their members by DNS and by a discovery token: of tercet, and with a real etcd among them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Planned
from tests.server.certificates import Authority
from tests.support.dns import system_resolver
from tests.support.etcd import Etcd
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import BIN, ETCD, QUICK, Cluster, Member, environment
from tests.support.waiting import scaled

NAMES = ("n1", "n2", "n3")


def without_initial_cluster(cluster: Cluster, *flags: str) -> None:
    for member in cluster.members:
        member.flags = [flag for flag in member.flags if not flag.startswith("--initial-cluster=")] + list(flags)


def serves_as_one(cluster: Cluster) -> None:
    """All members belong to one cluster, which takes a write."""
    cluster.start()
    cluster["n1"].client.put(b"key", b"value")
    assert {member.client.get(b"key") for member in cluster.members} == {b"value"}
    assert {member.name for member in cluster["n1"].client.members()} == set(NAMES)


@pytest.mark.parametrize("programs", [{}, {"n2": ETCD}], ids=["tercet", "with etcd"])
def test_members_find_each_other_by_dns(plan: Planned, tmp_path: Path, programs: dict[str, tuple[str, ...]]) -> None:
    cluster = plan(NAMES, QUICK, programs=programs)
    without_initial_cluster(cluster, "--discovery-srv=cluster.example")
    records = {
        ("_etcd-server._tcp.cluster.example", "SRV"): [f"0 0 {one.peer_port} m.cluster.example." for one in cluster.members],
        ("_etcd-client._tcp.cluster.example", "SRV"): [f"0 0 {one.client_port} m.cluster.example." for one in cluster.members],
        ("m.cluster.example", "A"): ["127.0.0.1"],
    }
    with system_resolver(tmp_path, records) as wrapper:
        for member in cluster.members:
            member.wrapper = wrapper
        serves_as_one(cluster)
        for tool in ("tercetctl", "etcdctl"):
            command = [*wrapper, str(BIN / tool), "--discovery-srv=cluster.example", "get", "key", "--print-value-only"]
            outcome = subprocess.run(
                command, capture_output=True, text=True, timeout=scaled(20), env=environment({}, None), check=False
            )
            assert outcome.stdout == "value\n", outcome.stderr


def test_members_found_by_dns_show_certificates_of_the_domain(plan: Planned, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.sign("peer", "peer", "cluster.example")
    cluster = plan(NAMES, QUICK)
    without_initial_cluster(
        cluster, "--discovery-srv=cluster.example", f"--peer-cert-file={pair.cert}", f"--peer-key-file={pair.key}"
    )
    for member in cluster.members:
        member.flags = [re.sub("^(--.*-peer-urls=)http:", r"\1https:", flag) for flag in member.flags]
        member.variables = {"SSL_CERT_FILE": authority.path}
    records = {
        ("_etcd-server-ssl._tcp.cluster.example", "SRV"): [
            f"0 0 {one.peer_port} m.cluster.example." for one in cluster.members
        ],
        ("m.cluster.example", "A"): ["127.0.0.1"],
    }
    with system_resolver(tmp_path, records) as wrapper:
        for member in cluster.members:
            member.wrapper = wrapper
        serves_as_one(cluster)


@pytest.fixture
def token(shared_etcd: Etcd, request: pytest.FixtureRequest) -> Iterator[str]:
    """A token of the shared etcd, for a cluster of three."""
    token = f"{os.getpid()}-{abs(hash(request.node.name))}"
    shared_etcd.ctl("put", f"/_etcd/registry/{token}/_config/size", "3")
    yield token
    shared_etcd.ctl("del", "--prefix", f"/_etcd/registry/{token}")


def by_token(cluster: Cluster, service: Etcd, token: str) -> None:
    without_initial_cluster(cluster, f"--discovery-endpoints={service.client_url}", f"--discovery-token={token}")


@pytest.mark.parametrize("newer", [False, pytest.param(True, marks=needs_newer_etcd)], ids=["tercet", "with etcd"])
def test_members_find_each_other_by_a_token(plan: Planned, shared_etcd: Etcd, token: str, newer: bool) -> None:
    cluster = plan(NAMES, QUICK, programs={"n2": newer_etcd()} if newer else {})
    by_token(cluster, shared_etcd, token)
    serves_as_one(cluster)
    registered = shared_etcd.ctl("get", "--prefix", "--keys-only", f"/_etcd/registry/{token}/members/").split()
    ids = {f"{member.ID:x}" for member in cluster["n1"].client.members()}
    assert {key.rpartition("/")[2] for key in registered} == ids

    late = plan(["n4"], QUICK, directory="late")
    by_token(late, shared_etcd, token)
    assert refused(late["n4"]) == "failed to join discovery cluster (discovery: cluster is full)"

    restarted = cluster["n1"]
    restarted.stop()
    restarted.restart()  # its log has the members: the token does not count any more


def test_a_token_without_a_size_is_refused(plan: Planned, shared_etcd: Etcd) -> None:
    cluster = plan(["n1"])
    by_token(cluster, shared_etcd, "unknown")
    assert refused(cluster["n1"]) == "failed to join discovery cluster (discovery: size key not found)"


def refused(member: Member) -> str:
    assert member.start().wait_exit() == 1
    assert "do not reuse discovery token; generate a new one to bootstrap a cluster" in member.said()
    return member.reason().partition("discovery failed ")[2].strip()
