"""Replacement of the cluster's CAs, on the operator's machine: first both are trusted, at the end only the new one.

    ca.pem: old          before
    ca.pem: new, old     `introduce`: the new CA signs, both are trusted
    ca.pem: new          `conclude`: after every certificate has been signed by the new CA

The file itself is the record of an interrupted rotation. Replaced CAs are kept in `tls.directory`/replaced, for data that was
signed elsewhere and for a restored host; their keys can be deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.plan.certificates import AUTHORITY_DAYS, Certificates, Pair, fingerprint
from tercet.errors import ConfigError
from tercet.pki import init_ca
from tercet.pki.certificate import parse_certificates
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, write_all


def authorities(cluster: Cluster, certificates: Certificates) -> tuple[Pair, ...]:
    """The CAs to rotate, each once. Raises ConfigError if there is none that the deployment owns."""
    if cluster.tls.ca_certificate is not None:
        raise ConfigError(
            f"{cluster.path}: tls.ca_certificate: {cluster.tls.ca_certificate} is managed elsewhere, so it is not rotated here"
        )
    found = {pair.certificate: pair for pair in (certificates.ca, certificates.peer_ca) if pair is not None}
    if not found:
        raise ConfigError(f"{cluster.path}: tls.enabled: false: there are no certificates to rotate")
    for pair in found.values():
        if pair.pem is None:
            raise ConfigError(f"{pair.certificate}: there is no {pair.title} yet; run `tercet deploy apply`")
    return tuple(found.values())


def is_rotating(authority: Pair) -> bool:
    """Whether a rotation has begun and is not concluded."""
    return authority.pem is not None and trusts_several(authority.pem)


def not_introduced(found: Sequence[Pair]) -> tuple[Pair, ...]:
    """Those of the CAs for which `introduce` is to be called, in this order, as `conclude` is after it.

    A CA after one that is rotating is still to be introduced, if the command was killed between the two; a CA before one that
    is rotating has been concluded.
    """
    rotating = [number for number, pair in enumerate(found) if is_rotating(pair)]
    if not rotating:
        return tuple(found)
    return tuple(found[rotating[-1] + 1 :]) if rotating[0] == 0 else ()


def trusts_several(pem: bytes) -> bool:
    """Whether a CA file has more than one certificate. Raises ConfigError."""
    return len(parse_certificates(pem, "CA")) > 1


def require_one_ca(certificates: Certificates) -> None:
    """Raises ConfigError if certificates would be signed by a new CA that not every member trusts yet."""
    for pair in certificates.pending:
        if pair.signer is not None and is_rotating(pair.signer):
            raise ConfigError(
                f"{pair.signer.certificate}: a rotation of the CA has not finished, and not every member may trust the new one "
                "yet: run `tercet deploy certs rotate --ca`, which continues it"
            )


def introduce(authority: Pair, *, now: datetime | None = None) -> None:
    """Create the new CA and trust both. Repeated during a rotation, it changes nothing. Raises ConfigError."""
    try:
        present = authority.certificate.read_bytes()
        if trusts_several(present):
            return
        new = init_ca(authority.request, timedelta(days=AUTHORITY_DAYS), path_length=0, now=now or datetime.now(UTC))
        kept = authority.certificate.parent / "replaced"
        kept.mkdir(mode=0o700, exist_ok=True)
        stem = f"{authority.certificate.stem}-{fingerprint(present).replace(':', '').lower()}"
        write_all(
            [
                (kept / f"{stem}-key.pem", authority.key.read_bytes(), KEY_MODE),
                (kept / f"{stem}.pem", present, CERTIFICATE_MODE),
            ]
        )
        write_all([(authority.key, new.key, KEY_MODE), (authority.certificate, new.certificate + present, CERTIFICATE_MODE)])
    except OSError as error:
        raise _failure(authority.certificate, error) from error


def conclude(authority: Pair) -> None:
    """Trust the new CA only. Raises ConfigError."""
    try:
        first = parse_certificates(authority.certificate.read_bytes(), authority.certificate)[0]
        write_all([(authority.certificate, first.public_bytes(Encoding.PEM), CERTIFICATE_MODE)])
    except OSError as error:
        raise _failure(authority.certificate, error) from error


def _failure(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{error.filename or path}: {error.strerror or error}")
