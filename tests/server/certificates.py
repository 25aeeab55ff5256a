"""A CA for tests and the certificates that it signs."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.certificates import identified

BOTH_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Pair:
    cert: str
    key: str
    serial: int


class Authority:
    """issuer: the authority that signs this one; None: its own root."""

    def __init__(self, directory: Path, name: str = "ca", issuer: Authority | None = None) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        signing = self._key if issuer is None else issuer._key
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(name) if issuer is None else issuer._certificate.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        own = self._key.public_key()
        builder = identified(builder, own, signing.public_key(), is_authority=True)
        self._certificate = builder.sign(signing, hashes.SHA256())
        self.serial = self._certificate.serial_number
        self.path = str(directory / f"{name}.crt")
        Path(self.path).write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def sign(
        self,
        file: str,
        cn: str,
        *sans: str,
        days: float = 1,
        password: bytes | None = None,
        usages: tuple[x509.ObjectIdentifier, ...] = BOTH_USAGES,
    ) -> Pair:
        """A certificate and key in files named `file`. sans: IP addresses and host names."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = []
        for san in sans:
            names.append(x509.IPAddress(ipaddress.ip_address(san)) if san[0].isdigit() else x509.DNSName(san))
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(cn))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = identified(builder, key.public_key(), self._key.public_key(), is_authority=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        secret: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            secret = serialization.BestAvailableEncryption(password)
        pair = Pair(str(self.directory / f"{file}.crt"), str(self.directory / f"{file}.key"), certificate.serial_number)
        Path(pair.key).write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
        Path(pair.cert).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return pair

    def revoke(self, *serials: int, der: bool = False) -> str:
        """Write a CRL; returns its path."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._certificate.subject)
        builder = builder.last_update(now).next_update(now + timedelta(days=1))
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(revoked)
        path = self.directory / "revoked.crl"
        form = serialization.Encoding.DER if der else serialization.Encoding.PEM
        path.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(form))
        return str(path)
