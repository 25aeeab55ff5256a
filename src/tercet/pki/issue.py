"""How is a certificate made? A request says what for, a profile says what it may do and how long, an authority signs.

    ca = load_ca(Path("ca.pem"), Path("ca-key.pem"))
    issued = issue(ca, Request("etcd", hosts=("127.0.0.1", "10.0.0.1")), usages=("server auth", "client auth"), days=365)
    issued.certificate, issued.key, issued.request      # PEM; `certificate, key, request = issued` works as well

The one place where certificates are built: for `tercet up`, `tercet pki` and `tercet deploy`. The result is what cfssl would
make of the same request, extension by extension and in its order; the subject's texts are UTF8String throughout, and a lifetime
begins at a full minute that has passed. Nothing here writes a file, and no text or `repr` shows a key.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from tercet.errors import ConfigError
from tercet.pki import keys, names
from tercet.pki import usages as known_usages

BACKDATE = timedelta(minutes=5)  # members whose clocks are behind must not find it "not yet valid"
CA_EXPIRY = timedelta(hours=43800)  # five years, as cfssl's
DAYS = 365.0


@dataclass(frozen=True)
class Request:
    """What a certificate is asked for.

    hosts: IP addresses, DNS names, email addresses, URIs. names: groups of the fields C, ST, L, O, OU, SerialNumber.
    key_size: bits; None for the usual size of the algorithm (rsa, ecdsa or ed25519).
    """

    common_name: str
    hosts: tuple[str, ...] = ()
    names: tuple[Mapping[str, str], ...] = ()
    key_algorithm: str = "ecdsa"
    key_size: int | None = None
    serial_number: str = ""

    def subject(self) -> x509.Name:
        """Raises ConfigError where a field cannot be."""
        return names.subject(self.common_name, self.names, self.serial_number)


@dataclass(frozen=True)
class Profile:
    """What the signer grants. `not_before` and `not_after`, if given, take the place of `backdate` and `expiry`."""

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
        """From when to when. Raises ConfigError."""
        try:
            start = self.not_before or now.replace(second=0, microsecond=0) - self.backdate
            end = self.not_after or start + self.expiry
        except OverflowError as error:
            raise ConfigError("a lifetime that ends after the year 9999") from error
        if end <= start:
            raise ConfigError(f"a certificate that ends ({end:%Y-%m-%d %H:%M}) before it begins ({start:%Y-%m-%d %H:%M})")
        return start, end


@dataclass(frozen=True)
class CertificateAndKey:
    """An authority in memory. `repr` shows no key."""

    certificate: x509.Certificate
    key: keys.PrivateKey = field(repr=False)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)


class Issued(NamedTuple):
    """All PEM. `certificate` and `request` are public; `key` belongs into a file of mode 0600 and nowhere else."""

    certificate: bytes
    key: bytes
    request: bytes

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
    """A certificate for a new key. What a key in TLS must be able to do is added where `usages` names only roles.

    expiry: takes the place of `days`. Raises ConfigError.
    """
    granted = known_usages.with_key_usage(usages, request.key_algorithm)
    return issue_as(ca, request, Profile(usages=granted, expiry=expiry or timedelta(days=days)), now=now)


def init_ca(
    request: Request,
    expiry: timedelta = CA_EXPIRY,
    *,
    path_length: int | None = None,
    key: keys.PrivateKey | None = None,
    now: datetime | None = None,
) -> Issued:
    """An authority of its own: a certificate signed by its own key. key: keep this one instead of making one.

    Raises ConfigError.
    """
    if not request.subject().rdns:
        raise ConfigError("an authority needs a name: CN, or one of C, ST, L, O, OU")
    profile = Profile(usages=known_usages.CA_USAGES, expiry=expiry, is_ca=True, path_length=path_length)
    return _make(None, request, profile, key, now)


def issue_as(
    ca: CertificateAndKey,
    request: Request,
    profile: Profile,
    *,
    key: keys.PrivateKey | None = None,
    now: datetime | None = None,
) -> Issued:
    """A certificate that `profile` describes. key: keep this one instead of making one. Raises ConfigError."""
    _require_alive(ca.certificate, now or datetime.now(UTC))
    _require_allowed(request, profile)
    if profile.is_ca:
        _require_room_below(ca.certificate, profile)
    return _make(ca, request, profile, key, now)


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
    return constraints.ca and known_usages.may_sign_certificates(certificate)


def path_length(certificate: x509.Certificate) -> int | None:
    """How many authorities may stand between it and a certificate of a member; None: any number."""
    with contextlib.suppress(x509.ExtensionNotFound):
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return None


def days_left(certificate: bytes | x509.Certificate, *, now: datetime | None = None) -> float:
    """Days until it ends; less than zero when it has. Raises ConfigError where `certificate` is none."""
    if isinstance(certificate, bytes):
        certificate = parse_certificates(certificate, "certificate")[0]
    return (certificate.not_valid_after_utc - (now or datetime.now(UTC))) / timedelta(days=1)


def _make(
    ca: CertificateAndKey | None, request: Request, profile: Profile, key: keys.PrivateKey | None, now: datetime | None
) -> Issued:
    """Build and sign; without `ca`, it signs itself."""
    key = key or keys.generate(request.key_algorithm, request.key_size)
    subject = request.subject()
    alternatives = names.alternative_names(request.hosts)
    wanted = _request(subject, alternatives, profile, key)
    if profile.is_ca:  # as cfssl does: an authority keeps only its addresses
        alternatives = [name for name in alternatives if isinstance(name, x509.IPAddress)]
    start, end = profile.validity(now or datetime.now(UTC))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(ca.certificate.subject if ca else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension, critical in _extensions(profile, key, ca, alternatives, named=bool(subject.rdns)):
        builder = builder.add_extension(extension, critical=critical)
    signing_key = ca.key if ca else key
    certificate = builder.sign(signing_key, keys.signing_hash(signing_key))
    return Issued(certificate.public_bytes(Encoding.PEM), keys.to_pem(key), wanted.public_bytes(Encoding.PEM))


def _request(
    subject: x509.Name, alternatives: list[x509.GeneralName], profile: Profile, key: keys.PrivateKey
) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if profile.is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=profile.path_length), critical=True)
    return builder.sign(key, keys.signing_hash(key))


def _extensions(
    profile: Profile,
    key: keys.PrivateKey,
    signer: CertificateAndKey | None,
    alternatives: list[x509.GeneralName],
    *,
    named: bool,
) -> list[tuple[x509.ExtensionType, bool]]:
    """All extensions and whether each is critical, in cfssl's order. named: whether there is a subject."""
    bits, roles = known_usages.key_usage(profile.usages), known_usages.roles(profile.usages)
    made: list[tuple[x509.ExtensionType, bool]] = []
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
        made.append((x509.SubjectAlternativeName(alternatives), not named))  # RFC 5280, 4.2.1.6: critical if it is all there is
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
            raise ConfigError("the authority's key is of a kind that is not supported") from None
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(named)


