"""Certificates of a deployment: which are created, kept or replaced, and unusable CAs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.plan.certificates import Certificates, ensure_certificates, inspect, missing
from tercet.errors import ConfigError
from tercet.pki import Request, explain, init_ca, keys
from tercet.pki.names import hosts_of
from tests.deploy.clusters import cluster_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def listing(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file in a directory."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_mode & 0o777, path.read_bytes()) for path in files}


def made(cluster: Cluster, *, now: datetime = NOW) -> Certificates:
    return ensure_certificates(cluster, now=now)


def pem(content: bytes | None) -> bytes:
    assert content is not None
    return content


def test_inspect_reports_missing_pairs_and_changes_nothing(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    lines = missing(cluster)
    assert not (tmp_path / "pki").exists()
    assert len(lines) == 9
    node1 = next(line for line in lines if "server certificate of node1" in line)
    for part in ("new server certificate", "365 days", "10.0.0.1", "127.0.0.1", "::1", "localhost", "node1", "the CA"):
        assert part in node1
    assert "10.0.0.2" not in node1


def test_every_host_and_role_has_a_pair_with_private_keys(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    certificates = made(cluster)
    files = listing(tmp_path / "pki")
    assert set(files) == {
        *("ca.pem", "ca-key.pem", "peer-ca.pem", "peer-ca-key.pem", "client.pem", "client-key.pem"),
        *(f"hosts/{name}/{role}.pem" for name in ("node1", "node2", "node3") for role in ("server", "peer")),
        *(f"hosts/{name}/{role}-key.pem" for name in ("node1", "node2", "node3") for role in ("server", "peer")),
    }
    assert (tmp_path / "pki").stat().st_mode & 0o777 == 0o700
    assert {mode for name, (mode, _) in files.items() if name.endswith("-key.pem")} == {0o600}
    ca, peer_ca = files["ca.pem"][1], files["peer-ca.pem"][1]
    for spec in cluster.hosts:
        server, peer = pem(certificates.servers[spec.name].pem), pem(certificates.peers[spec.name].pem)
        for host in (spec.address, spec.name, "127.0.0.1", "::1", "localhost"):
            assert not explain(server, ca_pem=ca, host=host, usage="server", now=NOW)
            assert not explain(peer, ca_pem=peer_ca, host=host, usage="client", now=NOW)
        assert explain(server, ca_pem=peer_ca, now=NOW)
        assert certificates.servers[spec.name].key_pem == files[f"hosts/{spec.name}/server-key.pem"][1]
    assert certificates.client is not None
    assert explain(pem(certificates.client.pem), ca_pem=ca, usage="server", now=NOW)
    assert not explain(pem(certificates.client.pem), ca_pem=ca, usage="client", now=NOW)


def test_valid_pairs_are_kept_unchanged(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    made(cluster)
    before = listing(tmp_path / "pki")
    made(cluster, now=NOW + timedelta(days=300))
    assert listing(tmp_path / "pki") == before


def test_repr_omits_keys(tmp_path: Path) -> None:
    certificates = made(cluster_of(tmp_path))
    key = pem(certificates.servers["node1"].key_pem).decode().splitlines()[1]
    assert key not in repr(certificates)
    assert key not in " ".join(pair.describe() for pair in certificates.pairs)


def test_shared_is_one_pair_for_all_members(tmp_path: Path) -> None:
    cluster = cluster_of(
        tmp_path, "tls: {shared: true, key_algorithm: rsa, names: {C: CN, O: k8s}, extra_hosts: [vip.example]}"
    )
    certificates = made(cluster)
    names = {"ca.pem", "ca-key.pem", "client.pem", "client-key.pem", "etcd.pem", "etcd-key.pem"}
    assert set(listing(tmp_path / "pki")) == names
    assert certificates.servers["node1"] is certificates.peers["node3"]
    certificate = x509.load_pem_x509_certificate(pem(certificates.servers["node1"].pem))
    assert {"10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1", "::1", "node2", "vip.example"} <= set(hosts_of(certificate))
    assert certificate.subject.rfc4514_string() == "CN=etcd,O=k8s,C=CN"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ("tls: {extra_hosts: [db.example]}", "the existing names are"),
        ("tls: {names: {O: acme}}", "the existing subject is"),
        ("tls: {key_algorithm: rsa}", "another algorithm or size"),
    ],
)
def test_a_pair_that_does_not_match_the_settings_is_replaced(tmp_path: Path, settings: str, why: str) -> None:
    made(cluster_of(tmp_path))
    before = listing(tmp_path / "pki")
    cluster = cluster_of(tmp_path, settings)
    assert all(why in line for line in missing(cluster, now=NOW))
    made(cluster)
    after = listing(tmp_path / "pki")
    assert not missing(cluster, now=NOW)
    assert {name for name in after if after[name] == before[name]} >= {"ca.pem", "ca-key.pem", "peer-ca.pem"}
    assert after["hosts/node1/server.pem"] != before["hosts/node1/server.pem"]


def test_a_changed_address_replaces_only_the_pairs_of_that_host(tmp_path: Path) -> None:
    made(cluster_of(tmp_path))
    first, *others = (cluster := cluster_of(tmp_path)).hosts
    lines = missing(replace(cluster, hosts=(replace(first, address="10.0.0.9"), *others)), now=NOW)
    assert [("server certificate of node1" in line, "peer certificate of node1" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    assert "10.0.0.1" in lines[0]


@pytest.mark.parametrize(("days", "is_renewed"), [(330, False), (336, True), (400, True)])
def test_pairs_are_renewed_30_days_before_expiry(tmp_path: Path, days: int, is_renewed: bool) -> None:
    cluster = cluster_of(tmp_path)
    made(cluster)
    assert bool(missing(cluster, now=NOW + timedelta(days=days))) == is_renewed


def test_short_lifetimes_are_not_renewed_at_every_run(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, "tls: {days: 7}")
    made(cluster)
    assert not missing(cluster, now=NOW + timedelta(days=3))
    assert missing(cluster, now=NOW + timedelta(days=6))


def test_a_missing_or_mismatched_key_is_replaced_with_its_certificate(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    made(cluster)
    node = tmp_path / "pki/hosts/node1"
    (node / "server-key.pem").unlink()
    (node / "peer-key.pem").write_bytes((tmp_path / "pki/hosts/node2/peer-key.pem").read_bytes())
    assert len(missing(cluster, now=NOW)) == 2
    made(cluster)
    assert not missing(cluster, now=NOW)


def test_the_mode_of_a_readable_key_is_corrected(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path)
    made(cluster)
    (tmp_path / "pki/ca-key.pem").chmod(0o644)
    made(cluster)
    assert (tmp_path / "pki/ca-key.pem").stat().st_mode & 0o777 == 0o600


def external_ca(directory: Path, *, days: float = 3650, now: datetime = NOW, name: str = "house CA") -> str:
    """Write a CA; returns the settings that use it."""
    issued = init_ca(Request(name), timedelta(days=days), now=now)
    (directory / "corp-ca.pem").write_bytes(issued.certificate)
    (directory / "corp-ca-key.pem").write_bytes(issued.key)
    (directory / "corp-ca-key.pem").chmod(0o600)
    return "tls: {ca_certificate: corp-ca.pem, ca_key: corp-ca-key.pem}"


def test_an_external_ca_signs_everything(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, external_ca(tmp_path))
    certificates = made(cluster)
    assert not any("ca" in Path(name).name for name in listing(tmp_path / "pki"))
    authority = (tmp_path / "corp-ca.pem").read_bytes()
    for pair in (*certificates.servers.values(), *certificates.peers.values()):
        assert not explain(pem(pair.pem), ca_pem=authority, now=NOW)


def test_new_keys_are_of_the_type_of_the_external_ca_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    """A cluster that is taken over keeps its type of keys; certificates that are there are not replaced for it."""
    ca = init_ca(Request("house CA", (), (), "rsa", 2048), timedelta(days=3650), path_length=0, now=NOW)
    (tmp_path / "house.pem").write_bytes(ca.certificate)
    (tmp_path / "house-key.pem").write_bytes(ca.key)
    (tmp_path / "house-key.pem").chmod(0o600)
    files = "ca_certificate: house.pem, ca_key: house-key.pem"

    def types(settings: str) -> set[tuple[str, int]]:
        pairs = made(cluster_of(tmp_path, f"tls: {{{files}{settings}}}")).servers.values()
        return {keys.like(x509.load_pem_x509_certificate(pem(pair.pem)).public_key()) for pair in pairs}

    assert types("") == {("rsa", 2048)}
    assert types(", key_algorithm: ecdsa") == {("ecdsa", 256)}
    assert types("") == {("ecdsa", 256)}, "kept"


def test_an_expired_ca_is_an_error(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, external_ca(tmp_path, days=10, now=NOW - timedelta(days=11)))
    with pytest.raises(ConfigError) as raised:
        made(cluster)
    for part in ("corp-ca.pem", "expired", "unusable CA", "renew"):
        assert part in str(raised.value)
    assert not (tmp_path / "pki").exists()


def test_a_ca_that_is_not_yet_valid_is_reported_as_a_clock_problem(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, external_ca(tmp_path, now=NOW + timedelta(days=1)))
    with pytest.raises(ConfigError, match=r"corp-ca\.pem: .*clock"):
        inspect(cluster, now=NOW)


def test_a_ca_with_a_mismatched_key_is_an_error(tmp_path: Path) -> None:
    settings = external_ca(tmp_path)
    (tmp_path / "corp-ca-key.pem").write_bytes(init_ca(Request("other"), now=NOW).key)
    with pytest.raises(ConfigError, match=r"corp-ca-key\.pem is not the key of .*corp-ca\.pem"):
        inspect(cluster_of(tmp_path, settings), now=NOW)


@pytest.mark.parametrize("lost", ["ca.pem", "ca-key.pem", "peer-ca-key.pem"])
def test_an_incomplete_ca_is_never_replaced(tmp_path: Path, lost: str) -> None:
    cluster = cluster_of(tmp_path)
    made(cluster)
    (tmp_path / "pki" / lost).unlink()
    before = listing(tmp_path / "pki")
    with pytest.raises(ConfigError, match=lost):
        made(cluster)
    assert listing(tmp_path / "pki") == before


def test_without_tls_there_are_no_certificates(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, "tls: {enabled: false}")
    assert made(cluster).pairs == ()
    assert not (tmp_path / "pki").exists()


def test_a_directory_that_cannot_be_created_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file")
    with pytest.raises(ConfigError, match=r"pki: "):
        made(cluster_of(tmp_path))
