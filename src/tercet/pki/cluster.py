"""The certificates of a local cluster (`tercet up`), in one directory, created at the first start.

Two CAs: `ca` signs the certificates of clients and client listeners, `peer-ca` those of peers. With a single CA every client
certificate would be accepted on the peer ports, and its owner could impersonate a member.

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
    """The files of a cluster: two CA certificates, the client's pair, and two pairs per member."""

    ca: Path
    peer_ca: Path
    client: Pair
    servers: Mapping[str, Pair]
    peers: Mapping[str, Pair]


def ensure_certificates(
    directory: Path, members: Sequence[str], *, hosts: Sequence[str] = LOOPBACK_HOSTS, now: datetime | None = None
) -> ClusterCertificates:
    """Create missing files in `directory`, renew those about to expire, keep the others. Raises ConfigError, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    clients = Authority.load_or_create(directory, "ca", "tercet client authority", now=now)
    peers = Authority.load_or_create(directory, "peer-ca", "tercet peer authority", now=now)
    # etcd's auth takes the user name from the common name; as `root` this client keeps full rights when auth is enabled.
    client = clients.ensure(directory, "client", common_name="root", client=True, now=now)
    # A member connects to its own client port (the JSON gateway) and to its peers, so both pairs need `client auth`.
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
