"""Explains why a certificate would be rejected: name, CA, validity, usage, key.

TLS peers report only "bad certificate", and on the other side. `explain` lists all reasons, not only the first. An empty list
means that OpenSSL and Go accept the certificate for this host and usage. Defects of a certificate never raise; they are the
result.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tercet.errors import ConfigError
from tercet.pki import keys, names
from tercet.pki import usages as known_usages
from tercet.pki.certificate import is_ca, is_self_signed, parse_certificates, path_length_of

Usage = Literal["server", "client"]
_ROLES = {"server": known_usages.SERVER, "client": known_usages.CLIENT}
_CURVE_BITS_MIN = 224
_CHAIN_MAX = 8  # real chains have one or two CAs


def explain(
    certificate_pem: bytes,
    *,
    ca_pem: bytes,
    host: str | None = None,
    usage: Usage | None = None,
    now: datetime | None = None,
    key_pem: bytes | None = None,
) -> list[str]:
    """All reasons why a peer that trusts `ca_pem` would reject the certificate; an empty list if there are none.

    certificate_pem: the certificate, followed by intermediate CAs if any. ca_pem: one or more trusted CAs. host: IP address or
    DNS name of the server (None: not checked). usage: role of the certificate (None: not checked). key_pem: its private key.
    """
    try:
        certificate, *between = parse_certificates(certificate_pem, "the certificate")
        trusted = parse_certificates(ca_pem, "the CA")
    except ConfigError as error:
        return [str(error)]
    now = now or datetime.now(UTC)
    problems = _wrong_time(certificate, now, "it")
    problems += _wrong_signer(certificate, between, trusted, now)
    if host is not None:
        problems += _wrong_host(certificate, host)
    if usage is not None:
        problems += _wrong_use(certificate, _ROLES[usage])
    if key_pem is not None:
        problems += _wrong_key(certificate, key_pem)
    return problems + _weak(certificate)


def _wrong_time(certificate: x509.Certificate, now: datetime, who: str) -> list[str]:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return [
            f"{who} is not valid before {_timestamp(begins)}, and the time is {_timestamp(now)}: one of the clocks is off by "
            f"at least {_span(begins - now)}"
        ]
    if now > ends:
        return [f"{who} expired on {_timestamp(ends)}, {_span(now - ends)} ago (the time is {_timestamp(now)})"]
    return []


def _wrong_signer(
    certificate: x509.Certificate, between: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> list[str]:
    """Follow the signatures up to a trusted CA."""
    problems: list[str] = []
    current = certificate
    for below in range(_CHAIN_MAX):
        if any(current == known for known in trusted):
            return problems
        issuer = _signer_of(current, trusted) or _signer_of(current, between)
        if issuer is None:
            return [*problems, _unknown_signer(current, between, trusted)]
        problems += _wrong_authority(issuer, below, now)
        if any(issuer == known for known in trusted):
            return problems
        current = issuer
    return [*problems, f"its chain has more than {_CHAIN_MAX} CAs"]


def _signer_of(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The candidate whose key signed it; the one that expires last, if a CA was renewed with the same key."""
    signers = [candidate for candidate in candidates if _signed(certificate, candidate)]
    return max(signers, key=lambda signer: signer.not_valid_after_utc, default=None)


def _signed(certificate: x509.Certificate, candidate: x509.Certificate) -> bool:
    with contextlib.suppress(InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        certificate.verify_directly_issued_by(candidate)
        return True
    return False


def _unknown_signer(
    certificate: x509.Certificate, between: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate]
) -> str:
    """The reason for an unknown signer: another CA, a CA of the same name with another key, or a wrong signature."""
    subjects = [authority.subject for authority in trusted]
    # Short names, unless they are equal ("signed by CN=ca, not by CN=ca").
    differ = all(names.short_text(certificate.issuer) != names.short_text(subject) for subject in subjects)
    text = names.short_text if differ else names.subject_text
    by, known = text(certificate.issuer), _either([text(subject) for subject in subjects])
    if any(authority.subject == certificate.issuer for authority in [*trusted, *between]):
        return (
            f"its issuer is {by}, but it is not signed with the key of the trusted {by}: "
            f"the CA was recreated under the same name, or the certificate was modified"
        )
    if is_self_signed(certificate):
        return f"it is self-signed by {by}, and the trusted CA is {known}"
    return f"it is signed by {by}, and the trusted CA is {known}"


