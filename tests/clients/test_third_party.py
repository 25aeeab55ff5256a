"""Third-party Python clients: what they offer."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tercet.pki import ensure_certificates
from tests.support.processes import Cluster, Member, etcdctl
from tests.support.waiting import scaled

_HERE = Path(__file__).parent


def run(python: Path, script: str, *words: object, **variables: str) -> None:
    command = [str(python), "-W", "ignore", str(_HERE / script), *map(str, words)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=scaled(60), env={**kept, **variables}, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all held\n")


def test_etcd3(cluster: Cluster, clients_python: Path) -> None:
    """Its generated modules are from 2020; only the Python implementation of current protobuf loads them."""
    credentials = cluster["n2"].credentials
    assert credentials is not None
    files = (credentials.ca, credentials.certificate, credentials.key)
    port = cluster["n2"].client_port
    run(clients_python, "with_etcd3.py", port, *files, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")


def test_aetcd(plain: Member, clients_python: Path) -> None:
    run(clients_python, "with_aetcd.py", plain.client_port)


def test_their_messages_and_ours_in_one_process(clients_python: Path) -> None:
    """Every etcd client defines etcdserverpb.PutRequest; a descriptor pool accepts a name once."""
    sources = str(_HERE.parents[1] / "src")
    run(clients_python, "beside_tercet.py", "aetcd.rpc.rpc_pb2", PYTHONPATH=sources)
    variables = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    run(clients_python, "beside_tercet.py", "etcd3.etcdrpc.rpc_pb2", PYTHONPATH=sources, **variables)


def test_both_with_users(tmp_path: Path, clients_python: Path) -> None:
    certificates = ensure_certificates(tmp_path / "certificates", ["n1"])
    secured = Cluster.plan(tmp_path / "secured", ["n1"], ["--bcrypt-cost=4"], certificates=certificates)
    plain = Cluster.plan(tmp_path / "plain", ["n1"], ["--bcrypt-cost=4"])
    try:
        for cluster in (secured, plain):
            members = cluster.start().members
            for words in (
                "user add root:horse",
                "user add ann:battery",
                "role add a",
                "role grant-permission a readwrite a --prefix",
                "user grant-role ann a",
                "auth enable",
            ):
                done = etcdctl(members, *words.split())
                assert done.returncode == 0, done.stderr
        files = (certificates.ca, certificates.client.certificate, certificates.client.key)
        ports = secured.members[0].client_port, plain.members[0].client_port
        words_ = (ports[0], *files, ports[1])
        run(clients_python, "with_users.py", *words_, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python")
    finally:
        secured.dispose()
        plain.dispose()
