"""The flags of a member: etcd's long flags, in the order of the unit. tercet and etcd take the same ones."""

from __future__ import annotations

import ipaddress

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.errors import ConfigError

_ALL_ADDRESSES = "0.0.0.0"


def member_flags(cluster: Cluster, spec: HostSpec, *, cluster_state: str = "new") -> dict[str, str]:
    """cluster_state: "new" or "existing", of the member's first start. Raises ConfigError."""
    peer_port, client_port = cluster.listen.peer_port, cluster.listen.client_port
    flags = {"name": spec.name, "data-dir": cluster.paths.data}
    if cluster.paths.wal is not None:
        flags["wal-dir"] = cluster.paths.wal
    if cluster.tls.enabled:
        flags |= _tls_flags(cluster)
    flags |= {
        "listen-peer-urls": f"{cluster.scheme}://{_listen_address(spec)}:{peer_port}",
        "initial-advertise-peer-urls": cluster.peer_url(spec),
        "listen-client-urls": ",".join(_client_listeners(cluster, spec, client_port)),
        "advertise-client-urls": cluster.client_url(spec),
    }
    if cluster.listen.metrics_url is not None:
        flags["listen-metrics-urls"] = cluster.listen.metrics_url
    flags |= {
        "initial-cluster": cluster.initial_cluster(),
        "initial-cluster-token": cluster.token,
        "initial-cluster-state": cluster_state,
    }
    # Not at the end: the last line has no backslash, so an additional last flag would change two lines of the diff.
    flags |= dict(sorted(cluster.flags_of(spec).items()))
    return flags | {
        "quota-backend-bytes": str(cluster.quota_backend_bytes),
        "auto-compaction-mode": cluster.auto_compaction_mode,
        "auto-compaction-retention": cluster.auto_compaction_retention,
    }


def certificate_files(cluster: Cluster) -> dict[str, str]:
    """Paths on the host by role: server, server-key, peer, peer-key, ca, peer-ca. Roles may share a file."""
    directory = cluster.paths.certificates
    server, peer = ("etcd", "etcd") if cluster.tls.shared else ("server", "peer")
    has_one_ca = cluster.tls.shared or cluster.tls.ca_certificate is not None
    return {
        "server": f"{directory}/{server}.pem",
        "server-key": f"{directory}/{server}-key.pem",
        "peer": f"{directory}/{peer}.pem",
        "peer-key": f"{directory}/{peer}-key.pem",
        "ca": cluster.paths.ca_file,
        "peer-ca": cluster.paths.ca_file if has_one_ca else f"{directory}/peer-ca.pem",
    }


def _tls_flags(cluster: Cluster) -> dict[str, str]:
    files = certificate_files(cluster)
    return {
        "cert-file": files["server"],
        "key-file": files["server-key"],
        "client-cert-auth": "true",
        "trusted-ca-file": files["ca"],
        "peer-cert-file": files["peer"],
        "peer-key-file": files["peer-key"],
        "peer-client-cert-auth": "true",
        "peer-trusted-ca-file": files["peer-ca"],
    }


def _client_listeners(cluster: Cluster, spec: HostSpec, port: int) -> list[str]:
    address, listen = _listen_address(spec), cluster.listen
    urls = [f"{cluster.scheme}://{address}:{port}"]
    if address == _ALL_ADDRESSES:
        if listen.plain_loopback and cluster.tls.enabled:
            raise ConfigError(
                f"{cluster.path}:{spec.line}: {spec.address} is a DNS name, so the member listens on all addresses, including "
                f"127.0.0.1; listen.plain_loopback requires an IP address"
            )
        return urls
    if listen.plain_loopback:
        urls.append(f"http://127.0.0.1:{port}")
    elif listen.loopback:
        urls.append(f"{cluster.scheme}://127.0.0.1:{port}")
    return list(dict.fromkeys(urls))


def _listen_address(spec: HostSpec) -> str:
    """etcd listens on IP addresses only; for a DNS name the member listens on all."""
    try:
        address = ipaddress.ip_address(spec.address)
    except ValueError:
        return _ALL_ADDRESSES
    return f"[{address}]" if address.version == 6 else str(address)
