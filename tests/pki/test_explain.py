"""explain() lists all reasons to reject a certificate, and agrees with `openssl verify`."""

from __future__ import annotations

from base64 import encodebytes
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tercet.pki import CertificateAndKey, Issued, Profile, Request, explain, init_ca, issue, issue_as
from tercet.pki.explain import Usage
from tercet.pki.usages import CA_USAGES, CLIENT, SERVER
from tests.pki.programs import needs_openssl, openssl_verify

NOW = datetime(2026, 5, 1, 12, 0, 30, tzinfo=UTC)
DAY = timedelta(days=1)
CA = init_ca(Request("ca"), now=NOW - 100 * DAY)
HOSTS = ("node1", "*.example.com", "10.0.0.1", "::1")


def signed(**changes: object) -> Issued:
    """A certificate by CA for HOSTS; valid except for `changes` of its profile."""
    return issue_as(CA.pair(), Request("etcd", hosts=HOSTS), Profile(**changes), now=NOW)  # type: ignore[arg-type]


VALID = signed()


@dataclass(frozen=True)
class Case:
    """A certificate, how it is used, and the expected reasons. openssl: whether `openssl verify` agrees."""

    pem: bytes
    problems: tuple[str, ...] = ()
    ca: bytes = CA.certificate
    host: str | None = None
    usage: Usage | None = None
    now: datetime = NOW
    openssl: bool = True


def chain(*, path_length: int | None = None, is_ca: bool = True, end: timedelta = 50 * DAY) -> bytes:
    """A certificate by an intermediate CA below CA, followed by that CA."""
    usages = CA_USAGES if is_ca else ("signing",)
    profile = Profile(usages=usages, expiry=end, is_ca=is_ca, path_length=path_length)
    middle = issue_as(CA.pair(), Request("middle"), profile, now=NOW)
    return issue(middle.pair(), Request("etcd", hosts=HOSTS), now=NOW).certificate + middle.certificate


def too_long_a_chain() -> tuple[bytes, bytes]:
    """A chain with an intermediate CA below a CA with path length 0."""
    top = init_ca(Request("top"), path_length=0, now=NOW)
    lenient = init_ca(Request("top"), key=top.pair().key, now=NOW).pair()
    middle = issue_as(lenient, Request("middle"), Profile(usages=CA_USAGES, is_ca=True), now=NOW)
    return issue(middle.pair(), Request("etcd", hosts=HOSTS), now=NOW).certificate + middle.certificate, top.certificate


def changed(pem: bytes) -> bytes:
    """The same certificate with one byte of its signature changed."""
    der = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM)


