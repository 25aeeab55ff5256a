"""Issuing certificates: a request has subject and names, a profile has usages and lifetime, a CA signs.

    ca = load_ca(Path("ca.pem"), Path("ca-key.pem"))
    issued = issue(ca, Request("etcd", hosts=("127.0.0.1", "10.0.0.1")), usages=("server auth", "client auth"), days=365)
    issued.certificate, issued.key, issued.request      # PEM; `certificate, key, request = issued` works as well

All certificates of `tercet up`, `tercet pki` and `tercet deploy` are built here. The result equals cfssl's for the same
request, extension by extension and in its order, except that subject strings are always UTF8String and a lifetime starts at a
past full minute. Nothing here reads or writes files, and no text or `repr` contains a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID

from tercet.errors import ConfigError
from tercet.pki import keys, names
from tercet.pki import usages as known_usages
from tercet.pki.certificate import CertificateAndKey, path_length_of

BACKDATE = timedelta(minutes=5)  # tolerance for members whose clocks are behind
CA_EXPIRY = timedelta(hours=43800)  # five years, as cfssl's
DAYS = 365.0

_OF_ONE_ISSUE = (ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, ExtensionOID.PRECERT_POISON)

Extension = tuple[x509.ExtensionType, bool]  # and whether it is critical


@dataclass(frozen=True)
class Request:
    """Subject, names and key of a certificate.

    hosts: IP addresses, DNS names, email addresses, URIs. names: groups of the fields C, ST, L, O, OU, SerialNumber.
    key_size: bits; None for the default of the algorithm (rsa, ecdsa or ed25519).
    """

    common_name: str
    hosts: tuple[str, ...] = ()
    names: tuple[Mapping[str, str], ...] = ()
    key_algorithm: str = "ecdsa"
    key_size: int | None = None
    serial_number: str = ""

    def subject(self) -> x509.Name:
        """Raises ConfigError for an invalid field."""
        return names.subject(self.common_name, self.names, self.serial_number)

    def require_subject(self) -> None:
        """Raises ConfigError for an empty subject, which a CA must not have."""
        if not self.subject().rdns:
            raise ConfigError("a CA requires a subject: CN, or one of C, ST, L, O, OU")


@dataclass(frozen=True)
class Profile:
    """Usages and lifetime. `not_before` and `not_after`, if set, replace `backdate` and `expiry`."""

    usages: tuple[str, ...] = known_usages.TLS_USAGES
    expiry: timedelta = timedelta(days=DAYS)
    backdate: timedelta = BACKDATE
    not_before: datetime | None = None
    not_after: datetime | None = None
    is_ca: bool = False
    path_length: int | None = None
    issuer_urls: tuple[str, ...] = ()
    ocsp_url: str = ""
    crl_url: str = ""
    ocsp_no_check: bool = False
    allowed_names: re.Pattern[str] | None = None

    def validity(self, now: datetime) -> tuple[datetime, datetime]:
        """Start and end. Raises ConfigError."""
        try:
            start = self.not_before or now.replace(second=0, microsecond=0) - self.backdate
            end = self.not_after or start + self.expiry
        except OverflowError as error:
            raise ConfigError("the certificate would expire after the year 9999") from error
        if end <= start:
            raise ConfigError(
                f"the certificate would expire ({end:%Y-%m-%d %H:%M}) before it is valid ({start:%Y-%m-%d %H:%M})"
            )
        return start, end


class Issued(NamedTuple):
    """PEM texts. `certificate` and `request` are public; `key` must only be written to a file of mode 0600."""

    certificate: bytes
    key: bytes
    request: bytes

    def pair(self) -> CertificateAndKey:
        """The certificate and its key, for signing if it is a CA."""
        return CertificateAndKey(x509.load_pem_x509_certificate(self.certificate), keys.from_pem(self.key, "the key"))

    def __repr__(self) -> str:
        return f"Issued(certificate={self.certificate!r}, key=<not shown>, request={self.request!r})"


def issue(
    ca: CertificateAndKey,
    request: Request,
    *,
    usages: tuple[str, ...] = (known_usages.SERVER, known_usages.CLIENT),
    days: float = DAYS,
    expiry: timedelta | None = None,
    now: datetime | None = None,
) -> Issued:
    """A certificate for a new key. If `usages` has only extended key usages, the key usages of TLS are added.

    expiry: replaces `days`. Raises ConfigError.
    """
    granted = known_usages.with_key_usage(usages, request.key_algorithm)
    return issue_as(ca, request, Profile(usages=granted, expiry=expiry or timedelta(days=days)), now=now)


def init_ca(
    request: Request,
    expiry: timedelta = CA_EXPIRY,
    *,
    path_length: int | None = None,
    backdate: timedelta = BACKDATE,
    key: keys.PrivateKey | None = None,
    now: datetime | None = None,
) -> Issued:
    """A self-signed CA. key: use this key instead of generating one.

    Raises ConfigError.
    """
    request.require_subject()
    profile = Profile(usages=known_usages.CA_USAGES, expiry=expiry, backdate=backdate, is_ca=True, path_length=path_length)
    return _make(None, request, profile, key, now)


def issue_as(
    ca: CertificateAndKey,
    request: Request,
    profile: Profile,
    *,
    key: keys.PrivateKey | None = None,
    now: datetime | None = None,
) -> Issued:
    """A certificate by `profile`. key: use this key instead of generating one. Raises ConfigError."""
    _require_valid(ca.certificate, now or datetime.now(UTC))
    _require_allowed(request, profile)
    if profile.is_ca:
        _require_path_length(ca.certificate, profile)
    return _make(ca, request, profile, key, now)


def renew(
    old: x509.Certificate,
    ca: CertificateAndKey | None,
    *,
    key: keys.PrivateKey | None = None,
    expiry: timedelta | None = None,
    now: datetime | None = None,
) -> Issued:
    """Renew `old`: same subject, names, usages and key type, with a new serial number and lifetime.

    ca: signer; None for a self-signed CA. key: use this key instead of generating one. expiry: new lifetime; by default the
    lifetime of `old`. Raises ConfigError.
    """
    now = now or datetime.now(UTC)
    if ca is not None:
        _require_valid(ca.certificate, now)
    key = key or keys.generate(*keys.like(old.public_key()))
    lifetime = expiry or old.not_valid_after_utc - old.not_valid_before_utc
    extensions = [_renewed(extension, ca, key) for extension in old.extensions if extension.oid not in _OF_ONE_ISSUE]
    requested = [name for value, _ in extensions if isinstance(value, x509.SubjectAlternativeName) for name in value]
    return _signed(ca, old.subject, key, Profile(expiry=lifetime).validity(now), extensions, requested)


def _make(
    ca: CertificateAndKey | None, request: Request, profile: Profile, key: keys.PrivateKey | None, now: datetime | None
) -> Issued:
    """Build and sign; self-signed without `ca`."""
    key = key or keys.generate(request.key_algorithm, request.key_size)
    subject = request.subject()
    alternatives = names.alternative_names(request.hosts)
    extensions = _extensions(profile, key, ca, alternatives, named=bool(subject.rdns))
    return _signed(ca, subject, key, profile.validity(now or datetime.now(UTC)), extensions, alternatives)


def _signed(
    ca: CertificateAndKey | None,
    subject: x509.Name,
    key: keys.PrivateKey,
    validity: tuple[datetime, datetime],
    extensions: Sequence[Extension],
    requested: Sequence[x509.GeneralName],
) -> Issued:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.certificate.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signing_key = ca.key if ca else key
    certificate = builder.sign(signing_key, keys.signing_hash(signing_key))
    wanted = _request(subject, requested, extensions, key)
    return Issued(certificate.public_bytes(Encoding.PEM), keys.to_pem(key), wanted.public_bytes(Encoding.PEM))


def _request(
    subject: x509.Name, alternatives: Sequence[x509.GeneralName], extensions: Sequence[Extension], key: keys.PrivateKey
) -> x509.CertificateSigningRequest:
    """The CSR that cfssl writes beside a certificate: requested subject and names, and the CA flag."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    for extension, critical in extensions:
        if isinstance(extension, x509.BasicConstraints) and extension.ca:
            builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, keys.signing_hash(key))


