"""A CA in a directory, for `tercet up`: one ECDSA P-256 key that signs the certificates of members or of clients.

    authority = Authority.load_or_create(directory, "ca", "tercet clients")
    pair = authority.ensure(directory, "client", common_name="root", client=True)

`ensure` keeps a valid pair (signed by this CA, matching key, same names, not about to expire) and replaces it otherwise, so it
can be called at each start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from tercet.errors import ConfigError
from tercet.pki.certificate import CertificateAndKey, days_left, load_pair
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, restrict_mode, write_all
from tercet.pki.issue import Issued, Profile, Request, init_ca, issue_as
from tercet.pki.names import hosts_of
from tercet.pki.usages import CLIENT, SERVER

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
RENEW_DAYS = 30  # certificates that expire sooner are renewed at the next start


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as files (PEM)."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates. Others trust its certificate (`certificate_path`)."""

    def __init__(self, signer: CertificateAndKey, files: Pair) -> None:
        self.certificate = signer.certificate
        self.certificate_path = files.certificate
        self._signer = signer

    @classmethod
    def load_or_create(cls, directory: Path, name: str, common_name: str, *, now: datetime | None = None) -> Authority:
        """The CA in `directory/name.crt` and `.key`; created if missing or about to expire. Raises ConfigError."""
        files = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        now = now or datetime.now(UTC)
        if files.certificate.exists():
            signer = _read(files)
            if days_left(signer.certificate, now=now) > RENEW_DAYS:
                return cls(signer, files)
        directory.mkdir(parents=True, exist_ok=True)
        _write(files, init_ca(Request(common_name), timedelta(days=AUTHORITY_DAYS), path_length=0, now=now))
        return cls(_read(files), files)

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
        """A valid pair `directory/name.crt` and `name.key`, existing or new.

        hosts: DNS names and IP addresses. server, client: extended key usages.
        """
        files = Pair(directory / f"{name}.crt", directory / f"{name}.key")
        now = now or datetime.now(UTC)
        if not self._is_valid(files, common_name, hosts, now):
            usages = ("signing", *([SERVER] * server), *([CLIENT] * client))
            profile = Profile(usages=usages, expiry=timedelta(days=CERTIFICATE_DAYS))
            _write(files, issue_as(self._signer, Request(common_name, hosts=tuple(hosts)), profile, now=now))
        return files

    def _is_valid(self, files: Pair, common_name: str, hosts: Sequence[str], now: datetime) -> bool:
        try:
            certificate = _read(files).certificate
            certificate.verify_directly_issued_by(self.certificate)
        except (ConfigError, InvalidSignature, ValueError, TypeError):
            return False
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        same_name = [attribute.value for attribute in names] == [common_name]
        return same_name and sorted(hosts_of(certificate)) == sorted(hosts) and days_left(certificate, now=now) > RENEW_DAYS


def _read(files: Pair) -> CertificateAndKey:
    """A certificate and its key. Raises ConfigError naming the files."""
    try:
        pair = load_pair(files.certificate, files.key)
        restrict_mode(files.key)
    except (ConfigError, OSError) as error:
        raise ConfigError(
            f"cannot use certificate {files.certificate} with key {files.key}: {error}; to replace them, remove both files"
        ) from error
    return pair


def _write(files: Pair, issued: Issued) -> None:
    write_all([(files.key, issued.key, KEY_MODE), (files.certificate, issued.certificate, CERTIFICATE_MODE)])