def _authority_information(profile: Profile) -> x509.AuthorityInformationAccess:
    places = [(AuthorityInformationAccessOID.OCSP, profile.ocsp_url)] if profile.ocsp_url else []
    places += [(AuthorityInformationAccessOID.CA_ISSUERS, url) for url in profile.issuer_urls]
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in places]
    )


def _require_alive(certificate: x509.Certificate, now: datetime) -> None:
    """cfssl would sign, and every client would refuse the result with a word about the wrong certificate."""
    who = f"the authority {names.subject_text(certificate.subject)}"
    if now > certificate.not_valid_after_utc:
        ended = f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"{who} ended on {ended}: what it signs is refused by everyone. Renew it first")
    if now < certificate.not_valid_before_utc:
        begins = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise ConfigError(f"{who} begins only on {begins}, and it is {now:%Y-%m-%d %H:%M} UTC here: is this clock right?")


def _require_allowed(request: Request, profile: Profile) -> None:
    """cfssl's name_whitelist: it holds for the common name, for DNS names and for email addresses, and for nothing else."""
    if profile.allowed_names is None:
        return
    kinds = (x509.DNSName, x509.RFC822Name, x509.UniformResourceIdentifier)
    checked = [name.value for name in names.alternative_names(request.hosts) if isinstance(name, kinds)]
    for text in [request.common_name, *checked]:
        if text and not profile.allowed_names.search(text):
            raise ConfigError(f"{text!r} is not a name that this profile allows (name_whitelist)")


def _require_room_below(certificate: x509.Certificate, profile: Profile) -> None:
    """An authority below another one may reach less far than the one above."""
    above = path_length(certificate)
    if above is not None and (above == 0 or (profile.path_length or 0) >= above):
        raise ConfigError(
            f"{names.subject_text(certificate.subject)} may not sign such an authority: its path length is {above}"
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
