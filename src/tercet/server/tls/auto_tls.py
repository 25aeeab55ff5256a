"""--auto-tls and --peer-auto-tls: a self-signed certificate, generated at the first start and kept in the data directory.

It gives encryption without authentication: dialers cannot verify it.

Source: etcd client/pkg/transport/listener.go (SelfCert).
"""

from __future__ import annotations

import ipaddress
import logging
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from tercet.errors import ConfigError
from tercet.gotext.host_port import is_ip
from tercet.gotext.urls import Url
from tercet.log_fields import fields
from tercet.server.tls.files import TlsFiles

logger = logging.getLogger(__name__)


def with_self_signed(files: TlsFiles, directory: str, urls: Iterable[Url], *, years: int) -> TlsFiles:
    """`files` with the self-signed pair in `directory`, generated if missing. Raises ConfigError or OSError."""
    if years == 0:
        raise ConfigError("selfSignedCertValidity is invalid,it should be greater than 0")
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    if not (os.path.exists(cert) and os.path.exists(key)):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        _generate(cert, key, sorted({url.host for url in urls if not url.is_unix}), years)
    return files._replace(cert=cert, key=key, is_self_signed=True)


def _generate(cert: str, key: str, hosts: list[str], years: int) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    secret = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "etcd")])
    alternatives = [x509.IPAddress(ipaddress.ip_address(host)) if is_ip(host) else x509.DNSName(host) for host in hosts]
    now = datetime.now(UTC)
    ends = now + timedelta(days=365 * years)
    shown = fields(certificate_validity_bound_not_after=f"{ends:%Y-%m-%dT%H:%M:%SZ}")
    logger.warning("automatically generate certificates", extra=shown)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    certificate = builder.sign(secret, hashes.SHA256())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(key, secret.private_bytes(serialization.Encoding.PEM, form, plain), mode=0o600)
    _write(cert, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write(path: str, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
