"""Each reason to refuse a certificate is told in words, all at once, and `openssl verify` agrees on whether there is one."""

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
    """A certificate by CA for HOSTS, good but for `changes` of its profile."""
    return issue_as(CA.pair(), Request("etcd", hosts=HOSTS), Profile(**changes), now=NOW)  # type: ignore[arg-type]


GOOD = signed()


@dataclass(frozen=True)
class Case:
    """What is shown to whom, and what is said about it. openssl: whether it looks at this as well."""

    pem: bytes
    problems: tuple[str, ...] = ()
    ca: bytes = CA.certificate
    host: str | None = None
    usage: Usage | None = None
    now: datetime = NOW
    openssl: bool = True


def chain(*, path_length: int | None = None, is_ca: bool = True, end: timedelta = 50 * DAY) -> bytes:
    """A certificate by an authority below CA, and that authority's."""
    usages = CA_USAGES if is_ca else ("signing",)
    profile = Profile(usages=usages, expiry=end, is_ca=is_ca, path_length=path_length)
    middle = issue_as(CA.pair(), Request("middle"), profile, now=NOW)
    return issue(middle.pair(), Request("etcd", hosts=HOSTS), now=NOW).certificate + middle.certificate


def too_long_a_chain() -> tuple[bytes, bytes]:
    """CA that allows no authority below itself, and one below all the same."""
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
    """An RSA key of 1024 bits, as old scripts made them."""
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
BY_A_MEMBER = issue(CertificateAndKey(GOOD.pair().certificate, GOOD.pair().key), Request("forged", hosts=HOSTS), now=NOW)
CASES = {
    "good": Case(GOOD.certificate),
    "server": Case(GOOD.certificate, usage="server", host="node1"),
    "client": Case(GOOD.certificate, usage="client"),
    "address": Case(GOOD.certificate, host="10.0.0.1"),
    "address of version 6": Case(GOOD.certificate, host="0:0:0:0:0:0:0:1"),
    "star": Case(GOOD.certificate, host="a.example.com"),
    "capitals": Case(GOOD.certificate, host="NODE1"),
    "star for two labels": Case(
        GOOD.certificate,
        ("it is for node1, *.example.com, 10.0.0.1 and ::1, not for a.b.example.com",),
        host="a.b.example.com",
    ),
    "star for none": Case(
        GOOD.certificate, ("it is for node1, *.example.com, 10.0.0.1 and ::1, not for example.com",), host="example.com"
    ),
    "another address": Case(
        GOOD.certificate, ("it is for node1, *.example.com, 10.0.0.1 and ::1, not for 10.0.0.2",), host="10.0.0.2"
    ),
    "another name": Case(
        GOOD.certificate, ("it is for node1, *.example.com, 10.0.0.1 and ::1, not for node2",), host="node2", usage="server"
    ),
    "no host": Case(
        issue(CA.pair(), Request("node1"), now=NOW).certificate,
        ("it is for no host at all, so not for node1: only subjectAltName counts, not the subject (CN=node1)",),
        host="node1",
        openssl=False,  # it still looks at the subject; Go and Python do not
    ),
    "ended": Case(
        signed(expiry=DAY).certificate,
        ("it ended on 2026-05-02 11:55:00 UTC, 3 days ago (it is 2026-05-05 12:00:30 UTC here)",),
        now=NOW + 4 * DAY,
    ),
    "not yet": Case(
        GOOD.certificate,
        (
            "it is not valid before 2026-05-01 11:55:00 UTC, and it is 2026-05-01 09:00:30 UTC here: "
            "this clock or the signer's is off (by 2 hours at least)",
        ),
        now=NOW - timedelta(hours=3),
    ),
    "other authority": Case(GOOD.certificate, ("it was signed by CN=ca, not by CN=other",), ca=OTHER),
    "two others": Case(GOOD.certificate, ("it was signed by CN=ca, not by CN=other or CN=top",), ca=OTHER + LONG_CHAIN_CA),
    "one of two": Case(GOOD.certificate, ca=OTHER + CA.certificate),
    "namesake": Case(
        GOOD.certificate,
        (
            "it names CN=ca as its signer, but the key of the CN=ca that is known here did not sign it: "
            "the authority was made anew under its old name, or the certificate was changed afterwards",
        ),
        ca=NAMESAKE,
    ),
    "changed": Case(
        changed(GOOD.certificate),
        (
            "it names CN=ca as its signer, but the key of the CN=ca that is known here did not sign it: "
            "the authority was made anew under its old name, or the certificate was changed afterwards",
        ),
    ),
    "signed itself": Case(
        init_ca(Request("etcd"), now=NOW).certificate,
        ("CN=etcd signed itself and is not CN=ca, the authority that is trusted here",),
    ),
    "for clients": Case(
        signed(usages=("signing", CLIENT)).certificate,
        ("it may not be shown by a server: its usages are 'signing' and 'client auth', and 'server auth' is not among them",),
        usage="server",
    ),
    "for servers": Case(
        signed(usages=(SERVER,)).certificate,
        ("it may not be shown by a client: its usages are 'server auth', and 'client auth' is not among them",),
        usage="client",
    ),
    "for anything": Case(signed(usages=("signing",)).certificate, usage="server"),
    "any role": Case(signed(usages=("any",)).certificate, usage="client", openssl=False),  # RFC 5280 and Go: any is any
    "below an authority": Case(chain(path_length=0), usage="server", host="node1"),
    "an authority is missing": Case(
        chain().split(b"-----END")[0] + b"-----END CERTIFICATE-----\n", ("it was signed by CN=middle, not by CN=ca",)
    ),
    "below a member": Case(
        BY_A_MEMBER.certificate + GOOD.certificate,
        ("its authority CN=etcd is not an authority: its certificate does not allow it to sign others",),
    ),
    "below what is no authority": Case(
        chain(is_ca=False), ("its authority CN=middle is not an authority: its certificate does not allow it to sign others",)
    ),
    "too long a chain": Case(
        LONG_CHAIN, ("its authority CN=top allows 0 authorities below it, and there are 1",), ca=LONG_CHAIN_CA
    ),
    "authority ended": Case(
        BY_SHORT_LIVED,
        ("its authority CN=short ended on 2026-05-03 11:55:00 UTC, 1 day ago (it is 2026-05-04 12:00:30 UTC here)",),
        ca=SHORT_LIVED_CA.certificate,
        now=NOW + 3 * DAY,
    ),
    "authority in between ended": Case(
        chain(end=DAY),
        ("its authority CN=middle ended on 2026-05-02 11:55:00 UTC, 2 days ago (it is 2026-05-04 12:00:30 UTC here)",),
        now=NOW + 3 * DAY,
    ),
    "the authority itself": Case(CA.certificate),
    "weak": Case(weak(), ("it has a weak key, which OpenSSL and Go refuse (rsa 1024)",), host="node1"),
    "all at once": Case(
        signed(usages=("signing", CLIENT), expiry=DAY).certificate,
        (
            "it ended on 2026-05-02 11:55:00 UTC, 3 days ago (it is 2026-05-05 12:00:30 UTC here)",
            "it was signed by CN=ca, not by CN=other",
            "it is for node1, *.example.com, 10.0.0.1 and ::1, not for 10.0.0.2",
            "it may not be shown by a server: its usages are 'signing' and 'client auth', and 'server auth' is not among them",
        ),
        ca=OTHER,
        host="10.0.0.2",
        usage="server",
        now=NOW + 4 * DAY,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_in_words(name: str) -> None:
    case = CASES[name]
    found = explain(case.pem, ca_pem=case.ca, host=case.host, usage=case.usage, now=case.now)
    assert tuple(found) == case.problems


@needs_openssl
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.openssl])
def test_openssl_agrees(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    (tmp_path / "ca.pem").write_bytes(case.ca)
    (tmp_path / "cert.pem").write_bytes(case.pem)
    words = ["-CAfile", str(tmp_path / "ca.pem"), "-untrusted", str(tmp_path / "cert.pem"), "-auth_level", "2"]
    words += ["-attime", str(int(case.now.timestamp()))]
    if case.usage:
        words += ["-purpose", f"ssl{case.usage}"]
    if case.host:
        words += ["-verify_ip" if case.host[0].isdigit() else "-verify_hostname", case.host]
    assert openssl_verify(tmp_path / "cert.pem", *words) == (not case.problems)


def test_the_key_beside_it() -> None:
    other = signed()
    assert explain(GOOD.certificate, ca_pem=CA.certificate, now=NOW, key_pem=GOOD.key) == []
    mixed = explain(GOOD.certificate, ca_pem=CA.certificate, now=NOW, key_pem=other.key)
    assert mixed == ["the key beside it belongs to another certificate"]
    nonsense = explain(GOOD.certificate, ca_pem=CA.certificate, now=NOW, key_pem=b"nonsense")
    assert nonsense == ["the key beside it: holds no private key that can be read (PEM)"]


def test_an_address_among_the_dns_names() -> None:
    """What some scripts make: clients look for addresses among addresses only."""
    key = GOOD.pair().key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "script")])
    builder = x509.CertificateBuilder(CA.pair().certificate.subject, name, key.public_key(), 1, NOW - DAY, NOW + DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("10.0.0.1")]), critical=False)
    pem = builder.sign(CA.pair().key, hashes.SHA256()).public_bytes(Encoding.PEM)
    assert explain(pem, ca_pem=CA.certificate, host="10.0.0.1", now=NOW) == [
        "it is for 10.0.0.1, not for 10.0.0.1; it has the address as a DNS name, where nobody looks for addresses"
    ]


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate(pem: bytes) -> None:
    for words, said in (
        (explain(pem, ca_pem=CA.certificate), "the certificate: no certificate that can be read"),
        (explain(GOOD.certificate, ca_pem=pem), "the authority (CA): no certificate that can be read"),
    ):
        assert len(words) == 1
        assert words[0].startswith(said)


def test_damaged_ones_are_explained_too() -> None:
    """Whatever single byte is damaged: an answer, never an exception."""
    der = x509.load_pem_x509_certificate(GOOD.certificate).public_bytes(Encoding.DER)
    for position in range(0, len(der), 3):
        damaged = der[:position] + bytes([der[position] ^ 0x55]) + der[position + 1 :]
        pem = b"-----BEGIN CERTIFICATE-----\n" + encodebytes(damaged) + b"-----END CERTIFICATE-----\n"
        assert explain(pem, ca_pem=CA.certificate, host="node1", usage="server", now=NOW, key_pem=GOOD.key)
