"""Files of clusters that others set up, and what `tercet deploy init` reads from them."""

from __future__ import annotations

from pathlib import Path

from tercet.deploy.cluster.cluster_file import Cluster, parse
from tercet.deploy.draft.draft import Imported
from tercet.deploy.draft.importing import from_environment_sh, from_unit

ENVIRONMENT = r"""#!/usr/bin/bash

# the key that encrypts secrets
ENCRYPTION_KEY=$(head -c 32 /dev/urandom | base64)
SERVICE_CIDR="10.254.0.0/16"  # a network that is not in use
export NODE_PORT_RANGE="8400-9000"

export NODE_IPS=(172.27.129.105 172.27.129.111 172.27.129.112)
export NODE_NAMES=(kube-node1 "kube-node2"
    'kube-node3')   # in the same order

export MASTER_VIP=172.27.129.253
export KUBE_APISERVER="https://${MASTER_VIP}:8443"
export ETCD_ENDPOINTS="https://172.27.129.105:2379,https://172.27.129.111:2379,https://172.27.129.112:2379"
export ETCD_NODES="kube-node1=https://172.27.129.105:2380,\
kube-node2=https://172.27.129.111:2380,kube-node3=https://172.27.129.112:2380"
export PATH=/opt/k8s/bin:$PATH
"""

UNIT = r"""[Unit]
Description=Etcd Server
After=network-online.target
Wants=network-online.target

[Service]
User=k8s
Type=notify
WorkingDirectory=/var/lib/etcd/
ExecStart=/opt/k8s/bin/etcd \
  --data-dir=/var/lib/etcd \
  --name=##NODE_NAME## \
  --cert-file=/etc/etcd/cert/etcd.pem \
  --key-file=/etc/etcd/cert/etcd-key.pem \
  --trusted-ca-file=/etc/kubernetes/cert/ca.pem \
  --peer-cert-file=/etc/etcd/cert/etcd.pem \
  --peer-key-file=/etc/etcd/cert/etcd-key.pem \
  --peer-trusted-ca-file=/etc/kubernetes/cert/ca.pem \
  --peer-client-cert-auth \
  --client-cert-auth \
  --listen-peer-urls=https://##NODE_IP##:2380 \
  --initial-advertise-peer-urls=https://##NODE_IP##:2380 \
  --listen-client-urls=https://##NODE_IP##:2379,http://127.0.0.1:2379 \
  --advertise-client-urls=https://##NODE_IP##:2379 \
  --initial-cluster-token=etcd-cluster-0 \
  --initial-cluster=${ETCD_NODES} \
  --initial-cluster-state=new
Restart=on-failure
RestartSec=5
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""

MEMBERS = "kube-node1=https://172.27.129.105:2380,kube-node2=https://172.27.129.111:2380,kube-node3=https://172.27.129.112:2380"


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def environment(directory: Path, text: str = ENVIRONMENT) -> Imported:
    return from_environment_sh(written(directory / "environment.sh", text))


def unit(directory: Path, text: str, name: str = "etcd.service") -> Imported:
    return from_unit(written(directory / name, text))


def unit_with(flags: str, service: str = "") -> str:
    return f"[Service]\nUser=etcd\n{service}\nExecStart=/usr/local/bin/etcd --initial-cluster={MEMBERS} {flags}\n"


def loaded(imported: Imported) -> Cluster:
    """Also asserts that every note is in the text."""
    flat = " ".join(imported.text.replace("\n#   ", " ").split())
    for note in imported.notes:
        assert " ".join(note.split()) in flat
    return parse(imported.text, Path("/srv/cluster.yaml"))
