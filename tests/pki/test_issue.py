"""The library: issued certificates match their request and profile, keys stay hidden, invalid requests are rejected."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from tercet.errors import ConfigError
from tercet.pki import Issued, Profile, Request, days_left, explain, init_ca, issue, issue_as, load_ca, renew
from tercet.pki.certificate import parse_certificates
from tercet.pki.files import write_all
from tercet.pki.names import general_name, hosts_of, short_text, subject_text
from tercet.pki.usages import CLIENT, SERVER, usages_of
from tests.pki.test_authority import context, handshake

NOW = datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC)
CA = init_ca(Request("ca"), now=NOW)


def certificate_of(issued: Issued) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issued.certificate)


def written(directory: Path, name: str, issued: Issued) -> tuple[Path, Path]:
    """Certificate and key as files."""
    paths = directory / f"{name}.pem", directory / f"{name}-key.pem"
    for path, content in zip(paths, issued, strict=False):
        path.write_bytes(content)
    return paths


@pytest.mark.parametrize(
    ("algorithm", "size", "kind", "header"),
    [
        ("rsa", None, rsa.RSAPrivateKey, b"RSA PRIVATE KEY"),
        ("ecdsa", None, ec.EllipticCurvePrivateKey, b"EC PRIVATE KEY"),
        ("ecdsa", 521, ec.EllipticCurvePrivateKey, b"EC PRIVATE KEY"),
        ("ed25519", None, ed25519.Ed25519PrivateKey, b"PRIVATE KEY"),
    ],
)
def test_every_key_algorithm_works_in_tls(tmp_path: Path, algorithm: str, size: int | None, kind: type, header: bytes) -> None:
    ca = init_ca(Request("ca", key_algorithm=algorithm, key_size=size)).pair()
    certificate, key, request = issue(ca, Request("n1", ("localhost",), key_algorithm=algorithm, key_size=size))
    assert key.startswith(b"-----BEGIN " + header)
    assert isinstance(Issued(certificate, key, request).pair().key, kind)
    assert x509.load_pem_x509_csr(request).is_signature_valid
    assert not explain(certificate, ca_pem=ca.pem, host="localhost", usage="server", key_pem=key)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    files = written(tmp_path, "n1", Issued(certificate, key, request))
    server, client = (
        context(purpose, tmp_path / "ca.pem", *files) for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH)
    )
    assert handshake(server, client, "localhost").version() == "TLSv1.3"


def test_issue_adds_the_key_usages_of_tls() -> None:
    ca = CA.pair()
    for algorithm, expected in (("ecdsa", ("signing",)), ("rsa", ("signing", "key encipherment"))):
        made = issue(ca, Request("x", key_algorithm=algorithm), usages=(SERVER,), days=2, now=NOW)
        assert usages_of(certificate_of(made)) == (*expected, SERVER)
        assert days_left(made.certificate, now=NOW) == pytest.approx(2, abs=0.005)
    made = issue(ca, Request("x"), usages=("data encipherment", CLIENT), expiry=timedelta(hours=1), now=NOW)
    assert usages_of(certificate_of(made)) == ("data encipherment", CLIENT)
    assert certificate_of(made).not_valid_before_utc == NOW.replace(second=0) - timedelta(minutes=5)
    assert certificate_of(made).not_valid_after_utc == NOW.replace(second=0) + timedelta(minutes=55)


def test_no_text_shows_a_key() -> None:
    secret = CA.key.decode().splitlines()[1]
    for text in (repr(CA), str(CA), f"{CA}", repr(CA.pair()), str(CA.pair())):
        assert secret not in text
        assert "BEGIN EC" not in text


@pytest.mark.parametrize(
    ("host", "kind", "value"),
    [
        ("10.0.0.1", x509.IPAddress, "10.0.0.1"),
        ("::ffff:10.0.0.1", x509.IPAddress, "10.0.0.1"),
        ("FD00:0::1", x509.IPAddress, "fd00::1"),
        ("localhost", x509.DNSName, "localhost"),
        ("*.etcd.svc.cluster.local", x509.DNSName, "*.etcd.svc.cluster.local"),
        ("_etcd-server-ssl._tcp.example.com", x509.DNSName, "_etcd-server-ssl._tcp.example.com"),
        ("3com.example", x509.DNSName, "3com.example"),
        ("root@example.com", x509.RFC822Name, "root@example.com"),
        ("spiffe://cluster/etcd", x509.UniformResourceIdentifier, "spiffe://cluster/etcd"),
        ("urn:uuid:1", x509.UniformResourceIdentifier, "urn:uuid:1"),
    ],
)
def test_hosts(host: str, kind: type, value: str) -> None:
    name = general_name(host)
    assert isinstance(name, kind)
    assert str(name.value) == value


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "it is empty or has surrounding whitespace"),
        (" node1", "it is empty or has surrounding whitespace"),
        ("10.0.0.1:2379", "write it without the port"),
        ("node1:2379", "write it without the port"),
        ("[::1]:2379", "write an IPv6 address without brackets and port"),
        ("10.0.0.0/24", "networks and paths are not allowed"),
        ("10.0.0.256", "it looks like an IP address but is not valid"),
        ("10.0.0", "it looks like an IP address but is not valid"),
        ("fe80::1%eth0", "write the address without its zone"),
        ("node1.", "write it without the trailing dot"),
        ("bücher.example", "use its ASCII form (xn--...)"),
        ("a.*.example", "expected an IP address, DNS name, email address or URI"),
        ("-node", "expected an IP address"),
        ("a" * 64, "expected an IP address"),
        ("http://[::1", "not a URI"),
        ("spiffe://a b", "not a URI"),
    ],
)
def test_invalid_hosts_are_rejected(host: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        issue(CA.pair(), Request("x", (host,)), now=NOW)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("request_", "profile", "reason"),
    [
        (Request("x", key_algorithm="dsa"), Profile(), "unknown key algorithm: 'dsa'; supported: rsa, ecdsa, ed25519"),
        (
            Request("x", key_algorithm="rsa", key_size=1024),
            Profile(),
            "unsupported rsa key size: 1024; supported: 2048 to 8192 bits",
        ),
        (Request("x", key_algorithm="ecdsa", key_size=255), Profile(), "unsupported ecdsa key size: 255"),
        (Request("x", key_algorithm="ed25519", key_size=512), Profile(), "unsupported ed25519 key size: 512"),
        (Request("x", names=({"X": "y"},)), Profile(), "unknown subject field: 'X'; supported: C, ST, L, O, OU"),
        (Request("x", names=({"C": "China"},)), Profile(), "subject field C: 'China': must be a country code of two letters"),
        (Request("x" * 65), Profile(), "must be text of at most 64 characters"),
        (Request("x"), Profile(expiry=timedelta(days=10**7)), "the certificate would expire after the year 9999"),
        (Request("x"), Profile(not_after=NOW - timedelta(days=1)), "before it is valid"),
        (Request("x"), Profile(usages=("signing", "encipher only")), "conflicting usages"),
    ],
)
def test_invalid_requests_and_profiles_are_rejected(request_: Request, profile: Profile, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        issue_as(CA.pair(), request_, profile, now=NOW)
    assert reason in str(raised.value)


def test_an_expired_ca_does_not_sign() -> None:
    with pytest.raises(ConfigError, match=r"^the CA CN=ca expired on 2031-04-30 11:55 UTC; renew it first"):
        issue(CA.pair(), Request("x"), now=NOW + timedelta(days=1900))
    with pytest.raises(ConfigError, match="is not valid before 2026-05-01 11:55 UTC, and the time is 2026-04-01 12:00 UTC"):
        issue(CA.pair(), Request("x"), now=NOW - timedelta(days=30))


def test_a_ca_requires_a_subject() -> None:
    with pytest.raises(ConfigError, match="a CA requires a subject"):
        init_ca(Request("", ("10.0.0.1",)))


@pytest.mark.parametrize(
    ("above", "below", "allowed"), [(None, None, True), (2, 1, True), (2, 2, False), (1, None, True), (0, 0, False)]
)
def test_path_lengths_of_intermediate_cas(above: int | None, below: int | None, allowed: bool) -> None:
    ca = init_ca(Request("ca"), path_length=above, now=NOW).pair()
    profile = Profile(usages=("cert sign",), is_ca=True, path_length=below)
    if allowed:
        assert issue_as(ca, Request("below"), profile, now=NOW)
    else:
        with pytest.raises(ConfigError, match=f"its path length is {above}"):
            issue_as(ca, Request("below"), profile, now=NOW)


def test_load_ca(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, "ca", CA)
    loaded = load_ca(certificate, key)
    assert (loaded.certificate, loaded.key.public_key()) == (CA.pair().certificate, CA.pair().key.public_key())
    member, member_key = written(tmp_path, "member", issue(CA.pair(), Request("member"), now=NOW))
    (tmp_path / "empty").touch()
    for files, text in (
        ((tmp_path / "absent", key), f"{tmp_path}/absent: No such file or directory"),
        ((certificate, tmp_path / "absent"), f"{tmp_path}/absent: No such file or directory"),
        ((certificate, member_key), f"{member_key} is not the key of {certificate}"),
        ((member, member_key), f"{member}: not a CA certificate"),
        ((tmp_path / "empty", key), f"{tmp_path}/empty: no readable certificate (PEM)"),
        ((certificate, tmp_path / "empty"), f"{tmp_path}/empty: no readable private key (PEM)"),
        ((certificate, certificate), f"{certificate}: no readable private key (PEM)"),
    ):
        with pytest.raises(ConfigError) as raised:
            load_ca(*files)
        assert str(raised.value).startswith(text)


def test_a_key_with_a_password(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, "ca", CA)
    locked = CA.pair().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    key.write_bytes(locked)
    assert load_ca(certificate, key, password=b"secret").key.public_key() == CA.pair().key.public_key()
    for password, text in (
        (None, "the key is encrypted and no password was given"),
        (b"wrong", "cannot decrypt the key: wrong password?"),
    ):
        with pytest.raises(ConfigError) as raised:
            load_ca(certificate, key, password=password)
        assert text in str(raised.value)
        assert "secret" not in str(raised.value)
    key.write_bytes(CA.key)
    with pytest.raises(ConfigError, match="the key is not encrypted but a password was given"):
        load_ca(certificate, key, password=b"secret")


def test_unsupported_key_types_are_rejected(tmp_path: Path) -> None:
    certificate, key = written(tmp_path, "ca", CA)
    key.write_bytes(x25519.X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="unsupported type of private key; supported: rsa, ecdsa, ed25519"):
        load_ca(certificate, key)


def test_a_renewed_certificate_differs_only_in_key_and_lifetime() -> None:
    profile = Profile(expiry=timedelta(days=20), crl_url="http://ca/crl", ocsp_url="http://ca/ocsp", ocsp_no_check=True)
    old = issue_as(CA.pair(), Request("n1", ("n1", "10.0.0.1"), ({"O": "k8s"},), key_size=384), profile, now=NOW)
    later = NOW + timedelta(days=100)
    new = renew(certificate_of(old), CA.pair(), now=later)
    before, after = certificate_of(old), certificate_of(new)
    assert after.subject == before.subject
    assert hosts_of(after) == hosts_of(before) == hosts_of(x509.load_pem_x509_csr(new.request))
    assert [entry.oid for entry in after.extensions] == [entry.oid for entry in before.extensions]
    changed = [entry.oid for entry, other in zip(after.extensions, before.extensions, strict=True) if entry != other]
    assert changed == [x509.ExtensionOID.SUBJECT_KEY_IDENTIFIER]
    assert after.public_key() != before.public_key()
    assert after.serial_number != before.serial_number
    assert new.pair().key.key_size == 384  # type: ignore[union-attr]
    assert days_left(after, now=later) == pytest.approx(20, abs=0.005)
    assert not explain(new.certificate, ca_pem=CA.certificate, host="n1", now=later, key_pem=new.key)
    kept = renew(before, CA.pair(), key=old.pair().key, expiry=timedelta(days=1), now=later)
    assert certificate_of(kept).public_key() == before.public_key()
    assert days_left(kept.certificate, now=later) == pytest.approx(1, abs=0.005)


def test_a_renewed_ca_replaces_the_old_one() -> None:
    member = issue(CA.pair(), Request("n1", ("n1",)), days=5000, now=NOW)
    later = NOW + timedelta(days=2000)
    assert explain(member.certificate, ca_pem=CA.certificate, now=later)
    new = renew(CA.pair().certificate, None, key=CA.pair().key, now=later)
    assert explain(member.certificate, ca_pem=new.certificate, now=later) == []
    assert explain(member.certificate, ca_pem=CA.certificate + new.certificate, now=later) == []


def test_another_ca_may_renew() -> None:
    other = init_ca(Request("other"), now=NOW)
    new = renew(certificate_of(issue(CA.pair(), Request("n1", ("n1",)), now=NOW)), other.pair(), now=NOW)
    assert explain(new.certificate, ca_pem=other.certificate, host="n1", now=NOW) == []


def test_names_of_subjects() -> None:
    subject = Request("a, b", names=({"O": "k8s", "SerialNumber": "7"}, {"O": "two"})).subject()
    assert subject_text(subject) == r"CN=a\, b, O=k8s, O=two, SerialNumber=7"
    assert short_text(subject) == r"CN=a\, b"
    assert short_text(x509.Name([])) == "(no subject)"
    assert short_text(Request("", names=({"O": "k8s"},)).subject()) == "O=k8s"


def test_a_file_with_several_certificates() -> None:
    other = init_ca(Request("other"), now=NOW)
    found = parse_certificates(CA.certificate + other.certificate, "both.pem")
    assert [short_text(certificate.subject) for certificate in found] == ["CN=ca", "CN=other"]


def test_no_file_is_replaced_unless_all_can_be_written(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "missing" / "second"
    first.write_bytes(b"old")
    with pytest.raises(OSError, match="No such file"):
        write_all([(first, b"new", 0o600), (second, b"new", 0o600)])
    assert first.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_replaced_files_keep_their_owner_on_request(tmp_path: Path) -> None:
    path = tmp_path / "etcd-key.pem"
    path.touch()
    os.chown(path, 4242, 4343)
    write_all([(path, b"new", 0o600)], keep_owners=True)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (4242, 4343, 0o600)
    write_all([(path, b"newer", 0o600)])
    assert path.stat().st_uid == 0