def _renewed(extension: x509.Extension[x509.ExtensionType], ca: CertificateAndKey | None, key: keys.PrivateKey) -> Extension:
    """The same extension, updated if it identifies a key."""
    value = extension.value
    if isinstance(value, x509.SubjectKeyIdentifier):
        value = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    elif isinstance(value, x509.AuthorityKeyIdentifier) and ca is not None:
        value = _authority_key_identifier(ca.certificate)
    return value, extension.critical


def _extensions(
    profile: Profile,
    key: keys.PrivateKey,
    signer: CertificateAndKey | None,
    alternatives: Sequence[x509.GeneralName],
    *,
    named: bool,
) -> list[Extension]:
    """All extensions, in cfssl's order. named: whether the subject is not empty."""
    bits, roles = known_usages.key_usage(profile.usages), known_usages.roles(profile.usages)
    made: list[Extension] = []
    if profile.is_ca:  # like cfssl: a CA keeps only its IP addresses
        alternatives = [name for name in alternatives if isinstance(name, x509.IPAddress)]
    if bits:
        made.append((bits, True))
    if roles:
        made.append((roles, False))
    made.append((x509.BasicConstraints(ca=profile.is_ca, path_length=profile.path_length if profile.is_ca else None), True))
    made.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if signer:
        made.append((_authority_key_identifier(signer.certificate), False))
    if profile.ocsp_url or profile.issuer_urls:
        made.append((_authority_information(profile), False))
    if alternatives:
        made.append(
            (x509.SubjectAlternativeName(alternatives), not named)
        )  # RFC 5280, 4.2.1.6: critical if the subject is empty
    if profile.crl_url:
        place = [x509.UniformResourceIdentifier(profile.crl_url)]
        made.append((x509.CRLDistributionPoints([x509.DistributionPoint(place, None, None, None)]), False))
    if profile.ocsp_no_check:
        made.append((x509.OCSPNoCheck(), False))
    return made


