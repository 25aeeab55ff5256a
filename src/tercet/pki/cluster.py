"""The certificates of one cluster on this host, in one directory, made at the first start and kept.

Two authorities, not one: `ca` signs what clients and client listeners show, `peer-ca` what members show each other. With a
single authority every client's certificate would also open the peer port, and whoever may read a key could speak as a member.

    ca.crt ca.key  peer-ca.crt peer-ca.key  client.crt client.key  NAME-server.crt/.key  NAME-peer.crt/.key   (keys: mode 0600)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tercet.pki.authority import Authority, Pair

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class ClusterCertificates:
    """All files of a cluster: the two authorities' certificates, the client's pair, and two pairs of each member."""

    ca: Path
    peer_ca: Path
    client: Pair
    servers: Mapping[str, Pair]
    peers: Mapping[str, Pair]


def ensure_certificates(
    directory: Path, members: Sequence[str], *, hosts: Sequence[str] = LOOPBACK_HOSTS, now: datetime | None = None
) -> ClusterCertificates:
    """Make what is missing in `directory`, renew what is about to expire, keep the rest. Raises ConfigError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    clients = Authority.load_or_create(directory, "ca", "tercet client authority", now=now)
    peers = Authority.load_or_create(directory, "peer-ca", "tercet peer authority", now=now)
    # The user `root` is the name that etcd's auth, once enabled, takes from a certificate; so this one keeps its rights.
    client = clients.ensure(directory, "client", common_name="root", client=True, now=now)
    # A member dials its own client port (the JSON gateway) and its peers' ports, so both kinds are client certificates as well.
    return ClusterCertificates(
        ca=clients.certificate_path,
        peer_ca=peers.certificate_path,
        client=client,
        servers={
            name: clients.ensure(directory, f"{name}-server", common_name=name, hosts=hosts, server=True, client=True, now=now)
            for name in members
        },
        peers={
            name: peers.ensure(directory, f"{name}-peer", common_name=name, hosts=hosts, server=True, client=True, now=now)
            for name in members
        },
    )
