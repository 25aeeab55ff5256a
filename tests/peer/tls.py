"""Certificates for a test: one authority, one certificate for 127.0.0.1."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.certificates import identified


class FixedTls:
    """A DialTls with one context, which a test may replace; `refusal` refuses every server."""

    def __init__(self, context: ssl.SSLContext, refusal: str = "") -> None:
        self.current = context
        self.refusal = refusal
        self.server_name = ""

    def context(self) -> ssl.SSLContext:
        return self.current

    def reason(self, connection: ssl.SSLObject) -> str:
        return self.refusal


def contexts(directory: Path, *, client_certificate: bool) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's context, which requires a client certificate, and the client's, with or without one."""
    directory.mkdir(exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, "authority", authority_key, is_authority=True)
    leaf = _certificate("member", key, "authority", authority_key, is_authority=False)
    for name, data in (
        ("ca.pem", authority.public_bytes(serialization.Encoding.PEM)),
        ("member.pem", leaf.public_bytes(serialization.Encoding.PEM)),
        (
            "key.pem",
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        ),
    ):
        (directory / name).write_bytes(data)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(directory / "ca.pem"))
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(directory / "member.pem", directory / "key.pem")
    client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(directory / "ca.pem"))
    if client_certificate:
        client.load_cert_chain(directory / "member.pem", directory / "key.pem")
    return server, client


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    builder = identified(builder, key.public_key(), issuer_key.public_key(), is_authority=is_authority)
    return builder.sign(issuer_key, hashes.SHA256())
