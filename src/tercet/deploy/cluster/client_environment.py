"""What clients of the cluster need: its endpoints and the operator's certificate, also as variables of etcdctl and tercetctl.

Connects to no host, so that `eval "$(tercet deploy env)"` in a shell's startup file imports little.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tercet.deploy.cluster.cluster import Cluster


class OperatorFiles(NamedTuple):
    """Local paths. They do not exist before the first apply."""

    cacert: Path
    cert: Path
    key: Path


def operator_files(cluster: Cluster) -> OperatorFiles:
    """The CA of the members, and the operator's client certificate and key."""
    directory = cluster.tls.directory
    return OperatorFiles(
        cluster.tls.ca_certificate or directory / "ca.pem", directory / "client.pem", directory / "client-key.pem"
    )


def client_environment(cluster: Cluster, name: str | None = None) -> dict[str, str]:
    """Environment variables for etcdctl and tercetctl, for one member or all. Raises KeyError for an unknown name."""
    endpoints = cluster.endpoints() if name is None else [cluster.client_url(cluster.host(name))]
    environment = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(endpoints)}
    if cluster.tls.enabled:
        files = operator_files(cluster)
        environment |= {f"ETCDCTL_{role.upper()}": str(path) for role, path in files._asdict().items()}
    return environment