def _wrong_authority(authority: x509.Certificate, below: int, now: datetime) -> list[str]:
    """Problems of a signer with `below` intermediate CAs between it and the certificate."""
    who = f"its CA {names.short_text(authority.subject)}"
    problems = _wrong_time(authority, now, who)
    if not is_ca(authority):
        problems.append(f"{who} is not a CA: its certificate does not allow signing")
    limit = path_length_of(authority)
    if limit is not None and below > limit:
        problems.append(f"{who} has path length {limit}, and {below} CAs follow")
    return problems + _weak_key(authority, who)


def _wrong_host(certificate: x509.Certificate, host: str) -> list[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        subject = names.subject_text(certificate.subject)
        return [f"it has no subjectAltName, so it is not valid for {host}; the subject ({subject}) is ignored"]
    dns_names = alternatives.get_values_for_type(x509.DNSName)
    address = names.ip_address(host)
    if address is None:
        fits, hint = any(_dns_name_fits(name, host) for name in dns_names), ""
    else:
        fits = address in alternatives.get_values_for_type(x509.IPAddress)
        hint = "; it has the address as a DNS name instead of an IP address" if host in dns_names else ""
    listed = _and(names.hosts_of(certificate))
    return [] if fits else [f"it is valid for {listed}, not for {host}{hint}"]


def _dns_name_fits(pattern: str, host: str) -> bool:
    """A wildcard matches exactly one label, the first (RFC 6125, 6.4.3)."""
    pattern, host = pattern.lower(), host.lower().removesuffix(".")
    if pattern.startswith("*."):
        first, _, rest = host.partition(".")
        return bool(first) and rest == pattern[2:]
    return pattern == host


def _wrong_use(certificate: x509.Certificate, role: str) -> list[str]:
    if known_usages.allows(certificate, role):
        return []
    listed = _and([f"{usage!r}" for usage in known_usages.usages_of(certificate)])
    side = "a server" if role == known_usages.SERVER else "a client"
    return [f"it is not valid for {side}: its usages are {listed}, without {role!r}"]


def _wrong_key(certificate: x509.Certificate, key_pem: bytes) -> list[str]:
    try:
        key = keys.from_pem(key_pem, "its key")
    except ConfigError as error:
        return [str(error)]
    if key.public_key() != certificate.public_key():
        return ["the key does not match the certificate"]
    return []


def _weak(certificate: x509.Certificate) -> list[str]:
    problems = _weak_key(certificate, "it")
    with contextlib.suppress(UnsupportedAlgorithm):
        if isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
            problems.append(f"it is signed with {certificate.signature_hash_algorithm.name}, which is no longer accepted")
    return problems


def _weak_key(certificate: x509.Certificate, who: str) -> list[str]:
    key = certificate.public_key()
    weak = (isinstance(key, rsa.RSAPublicKey) and key.key_size < keys.RSA_BITS_MIN) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _CURVE_BITS_MIN
    )
    return [f"{who} has a weak key, which OpenSSL and Go reject ({keys.describe(key)})"] if weak else []


def _timestamp(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(time: timedelta) -> str:
    """In its largest unit: `3 days`, `2 hours`, `5 minutes`, `12 seconds`."""
    seconds = int(time.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' * (count != 1)}"
    return f"{seconds} second{'s' * (seconds != 1)}"


def _and(items: Sequence[str]) -> str:
    return _joined(items, "and")


def _either(items: Sequence[str]) -> str:
    return _joined(list(dict.fromkeys(items)), "or")


def _joined(items: Sequence[str], word: str) -> str:
    if len(items) < 2:
        return "".join(items) or "nothing"
    return f"{', '.join(items[:-1])} {word} {items[-1]}"
