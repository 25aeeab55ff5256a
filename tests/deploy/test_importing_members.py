"""Members that kubespray and kubeadm set up become a cluster file that changes nothing on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from tercet.deploy.cluster.cluster_file import parse
from tercet.deploy.draft.importing import from_files
from tercet.errors import ConfigError
from tests.deploy.imported import written

KUBESPRAY = """# Environment file for etcd 3.5.16
ETCD_DATA_DIR=/var/lib/etcd
ETCD_ADVERTISE_CLIENT_URLS=https://10.0.0.1:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.1:2380
ETCD_INITIAL_CLUSTER_STATE=existing
ETCD_METRICS=basic
ETCD_LISTEN_CLIENT_URLS=https://10.0.0.1:2379,https://127.0.0.1:2379
ETCD_ELECTION_TIMEOUT=5000
ETCD_HEARTBEAT_INTERVAL=250
ETCD_INITIAL_CLUSTER_TOKEN=k8s_etcd
ETCD_LISTEN_PEER_URLS=https://10.0.0.1:2380
ETCD_NAME=etcd1
ETCD_PROXY=off
ETCD_INITIAL_CLUSTER=etcd1=https://10.0.0.1:2380,etcd2=https://10.0.0.2:2380,etcd3=https://10.0.0.3:2380
ETCD_AUTO_COMPACTION_RETENTION="8"
# TLS settings
ETCD_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PEER_TRUSTED_CA_FILE=/etc/ssl/etcd/ssl/ca.pem
ETCD_PEER_CERT_FILE=/etc/ssl/etcd/ssl/member-node1.pem
ETCD_PEER_KEY_FILE=/etc/ssl/etcd/ssl/member-node1-key.pem
ETCD_PEER_CLIENT_CERT_AUTH=True
ETCDCTL_ENDPOINTS=https://127.0.0.1:2379
"""

KUBESPRAY_UNIT = """[Unit]
Description=etcd
[Service]
Type=notify
User=root
EnvironmentFile=/etc/etcd.env
ExecStart=/usr/local/bin/etcd
Restart=always
RestartSec=10s
LimitNOFILE=40000
"""

KUBEADM = """apiVersion: v1
kind: Pod
metadata:
  name: etcd
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://10.0.0.2:2379
    - --cert-file=/etc/kubernetes/pki/etcd/server.crt
    - --client-cert-auth=true
    - --data-dir=/var/lib/etcd
    - --initial-advertise-peer-urls=https://10.0.0.2:2380
    - --initial-cluster=node1=https://10.0.0.1:2380,node2=https://10.0.0.2:2380
    - --initial-cluster-state=existing
    - --key-file=/etc/kubernetes/pki/etcd/server.key
    - --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.2:2379
    - --listen-metrics-urls=http://127.0.0.1:2381
    - --listen-peer-urls=https://10.0.0.2:2380
    - --name=node2
    - --peer-cert-file=/etc/kubernetes/pki/etcd/peer.crt
    - --peer-client-cert-auth=true
    - --peer-key-file=/etc/kubernetes/pki/etcd/peer.key
    - --peer-trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    - --snapshot-count=10000
    - --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt
    image: registry.k8s.io/etcd:3.5.15-0
"""


@pytest.mark.parametrize("has_unit", [True, False])
def test_kubespray_keeps_what_its_members_have(tmp_path: Path, has_unit: bool) -> None:
    files = [written(tmp_path / "etcd.env", KUBESPRAY)]
    if has_unit:
        files.append(written(tmp_path / "etcd.service", KUBESPRAY_UNIT))
    imported = from_files(files)
    made = parse(imported.text, tmp_path / "cluster.yaml")
    assert [(host.name, host.address) for host in made.hosts] == [(f"etcd{n}", f"10.0.0.{n}") for n in (1, 2, 3)]
    assert (made.engine.kind, made.token, made.service.unit) == ("etcd", "k8s_etcd", "etcd")
    assert (made.paths.certificates, made.paths.data) == ("/etc/ssl/etcd/ssl", "/var/lib/etcd")
    assert (made.auto_compaction_retention, made.quota_backend_bytes) == ("8", 2 << 30)
    assert (made.flags["heartbeat-interval"], made.flags["election-timeout"]) == ("250", "5000")
    assert made.service.user == ("root" if has_unit else "etcd")
    assert made.adopted
    assert not any("/etc/etcd.env is on the hosts" in note for note in imported.notes)


def test_a_static_pod_of_kubeadm_keeps_its_certificates(tmp_path: Path) -> None:
    imported = from_files([written(tmp_path / "etcd.yaml", KUBEADM)])
    made = parse(imported.text, tmp_path / "cluster.yaml")
    assert [(host.name, host.address) for host in made.hosts] == [("node1", "10.0.0.1"), ("node2", "10.0.0.2")]
    assert made.tls.enabled
    assert made.paths.certificates == "/etc/etcd/cert"
    assert (made.auto_compaction_retention, made.quota_backend_bytes) == ("0", 2 << 30)
    assert any("/etc/kubernetes/pki/etcd" in note and "ca.key" in note for note in imported.notes)
    assert any("move its manifest out" in note for note in imported.notes)
    assert made.adopted


@pytest.mark.parametrize(
    ("text", "engine", "adopted"),
    [
        (KUBESPRAY, None, True),
        (KUBESPRAY, "etcd", True),
        (KUBESPRAY, "tercet", False),  # another engine is a change
    ],
)
def test_members_of_others_are_adopted_as_they_are(
    tmp_path: Path, text: str, engine: Literal["etcd", "tercet"] | None, adopted: bool
) -> None:
    imported = from_files([written(tmp_path / "etcd.env", text)], engine=engine)
    assert parse(imported.text, tmp_path / "cluster.yaml").adopted is adopted
    assert any("adopted: true" in note for note in imported.notes) is adopted


def test_a_unit_of_tercet_deploy_is_not_adopted(tmp_path: Path) -> None:
    unit = written(
        tmp_path / "etcd.service",
        "[Service]\nExecStart=/opt/etcd/current/bin/etcd --name=a --initial-cluster=a=https://10.0.0.1:2380\n",
    )
    assert not parse(from_files([unit]).text, tmp_path / "cluster.yaml").adopted


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("etcd.yaml", "kind: Pod\nspec: {containers: [{command: [sleep]}]}\n", "the pod does not run etcd"),
        ("etcd.yaml", "kind: Pod\nspec: {}\n", "not the manifest of a static pod"),
        ("etcd.yaml", "kind: Pod\nspec: [\n", "not the manifest of a static pod"),
        ("etcd.env", "ETCD_INITIAL_CLUSTER=a=http://10.0.0.1:2380\nnonsense\n", r"etcd\.env:2: 'nonsense' is not NAME=VALUE"),
    ],
)
def test_damaged_files_of_others_are_errors(tmp_path: Path, name: str, text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        from_files([written(tmp_path / name, text)])