def _authority_key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public_key = certificate.public_key()
        if not isinstance(public_key, keys.PublicKey):
            raise ConfigError("unsupported type of CA key") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _authority_information(profile: Profile) -> x509.AuthorityInformationAccess:
    places = [(AuthorityInformationAccessOID.OCSP, profile.ocsp_url)] if profile.ocsp_url else []
    places += [(AuthorityInformationAccessOID.CA_ISSUERS, url) for url in profile.issuer_urls]
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in places]
    )


def _require_valid(certificate: x509.Certificate, now: datetime) -> None:
    """Reject an expired CA. cfssl would sign, and clients would reject the result."""
    who = f"the CA {names.subject_text(certificate.subject)}"
    if now > certificate.not_valid_after_utc:
        ended = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"{who} expired on {ended}; renew it first (tercet pki renew)")
    if now < certificate.not_valid_before_utc:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"{who} is not valid before {begins}, and the time is {now:%Y-%m-%d %H:%M} UTC; check the clock")


def _require_allowed(request: Request, profile: Profile) -> None:
    """cfssl's name_whitelist, which applies to the common name, DNS names, email addresses and URIs, not to IP addresses."""
    if profile.allowed_names is None:
        return
    kinds = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)
    checked = [name.value for name in names.alternative_names(request.hosts) if isinstance(name, kinds)]
    for text in [request.common_name, *checked]:
        if text and not profile.allowed_names.search(text):
            raise ConfigError(f"{text!r} is not allowed by the profile's name_whitelist")


def _require_path_length(certificate: x509.Certificate, profile: Profile) -> None:
    """The path length of an intermediate CA must be less than that of its CA."""
    above = path_length_of(certificate)
    if above is not None and (above == 0 or (profile.path_length or 0) >= above):
        raise ConfigError(f"{names.subject_text(certificate.subject)} must not sign this CA: its path length is {above}")