def weak() -> bytes:
    """A certificate with an RSA key of 1024 bits."""
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "old")])
    names = x509.SubjectAlternativeName([x509.DNSName("node1")])
    builder = x509.CertificateBuilder(CA.pair().certificate.subject, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    return builder.add_extension(names, critical=False).sign(CA.pair().key, hashes.SHA256()).public_bytes(Encoding.PEM)


LONG_CHAIN, LONG_CHAIN_CA = too_long_a_chain()
OTHER = init_ca(Request("other"), now=NOW).certificate
NAMESAKE = init_ca(Request("ca"), now=NOW).certificate
SHORT_LIVED_CA = init_ca(Request("short"), 2 * DAY, now=NOW)
BY_SHORT_LIVED = issue(SHORT_LIVED_CA.pair(), Request("etcd", hosts=HOSTS), now=NOW).certificate
BY_A_MEMBER = issue(CertificateAndKey(VALID.pair().certificate, VALID.pair().key), Request("forged", hosts=HOSTS), now=NOW)
CASES = {
    "valid": Case(VALID.certificate),
    "server": Case(VALID.certificate, usage="server", host="node1"),
    "client": Case(VALID.certificate, usage="client"),
    "address": Case(VALID.certificate, host="10.0.0.1"),
    "IPv6 address": Case(VALID.certificate, host="0:0:0:0:0:0:0:1"),
    "wildcard": Case(VALID.certificate, host="a.example.com"),
    "upper case": Case(VALID.certificate, host="NODE1"),
    "wildcard for two labels": Case(
        VALID.certificate,
        ("it is valid for node1, *.example.com, 10.0.0.1 and ::1, not for a.b.example.com",),
        host="a.b.example.com",
    ),
    "wildcard for no label": Case(
        VALID.certificate, ("it is valid for node1, *.example.com, 10.0.0.1 and ::1, not for example.com",), host="example.com"
    ),
    "another address": Case(
        VALID.certificate, ("it is valid for node1, *.example.com, 10.0.0.1 and ::1, not for 10.0.0.2",), host="10.0.0.2"
    ),
    "another name": Case(
        VALID.certificate,
        ("it is valid for node1, *.example.com, 10.0.0.1 and ::1, not for node2",),
        host="node2",
        usage="server",
    ),
    "no host": Case(
        issue(CA.pair(), Request("node1"), now=NOW).certificate,
        ("it has no subjectAltName, so it is not valid for node1; the subject (CN=node1) is ignored",),
        host="node1",
        openssl=False,  # it falls back to the subject; Go and Python do not
    ),
    "expired": Case(
        signed(expiry=DAY).certificate,
        ("it expired on 2026-05-02 11:55:00 UTC, 3 days ago (the time is 2026-05-05 12:00:30 UTC)",),
        now=NOW + 4 * DAY,
    ),
    "not yet valid": Case(
        VALID.certificate,
        (
            "it is not valid before 2026-05-01 11:55:00 UTC, and the time is 2026-05-01 09:00:30 UTC: "
            "one of the clocks is off by at least 2 hours",
        ),
        now=NOW - timedelta(hours=3),
    ),
    "other CA": Case(VALID.certificate, ("it is signed by CN=ca, and the trusted CA is CN=other",), ca=OTHER),
    "two other CAs": Case(
        VALID.certificate, ("it is signed by CN=ca, and the trusted CA is CN=other or CN=top",), ca=OTHER + LONG_CHAIN_CA
    ),
    "one of two CAs": Case(VALID.certificate, ca=OTHER + CA.certificate),
    "CA of the same name": Case(
        VALID.certificate,
        (
            "its issuer is CN=ca, but it is not signed with the key of the trusted CN=ca: "
            "the CA was recreated under the same name, or the certificate was modified",
        ),
        ca=NAMESAKE,
    ),
    "changed": Case(
        changed(VALID.certificate),
        (
            "its issuer is CN=ca, but it is not signed with the key of the trusted CN=ca: "
            "the CA was recreated under the same name, or the certificate was modified",
        ),
    ),
    "self-signed": Case(
        init_ca(Request("etcd"), now=NOW).certificate,
        ("it is self-signed by CN=etcd, and the trusted CA is CN=ca",),
    ),
    "client auth only": Case(
        signed(usages=("signing", CLIENT)).certificate,
        ("it is not valid for a server: its usages are 'signing' and 'client auth', without 'server auth'",),
        usage="server",
    ),
    "server auth only": Case(
        signed(usages=(SERVER,)).certificate,
        ("it is not valid for a client: its usages are 'server auth', without 'client auth'",),
        usage="client",
    ),
    "no extended key usage": Case(signed(usages=("signing",)).certificate, usage="server"),
    "any extended key usage": Case(
        signed(usages=("any",)).certificate, usage="client", openssl=False
    ),  # RFC 5280 and Go accept it
    "intermediate CA": Case(chain(path_length=0), usage="server", host="node1"),
    "missing intermediate CA": Case(
        chain().split(b"-----END")[0] + b"-----END CERTIFICATE-----\n",
        ("it is signed by CN=middle, and the trusted CA is CN=ca",),
    ),
    "signed by a leaf": Case(
        BY_A_MEMBER.certificate + VALID.certificate,
        ("its CA CN=etcd is not a CA: its certificate does not allow signing",),
    ),
    "intermediate is not a CA": Case(
        chain(is_ca=False), ("its CA CN=middle is not a CA: its certificate does not allow signing",)
    ),
    "path length exceeded": Case(LONG_CHAIN, ("its CA CN=top has path length 0, and 1 CAs follow",), ca=LONG_CHAIN_CA),
    "expired CA": Case(
        BY_SHORT_LIVED,
        ("its CA CN=short expired on 2026-05-03 11:55:00 UTC, 1 day ago (the time is 2026-05-04 12:00:30 UTC)",),
        ca=SHORT_LIVED_CA.certificate,
        now=NOW + 3 * DAY,
    ),
    "expired intermediate CA": Case(
        chain(end=DAY),
        ("its CA CN=middle expired on 2026-05-02 11:55:00 UTC, 2 days ago (the time is 2026-05-04 12:00:30 UTC)",),
        now=NOW + 3 * DAY,
    ),
    "the CA itself": Case(CA.certificate),
    "weak key": Case(weak(), ("it has a weak key, which OpenSSL and Go reject (rsa 1024)",), host="node1"),
    "all reasons at once": Case(
        signed(usages=("signing", CLIENT), expiry=DAY).certificate,
        (
            "it expired on 2026-05-02 11:55:00 UTC, 3 days ago (the time is 2026-05-05 12:00:30 UTC)",
            "it is signed by CN=ca, and the trusted CA is CN=other",
            "it is valid for node1, *.example.com, 10.0.0.1 and ::1, not for 10.0.0.2",
            "it is not valid for a server: its usages are 'signing' and 'client auth', without 'server auth'",
        ),
        ca=OTHER,
        host="10.0.0.2",
        usage="server",
        now=NOW + 4 * DAY,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_reasons(name: str) -> None:
    case = CASES[name]
    found = explain(case.pem, ca_pem=case.ca, host=case.host, usage=case.usage, now=case.now)
    assert tuple(found) == case.problems


@needs_openssl
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.openssl])
def test_openssl_agrees(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    (tmp_path / "ca.pem").write_bytes(case.ca)
    (tmp_path / "cert.pem").write_bytes(case.pem)
    arguments = ["-CAfile", str(tmp_path / "ca.pem"), "-untrusted", str(tmp_path / "cert.pem"), "-auth_level", "2"]
    arguments += ["-attime", str(int(case.now.timestamp()))]
    if case.usage:
        arguments += ["-purpose", f"ssl{case.usage}"]
    if case.host:
        arguments += ["-verify_ip" if case.host[0].isdigit() else "-verify_hostname", case.host]
    assert openssl_verify(tmp_path / "cert.pem", *arguments) == (not case.problems)


def test_the_private_key_must_match() -> None:
    other = signed()
    assert explain(VALID.certificate, ca_pem=CA.certificate, now=NOW, key_pem=VALID.key) == []
    mixed = explain(VALID.certificate, ca_pem=CA.certificate, now=NOW, key_pem=other.key)
    assert mixed == ["the key does not match the certificate"]
    nonsense = explain(VALID.certificate, ca_pem=CA.certificate, now=NOW, key_pem=b"nonsense")
    assert nonsense == ["its key: no readable private key (PEM)"]


def test_an_ip_address_as_a_dns_name_is_not_matched() -> None:
    """Clients match an IP address only against iPAddress entries."""
    key = VALID.pair().key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "script")])
    builder = x509.CertificateBuilder(CA.pair().certificate.subject, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("10.0.0.1")]), critical=False)
    pem = builder.sign(CA.pair().key, hashes.SHA256()).public_bytes(Encoding.PEM)
    assert explain(pem, ca_pem=CA.certificate, host="10.0.0.1", now=NOW) == [
        "it is valid for 10.0.0.1, not for 10.0.0.1; it has the address as a DNS name instead of an IP address"
    ]


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_unreadable_certificates_are_a_reason(pem: bytes) -> None:
    for reasons, expected in (
        (explain(pem, ca_pem=CA.certificate), "the certificate: no readable certificate"),
        (explain(VALID.certificate, ca_pem=pem), "the CA: no readable certificate"),
    ):
        assert len(reasons) == 1
        assert reasons[0].startswith(expected)


def test_damaged_certificates_never_raise() -> None:
    """Damage to any single byte gives reasons, not an exception."""
    der = x509.load_pem_x509_certificate(VALID.certificate).public_bytes(Encoding.DER)
    for position in range(0, len(der), 3):
        damaged = der[:position] + bytes([der[position] ^ 0x55]) + der[position + 1 :]
        pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(damaged) + b"-----END CERTIFICATE-----\n"
        assert explain(pem, ca_pem=CA.certificate, host="node1", usage="server", now=NOW, key_pem=VALID.key)
