"""What is in a certificate file, and is it one that may sign others? Reading only; whatever cannot be read is a ConfigError.

ca = load_ca(Path("ca.pem"), Path("ca-key.pem"))       # an authority: checked that it is one, and that the key is its own
days_left(path.read_bytes())
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tercet.errors import ConfigError
from tercet.pki import keys, usages


@dataclass(frozen=True)
class CertificateAndKey:
    """An authority in memory. `repr` shows no key."""

    certificate: x509.Certificate
    key: keys.PrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)


def load_ca(certificate: Path, key: Path, *, password: bytes | None = None) -> CertificateAndKey:
    """An authority from its two files (PEM), whoever made them. Raises ConfigError naming the file."""
    loaded = load_pair(certificate, key, password=password)
    if not is_ca(loaded.certificate):
        raise ConfigError(f"{certificate}: not the certificate of an authority (CA), so nothing can be signed with it")
    return loaded


def load_pair(certificate: Path, key: Path, *, password: bytes | None = None) -> CertificateAndKey:
    """A certificate and the key that belongs to it (PEM files). Raises ConfigError naming the file."""
    loaded = read_certificate(certificate)
    secret = keys.from_pem(_read(key), key, password=password)
    if secret.public_key() != loaded.public_key():
        raise ConfigError(f"{key} is not the key of {certificate}")
    return CertificateAndKey(loaded, secret)


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file. Raises ConfigError naming the file."""
    return parse_certificates(_read(path), path)[0]


def parse_certificates(pem: bytes, source: object) -> list[x509.Certificate]:
    """All certificates in `pem`, at least one, read from `source`. Raises ConfigError naming it."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        for certificate in found:
            _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.issuer
    except Exception as error:  # damaged ones raise whatever the parser of the damaged part raises
        raise ConfigError(f"{source}: no certificate that can be read (PEM): {error}") from error
    return found


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usages.may_sign_certificates(certificate)


def path_length_of(certificate: x509.Certificate) -> int | None:
    """How many authorities may stand between it and a certificate of a member; None: any number."""
    with contextlib.suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return None


def days_left(certificate: bytes | x509.Certificate, *, now: datetime | None = None) -> float:
    """Days until it ends; less than zero when it has. Raises ConfigError where `certificate` is none."""
    if isinstance(certificate, bytes):
        certificate = parse_certificates(certificate, "certificate")[0]
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
