"""The CA of `tercet up`: valid certificates are kept, others replaced, keys are private, and TLS accepts the result."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from tercet.errors import ConfigError
from tercet.pki import Authority, ensure_certificates
from tercet.pki.files import write

NAMES = ["n1", "n2"]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """A TLS handshake in memory; the client's end of it. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            break
    return ends[0]


def context(purpose: ssl.Purpose, ca: Path, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(purpose, cafile=str(ca))
    if certificate is not None:
        made.load_cert_chain(certificate, key)
    if purpose is ssl.Purpose.CLIENT_AUTH:
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def test_members_and_clients_trust_each_other(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, NAMES)
    server = context(ssl.Purpose.CLIENT_AUTH, files.ca, files.servers["n1"].certificate, files.servers["n1"].key)
    client = context(ssl.Purpose.SERVER_AUTH, files.ca, files.client.certificate, files.client.key)
    for name in ("localhost", "127.0.0.1", "::1"):
        assert handshake(server, client, name).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, client, "example.com")
    peers = [context(ssl.Purpose.CLIENT_AUTH, files.peer_ca, pair.certificate, pair.key) for pair in files.peers.values()]
    dialer = context(ssl.Purpose.SERVER_AUTH, files.peer_ca, files.peers["n2"].certificate, files.peers["n2"].key)
    assert handshake(peers[0], dialer, "127.0.0.1").version() == "TLSv1.3"


def test_a_client_certificate_is_rejected_by_peers(tmp_path: Path) -> None:
    """The peer CA does not sign client certificates."""
    files = ensure_certificates(tmp_path, NAMES)
    peer = context(ssl.Purpose.CLIENT_AUTH, files.peer_ca, files.peers["n1"].certificate, files.peers["n1"].key)
    client = context(ssl.Purpose.SERVER_AUTH, files.peer_ca, files.client.certificate, files.client.key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(peer, client, "127.0.0.1")


def test_certificates_have_the_expected_names_and_usages(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, NAMES)
    for path in tmp_path.glob("*.crt"):
        key = load(path).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
    usage = load(files.client.certificate).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    constraints = load(files.ca).extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)


def test_keys_are_readable_by_the_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)  # the mode must not depend on the umask
    try:
        ensure_certificates(tmp_path / "certs", NAMES)
    finally:
        os.umask(before)
    keys = list((tmp_path / "certs").glob("*.key"))
    assert len(keys) == 7
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}
    assert stat.S_IMODE((tmp_path / "certs").stat().st_mode) == 0o700
    keys[0].chmod(0o644)
    ensure_certificates(tmp_path / "certs", NAMES)
    assert stat.S_IMODE(keys[0].stat().st_mode) == 0o600


def test_valid_certificates_are_kept(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    before = contents(tmp_path)
    ensure_certificates(tmp_path, NAMES)
    assert contents(tmp_path) == before


def test_expiring_certificates_are_renewed(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    before = contents(tmp_path)
    ensure_certificates(tmp_path, NAMES, now=datetime.now(UTC) + timedelta(days=340))
    after = contents(tmp_path)
    assert {name for name in before if before[name] == after[name]} == {"ca.crt", "ca.key", "peer-ca.crt", "peer-ca.key"}
    ensure_certificates(tmp_path, NAMES, now=datetime.now(UTC) + timedelta(days=3640))
    assert not [name for name, content in contents(tmp_path).items() if content == after[name]]


@pytest.mark.parametrize("damage", ["remove certificate", "remove key", "other names", "other key", "nonsense"])
def test_unusable_certificates_are_replaced(tmp_path: Path, damage: str) -> None:
    files = ensure_certificates(tmp_path, NAMES)
    pair, other = files.servers["n1"], files.servers["n2"]
    hosts = ["localhost"] if damage == "other names" else ["localhost", "127.0.0.1", "::1"]
    if damage == "remove certificate":
        pair.certificate.unlink()
    elif damage == "remove key":
        pair.key.unlink()
    elif damage == "other key":
        pair.key.write_bytes(other.key.read_bytes())
    elif damage == "nonsense":
        pair.certificate.write_bytes(b"no certificate")
    fixed = ensure_certificates(tmp_path, NAMES, hosts=hosts)
    server = context(ssl.Purpose.CLIENT_AUTH, fixed.ca, fixed.servers["n1"].certificate, fixed.servers["n1"].key)
    client = context(ssl.Purpose.SERVER_AUTH, fixed.ca, fixed.client.certificate, fixed.client.key)
    assert handshake(server, client, "localhost").version() == "TLSv1.3"


def test_certificates_of_another_ca_are_replaced(tmp_path: Path) -> None:
    files = ensure_certificates(tmp_path, NAMES)
    before = files.client.certificate.read_bytes()
    files.ca.unlink()
    files.ca.with_suffix(".key").unlink()
    assert ensure_certificates(tmp_path, NAMES).client.certificate.read_bytes() != before


def test_a_ca_without_its_key_is_an_error(tmp_path: Path) -> None:
    """A new CA would invalidate certificates that others use."""
    files = ensure_certificates(tmp_path, NAMES)
    files.ca.with_suffix(".key").unlink()
    with pytest.raises(ConfigError, match=r"ca\.crt with .*ca\.key"):
        ensure_certificates(tmp_path, NAMES)


def test_a_first_start_can_be_interrupted(tmp_path: Path) -> None:
    """The key is written first; a key without certificate has signed nothing."""
    Authority.load_or_create(tmp_path, "ca", "authority")
    (tmp_path / "ca.crt").unlink()
    assert Authority.load_or_create(tmp_path, "ca", "authority").certificate_path.exists()


def test_writes_are_atomic_and_follow_no_symlinks(tmp_path: Path) -> None:
    target, planted = tmp_path / "secret", tmp_path / "elsewhere"
    target.symlink_to(planted)
    write(target, b"one", mode=0o600)
    assert not planted.exists()
    assert not target.is_symlink()
    write(target, b"two", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert target.read_bytes() == b"two"
