"""Who signs whose certificate? An authority: one ECDSA P-256 key that signs the certificates of members or of clients.

    authority = Authority.load_or_create(directory, "ca", "tercet clients")
    pair = authority.ensure(directory, "client", common_name="root", client=True)

`ensure` keeps what is there as long as it is good (signed by this authority, its own key beside it, the names asked for, days
left) and makes it anew otherwise, so it may be called at each start.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tercet.errors import ConfigError
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, close_to_others, write

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30  # what ends sooner is renewed at the next start
_CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as files (PEM)."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; its own certificate is what others trust (`certificate_path`)."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, files: Pair) -> None:
        self.certificate = certificate
        self.certificate_path = files.certificate
        self._key = key

    @classmethod
    def load_or_create(cls, directory: Path, name: str, common_name: str, *, now: datetime | None = None) -> Authority:
        """The authority `directory/name.crt` and `.key`; made if absent, or if about to expire. Raises ConfigError."""
        files = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        now = now or datetime.now(UTC)
        if files.certificate.exists():
            certificate, key = _read(files)
            if _days_left(certificate, now) > RENEW_DAYS:
                return cls(certificate, key, files)
        directory.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        usage = _key_usage(sign=False, certify=True)
        certificate = (
            _builder(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(files, certificate, key)
        return cls(certificate, key, files)

    def ensure(
        self,
        directory: Path,
        name: str,
        *,
        common_name: str,
        hosts: Sequence[str] = (),
        server: bool = False,
        client: bool = False,
        now: datetime | None = None,
    ) -> Pair:
        """A good certificate `directory/name.crt` with `name.key`, kept or made.

        hosts: DNS names and IP addresses it is for. server, client: what it may be used as.
        """
        files = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        now = now or datetime.now(UTC)
        if not self._is_good(files, common_name, hosts, now):
            key = ec.generate_private_key(ec.SECP256R1())
            _write(files, self._issue(key, common_name, hosts, server=server, client=client, now=now), key)
        return files

    def _is_good(self, files: Pair, common_name: str, hosts: Sequence[str], now: datetime) -> bool:
        try:
            certificate, _ = _read(files)
            certificate.verify_directly_issued_by(self.certificate)
        except (ConfigError, InvalidSignature, ValueError, TypeError):
            return False
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        same_name = [attribute.value for attribute in names] == [common_name]
        return same_name and _hosts(certificate) == sorted(hosts) and _days_left(certificate, now) > RENEW_DAYS

    def _issue(
        self,
        key: ec.EllipticCurvePrivateKey,
        common_name: str,
        hosts: Sequence[str],
        *,
        server: bool,
        client: bool,
        now: datetime,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
        issuer_key = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(subject, self.certificate.subject, key.public_key(), now, CERTIFICATE_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign=True, certify=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _key_usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        key_cert_sign=certify,
        crl_sign=certify,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return sorted(str(name.value) for name in names)


def _days_left(certificate: x509.Certificate, now: datetime) -> float:
    return (certificate.not_valid_after_utc - now) / timedelta(days=1)


def _read(files: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Both files, if they belong together. Raises ConfigError naming the file."""
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        close_to_others(files.key)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"cannot use the certificate {files.certificate} with {files.key}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{files.key} is not the key of {files.certificate}; remove both to have them made anew")
    return certificate, key


def _write(files: Pair, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(files.key, pem, mode=KEY_MODE)
    write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=CERTIFICATE_MODE)
