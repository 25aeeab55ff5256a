"""Why would a certificate be refused? In words: which name, which authority, whose clock, which use, whose key.

TLS says "bad certificate", and says it on the other side's screen. `explain` looks for every reason, not only for the first, so
that one look is enough; no reason found means that OpenSSL and Go would accept it for this host and use. It never raises for
what is wrong with a certificate: that is its answer.
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
from tercet.pki.certificate import is_ca, parse_certificates, path_length_of

Usage = Literal["server", "client"]
_ROLES = {"server": known_usages.SERVER, "client": known_usages.CLIENT}
_CURVE_BITS_MIN = 224
_CHAIN_MAX = 8  # authorities in a row; real chains have one or two


def explain(
    certificate_pem: bytes,
    *,
    ca_pem: bytes,
    host: str | None = None,
    usage: Usage | None = None,
    now: datetime | None = None,
    key_pem: bytes | None = None,
) -> list[str]:
    """Every reason for which one who trusts `ca_pem` would refuse the certificate; an empty list if there is none.

    certificate_pem: the certificate, then authorities between it and the trusted one, if there are any.
    ca_pem: one or more trusted authorities. host: IP address or DNS name under which it is reached (none: not looked at).
    usage: in which role it is shown. key_pem: the private key beside it.
    """
    try:
        certificate, *between = parse_certificates(certificate_pem, "the certificate")
        trusted = parse_certificates(ca_pem, "the authority (CA)")
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
            f"{who} is not valid before {_moment(begins)}, and it is {_moment(now)} here: this clock or the signer's is off "
            f"(by {_span(begins - now)} at least)"
        ]
    if now > ends:
        return [f"{who} ended on {_moment(ends)}, {_span(now - ends)} ago (it is {_moment(now)} here)"]
    return []


def _wrong_signer(
    certificate: x509.Certificate, between: Sequence[x509.Certificate], trusted: Sequence[x509.Certificate], now: datetime
) -> list[str]:
    """Follow the signatures up to a trusted authority."""
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
    return [*problems, f"more than {_CHAIN_MAX} authorities stand between it and a trusted one"]


def _signer_of(certificate: x509.Certificate, candidates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The candidate whose key signed it; the one that ends last, if an authority was renewed with its key."""
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
    """Why nobody known signed it: another authority, another one of the same name, or a signature that fits nothing."""
    subjects = [authority.subject for authority in trusted]
    # By their short names, unless that would say "by CN=ca, not by CN=ca".
    differ = all(names.short_text(certificate.issuer) != names.short_text(subject) for subject in subjects)
    text = names.short_text if differ else names.subject_text
    by, known = text(certificate.issuer), _either([text(subject) for subject in subjects])
    if any(authority.subject == certificate.issuer for authority in [*trusted, *between]):
        return (
            f"it names {by} as its signer, but the key of the {by} that is known here did not sign it: "
            f"the authority was made anew under its old name, or the certificate was changed afterwards"
        )
    if certificate.subject == certificate.issuer:
        return f"{by} signed itself and is not {known}, the authority that is trusted here"
    return f"it was signed by {by}, not by {known}"


def _wrong_authority(authority: x509.Certificate, below: int, now: datetime) -> list[str]:
    """What is wrong with a signer that has `below` authorities between it and the certificate."""
    who = f"its authority {names.short_text(authority.subject)}"
    problems = _wrong_time(authority, now, who)
    if not is_ca(authority):
        problems.append(f"{who} is not an authority: its certificate does not allow it to sign others")
    limit = path_length_of(authority)
    if limit is not None and below > limit:
        problems.append(f"{who} allows {limit} authorities below it, and there are {below}")
    return problems + _weak_key(authority, who)


def _wrong_host(certificate: x509.Certificate, host: str) -> list[str]:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        subject = names.subject_text(certificate.subject)
        return [f"it is for no host at all, so not for {host}: only subjectAltName counts, not the subject ({subject})"]
    dns_names = alternatives.get_values_for_type(x509.DNSName)
    address = names.ip_address(host)
    if address is None:
        fits, hint = any(_dns_name_fits(name, host) for name in dns_names), ""
    else:
        fits = address in alternatives.get_values_for_type(x509.IPAddress)
        hint = "; it has the address as a DNS name, where nobody looks for addresses" if host in dns_names else ""
    listed = _and(names.hosts_of(certificate))
    return [] if fits else [f"it is for {listed}, not for {host}{hint}"]


def _dns_name_fits(pattern: str, host: str) -> bool:
    """A star stands for one whole label, the first (RFC 6125, 6.4.3)."""
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
    return [f"it may not be shown by {side}: its usages are {listed}, and {role!r} is not among them"]


def _wrong_key(certificate: x509.Certificate, key_pem: bytes) -> list[str]:
    try:
        key = keys.from_pem(key_pem, "the key beside it")
    except ConfigError as error:
        return [str(error)]
    if key.public_key() != certificate.public_key():
        return ["the key beside it belongs to another certificate"]
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
    return [f"{who} has a weak key, which OpenSSL and Go refuse ({keys.describe(key)})"] if weak else []


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(time: timedelta) -> str:
    """How long, as one would say it: `3 days`, `2 hours`, `5 minutes`, `12 seconds`."""
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
