"""Clusters with TLS: among members and to clients, with certificates that can be replaced while they run."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

import tercet
from tercet.errors import ConfigError
from tercet.testing import Cluster
from tests.support.etcd import run_tool
from tests.support.waiting import scaled, stretched


@pytest.fixture(scope="module")
def secure() -> Iterator[Cluster]:
    with Cluster(3, tls=True, config={"heartbeat_interval": 50, "election_timeout": 500}) as started:
        yield started


def serial(cluster: Cluster) -> str:
    """Of the certificate that the first member shows to clients."""
    assert cluster.tls is not None
    with handshake(cluster, cluster.tls) as connection:
        found = connection.getpeercert()
    assert found is not None
    return str(found["serialNumber"])


def handshake(cluster: Cluster, files: tercet.TLSFiles) -> ssl.SSLSocket:
    """A connection to the first member."""
    host, _, port = cluster.endpoint.rpartition("//")[2].rpartition(":")
    with socket.create_connection((host, int(port)), scaled(10)) as plain:
        return files.context().wrap_socket(plain, server_hostname=host)


def test_members_use_tls_among_themselves_and_to_clients(secure: Cluster) -> None:
    urls = [url for member in secure.members for url in member.server.config.initial_advertise_peer_urls]
    assert {url.scheme for url in urls} == {"https"}
    assert all(endpoint.startswith("https://") for endpoint in secure.endpoints)
    with secure.client() as client:
        client.put("a", "1")
        assert {member.name for member in client.cluster.list_members()} == {"m0", "m1", "m2"}
    assert "1" in run_tool("etcdctl", *flags(secure), "get", "a")


def flags(cluster: Cluster) -> list[str]:
    names = {"ETCDCTL_ENDPOINTS": "endpoints", "ETCDCTL_CACERT": "cacert", "ETCDCTL_CERT": "cert", "ETCDCTL_KEY": "key"}
    return [f"--{names[name]}={value}" for name, value in cluster.env.items() if name in names]


def test_a_client_without_a_certificate_is_refused(secure: Cluster) -> None:
    assert secure.tls is not None
    for tls in (None, tercet.TLSFiles(secure.tls.cacert)):
        with tercet.Client(secure.endpoints, tls=tls, timeout=stretched(2)) as client, pytest.raises(tercet.TercetError):
            client.get("a")


def test_a_certificate_of_clients_is_refused_by_peers(secure: Cluster) -> None:
    assert secure.tls is not None
    peer = secure.members[0].server.config.initial_advertise_peer_urls[0].text
    with tercet.Client(peer, tls=secure.tls, timeout=stretched(2)) as client, pytest.raises(tercet.TercetError):
        client.get("a")


def test_a_user_can_be_named_by_a_certificate(secure: Cluster) -> None:
    assert secure.certificates is not None
    with secure.client() as client:
        client.auth.add_user("root", "root")
        client.auth.grant_role("root", "root")
        client.auth.enable()
        with secure.client(tls=secure.certificates.for_user("root")) as root:
            with pytest.raises(tercet.TercetError):
                client.put("a", "refused")
            root.put("a", "accepted")
            root.auth.disable()
    secure.reset()


@pytest.mark.parametrize("authorities", [False, True])
def test_rotated_certificates_are_used_by_new_connections(secure: Cluster, authorities: bool) -> None:
    assert secure.tls is not None
    before, authority = serial(secure), Path(secure.tls.cacert).read_bytes()
    with secure.client(retry=tercet.Retry.ALWAYS, timeout=scaled(20)) as client:
        client.put("a", "1")
        secure.rotate_certs(authorities=authorities)
        assert serial(secure) != before
        assert (Path(secure.tls.cacert).read_bytes() != authority) == authorities
        secure.disconnect_clients()
        client.put("a", "2")
        follower = secure.followers()[0]
        follower.restart()  # its peers and it connect with the new files
        client.put("a", "3")
        with secure.client(endpoints=follower.endpoints, timeout=scaled(20)) as other:
            assert other.get("a").text() == "3"  # type: ignore[union-attr]


def test_after_a_rotation_of_authorities_old_files_are_refused(secure: Cluster, tmp_path: Path) -> None:
    assert secure.tls is not None
    old = []
    for path in (secure.tls.cacert, secure.tls.cert, secure.tls.key):
        old.append(str(tmp_path / Path(path).name))
        Path(old[-1]).write_bytes(Path(path).read_bytes())
    files = tercet.TLSFiles(*old)
    with secure.client(tls=files) as client:
        client.put("a", "1")
    secure.rotate_certs(authorities=True)
    with secure.client(tls=files, timeout=stretched(2)) as client, pytest.raises(tercet.TercetError):
        client.put("a", "2")
    with pytest.raises(ssl.SSLError):
        handshake(secure, files)


def test_certificates_are_removed_with_the_cluster() -> None:
    with Cluster(1, tls=True) as cluster:
        assert cluster.certificates is not None
        directory = cluster.certificates.directory
        assert (directory / "ca.crt").exists()
    assert not directory.exists()


def test_rotation_needs_tls() -> None:
    with Cluster(1) as cluster, pytest.raises(ConfigError, match="tls=True"):
        cluster.rotate_certs()
