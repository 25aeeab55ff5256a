"""Reading certificate files. Unreadable files are ConfigErrors.

ca = load_ca(Path("ca.pem"), Path("ca-key.pem"))       # checks that it is a CA and that the key matches
days_left(path.read_bytes())
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from tercet.disk_sync import sync_directory
from tercet.errors import ConfigError
from tercet.pki import keys, usages
from tercet.pki.files import left_beside


@dataclass(frozen=True)
class CertificateAndKey:
    """A certificate with its private key. `repr` omits the key."""

    certificate: x509.Certificate
    key: keys.PrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate, without the key."""
        return self.certificate.public_bytes(Encoding.PEM)


def load_ca(certificate: Path, key: Path, *, password: bytes | None = None) -> CertificateAndKey:
    """Load a CA from its two files (PEM). Raises ConfigError naming the file."""
    loaded = load_pair(certificate, key, password=password)
    if not is_ca(loaded.certificate):
        raise ConfigError(f"{certificate}: not a CA certificate")
    return loaded


def load_pair(certificate: Path, key: Path, *, password: bytes | None = None) -> CertificateAndKey:
    """Load a certificate and its key (PEM files). Raises ConfigError naming the file.

    If the replacement of the pair was interrupted when only one file had been replaced, the other one is replaced first.
    """
    try:
        return _loaded(certificate, key, password)
    except ConfigError:
        if not _complete_replacement(certificate, key, password):
            raise
    return _loaded(certificate, key, password)


def _loaded(certificate: Path, key: Path, password: bytes | None) -> CertificateAndKey:
    loaded = read_certificate(certificate)
    secret = keys.from_pem(_read(key), key, password=password)
    if secret.public_key() != loaded.public_key():
        raise ConfigError(f"{key} is not the key of {certificate}")
    return CertificateAndKey(loaded, secret)


def _complete_replacement(certificate: Path, key: Path, password: bytes | None) -> bool:
    """Rename what `files.write_all` left beside the one file, if it belongs to the other one. Returns whether it did."""
    candidates = [(left, certificate, left, key) for left in left_beside(certificate)]
    candidates += [(left, key, certificate, left) for left in left_beside(key)]
    for left, path, with_certificate, with_key in candidates:
        try:
            _loaded(with_certificate, with_key, password)
            os.replace(left, path)
            sync_directory(path.parent)
        except (ConfigError, OSError):
            continue
        return True
    return False


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate in a PEM file. Raises ConfigError naming the file."""
    return parse_certificates(_read(path), path)[0]


def parse_certificates(pem: bytes, source: object) -> list[x509.Certificate]:
    """All certificates in `pem`, at least one, read from `source`. Raises ConfigError naming it."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        for certificate in found:
            _ = certificate.extensions, certificate.public_key(), certificate.subject, certificate.issuer
    except Exception as error:  # the parser raises various exceptions for damaged certificates
        detail = f": {error}" if b"BEGIN CERTIFICATE" in pem else ""
        raise ConfigError(f"{source}: no readable certificate (PEM){detail}") from error
    return found


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether its own key has signed it; a CA and a certificate that it has signed may have the same name."""
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it may sign other certificates."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usages.may_sign_certificates(certificate)


def path_length_of(certificate: x509.Certificate) -> int | None:
    """The path length constraint: how many intermediate CAs may follow; None for no limit."""
    with contextlib.suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return None


def days_left(certificate: bytes | x509.Certificate, *, now: datetime | None = None) -> float:
    """Days until expiry; negative after it. Raises ConfigError for an unreadable certificate."""
    if isinstance(certificate, bytes):
        certificate = parse_certificates(certificate, "certificate")[0]
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
