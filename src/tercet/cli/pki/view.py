"""Output of `tercet pki`: certificates as text or JSON, and the list of written files. Never a private key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import click
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

from tercet.pki.certificate import days_left, is_self_signed, path_length_of
from tercet.pki.keys import describe
from tercet.pki.names import hosts_of, short_text, subject_text
from tercet.pki.usages import usages_of

_SOON_DAYS = 30
_KINDS: dict[type[x509.GeneralName], str] = {
    x509.DNSName: "DNS names",
    x509.IPAddress: "IP addresses",
    x509.UniformResourceIdentifier: "URIs",
    x509.RFC822Name: "email addresses",
}


def page(certificate: x509.Certificate, now: datetime) -> str:
    """A certificate as text, one property per line."""
    rows: list[tuple[str, str]] = [
        ("subject", subject_text(certificate.subject)),
        ("issuer", "self-signed" if is_self_signed(certificate) else subject_text(certificate.issuer)),
        *((kind, ", ".join(values)) for kind, values in _by_kind(certificate).items()),
        ("usages", ", ".join(usages_of(certificate)) or "any"),
        ("CA", _ca(certificate)),
        ("valid from", _timestamp(certificate.not_valid_before_utc)),
        ("valid until", f"{_timestamp(certificate.not_valid_after_utc)}, {_left(certificate, now)}"),
        ("key", describe(certificate.public_key())),
        ("signed with", signature(certificate)),
        ("serial number", f"{certificate.serial_number:x}"),
        ("SHA-256", fingerprint(certificate)),
    ]
    width = max(len(title) for title, _ in rows)
    return "".join(f"{click.style(title.ljust(width), dim=True)}  {text}\n" for title, text in rows)


def facts(certificate: x509.Certificate, now: datetime) -> Mapping[str, object]:
    """A certificate for JSON; timestamps in RFC 3339, fractional days."""
    return {
        "subject": subject_text(certificate.subject),
        "issuer": subject_text(certificate.issuer),
        "hosts": hosts_of(certificate),
        "usages": list(usages_of(certificate)),
        "is_ca": _is_marked_ca(certificate),
        "path_length": path_length_of(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat().replace("+00:00", "Z"),
        "not_after": certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "days_left": round(days_left(certificate, now=now), 3),
        "key": describe(certificate.public_key()),
        "signed_with": signature(certificate),
        "serial_number": f"{certificate.serial_number:x}",
        "sha256": fingerprint(certificate),
    }


def summary(certificate: x509.Certificate, now: datetime) -> str:
    """Subject, hosts and expiry in one line."""
    hosts = ", ".join(hosts_of(certificate))
    for_hosts = f" for {hosts}" if hosts else ""
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%d}, {_left(certificate, now)}"
    return f"{short_text(certificate.subject)}{for_hosts}; expires {ends}"


def outlived(certificate: x509.Certificate, authority: x509.Certificate) -> str:
    """A warning if the CA expires before the certificate, which cfssl accepts without one."""
    if certificate.not_valid_after_utc <= authority.not_valid_after_utc:
        return ""
    return f"Warning: its CA expires first, on {authority.not_valid_after_utc:%Y-%m-%d}; after that the certificate is invalid"


def written(files: Sequence[tuple[str, str]]) -> str:
    """One line per file."""
    width = max(len(name) for name, _ in files)
    return "".join(f"{name.ljust(width)}  {text}\n" for name, text in files)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 fingerprint as shown by OpenSSL and browsers: `AB:CD:...`."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def signature(certificate: x509.Certificate) -> str:
    """The signature hash: `sha256`; or `ed25519`, which has its own."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string
    return algorithm.name if algorithm else "ed25519"


def _by_kind(certificate: x509.Certificate) -> dict[str, list[str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return {"hosts": ["none"]}
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_KINDS.get(type(name), "other names"), []).append(str(name.value))
    return found


def _is_marked_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _ca(certificate: x509.Certificate) -> str:
    if not _is_marked_ca(certificate):
        return "no"
    limit = path_length_of(certificate)
    return "yes" if limit is None else f"yes, path length {limit}"


def _timestamp(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _left(certificate: x509.Certificate, now: datetime) -> str:
    """`364 days left`, coloured by urgency."""
    days = days_left(certificate, now=now)
    if days < 0:
        return click.style(f"expired {math.floor(-days)} days ago", fg="red", bold=True)
    if now < certificate.not_valid_before_utc:
        return click.style("not valid yet", fg="red", bold=True)
    text = f"{math.floor(days)} days left"
    return click.style(text, fg="yellow") if days < _SOON_DAYS else text
