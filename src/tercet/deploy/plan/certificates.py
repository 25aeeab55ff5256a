"""The certificates of a cluster: which exist, which are missing or unusable, and their creation.

All files are kept on the operator's machine in `tls.directory` (mode 0700; keys 0600), in PEM:

    ca.pem ca-key.pem                 signs the certificates of clients and client listeners
    peer-ca.pem peer-ca-key.pem       signs the certificates of peers: a client's certificate is not accepted on a peer port
    client.pem client-key.pem         the operator's client certificate, for the user `root`
    hosts/NAME/server.pem peer.pem    with their keys, two pairs per member
    etcd.pem etcd-key.pem             with `tls.shared`, one pair for all hosts and roles instead

With `tls.shared` or an external CA, that one CA signs everything.

`inspect` only reads, so that a plan can be based on it, except that it completes the replacement of a pair that was interrupted
between its two files; `ensure_certificates` creates what is missing. A CA is never replaced
here: members that trust different CAs reject each other. During a rotation (`ca_rotation`) ca.pem has two certificates: the CA
that signs, then the one that it replaces, which is still trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.errors import ConfigError
from tercet.pki import days_left, explain, init_ca, issue, keys, load_ca, names
from tercet.pki.certificate import CertificateAndKey, load_pair, parse_certificates
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, restrict_mode, write_all
from tercet.pki.issue import Issued, Request
from tercet.pki.usages import CLIENT, SERVER

AUTHORITY_DAYS = 3650
_KEY_TYPE = ("ecdsa", 256)
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
MISSING = "missing"
Renewal: TypeAlias = Literal["due", "all", "replaced CA"]
"""Which usable pairs are created again: those about to expire, all, or those that the present CA has not signed."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, existing or to be created.

    pem, key_pem: None until created; the key of a CA is never read. reason: why the pair must be created; "" if it is kept.
    signer: None for a CA.
    """

    title: str
    certificate: Path
    key: Path
    request: Request
    days: int
    usages: tuple[str, ...] = ()
    signer: Pair | None = None
    pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)
    reason: str = ""

    @property
    def is_pending(self) -> bool:
        return bool(self.reason)

    def describe(self) -> str:
        """Names, lifetime, signer and the reason for creation; nothing secret."""
        parts = [f"names {', '.join(self.request.hosts)}"] if self.request.hosts else []
        parts += [f"signed by the {self.signer.title}"] if self.signer else []
        why = "" if self.reason == MISSING else f" ({self.reason})"
        return "; ".join([f"new {self.title}: {self.days} days", *parts]) + why


@dataclass(frozen=True)
class Certificates:
    """All pairs of a cluster; none without TLS. ca and peer_ca are the same pair if one CA signs everything."""

    ca: Pair | None = None
    peer_ca: Pair | None = None
    client: Pair | None = None
    servers: Mapping[str, Pair] = field(default_factory=dict)
    peers: Mapping[str, Pair] = field(default_factory=dict)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Every pair once, signers first."""
        every = [self.ca, self.peer_ca, self.client]
        for name in self.servers:
            every += [self.servers[name], self.peers[name]]
        found: dict[Path, Pair] = {pair.certificate: pair for pair in every if pair is not None}
        return tuple(found.values())

    @property
    def pending(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.is_pending)


def inspect(cluster: Cluster, *, now: datetime | None = None, renewal: Renewal = "due") -> Certificates:
    """The existing and the pending pairs. Raises ConfigError for an unusable CA."""
    if not cluster.tls.enabled:
        return Certificates()
    now = now or datetime.now(UTC)
    ca = _ca(cluster, now)
    peer_ca = ca if _has_one_ca(cluster) else _own_ca(cluster, "peer-ca", "peer CA", now)

    def inspected(pair: Pair) -> Pair:
        return _inspected(pair, cluster, now, renewal)

    client = inspected(_client(cluster, ca))
    if cluster.tls.shared:
        one = inspected(_shared(cluster, ca))
        servers = peers = {spec.name: one for spec in cluster.hosts}
    else:
        servers = {spec.name: inspected(_of_host(cluster, spec, "server", ca)) for spec in cluster.hosts}
        peers = {spec.name: inspected(_of_host(cluster, spec, "peer", peer_ca)) for spec in cluster.hosts}
    return Certificates(ca, peer_ca, client, servers, peers)


def missing(cluster: Cluster, *, now: datetime | None = None) -> list[str]:
    """One line for each pair that `ensure_certificates` would create."""
    return [pair.describe() for pair in inspect(cluster, now=now).pending]


def ensure_certificates(cluster: Cluster, *, now: datetime | None = None) -> Certificates:
    """Create the pairs that are missing or unusable, keep the others. Raises ConfigError."""
    found = inspect(cluster, now=now)
    for pair in found.pending:
        create(cluster, pair, now=now)
    for pair in found.pairs:
        if pair.key.is_relative_to(cluster.tls.directory):
            restrict_mode(pair.key)
    return inspect(cluster, now=now) if found.pending else found


def create(cluster: Cluster, pair: Pair, *, now: datetime | None = None) -> None:
    """Create one pair; its signer must exist. Raises ConfigError."""
    try:
        _create_directories(cluster.tls.directory, pair.certificate.parent)
        issued = _issued(pair, now)
        write_all([(pair.key, issued.key, KEY_MODE), (pair.certificate, issued.certificate, CERTIFICATE_MODE)])
    except OSError as error:
        raise ConfigError(f"{error.filename or pair.certificate}: {error.strerror or error}") from error


def _issued(pair: Pair, now: datetime | None) -> Issued:
    if pair.signer is None:
        return init_ca(pair.request, timedelta(days=pair.days), path_length=0, now=now)
    signer = load_ca(pair.signer.certificate, pair.signer.key)
    return issue(signer, pair.request, usages=pair.usages, days=pair.days, now=now)


def _create_directories(directory: Path, below: Path) -> None:
    """Accessible only by the operator."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    below.mkdir(parents=True, exist_ok=True, mode=0o700)


# The required pairs.


def _has_one_ca(cluster: Cluster) -> bool:
    return cluster.tls.shared or cluster.tls.ca_certificate is not None


def _client(cluster: Cluster, ca: Pair) -> Pair:
    # etcd's auth takes the user name from the common name; as `root` the operator keeps full rights when auth is enabled.
    return _required(cluster, ca, "client", "operator certificate", "root", (), (CLIENT,))


def _shared(cluster: Cluster, ca: Pair) -> Pair:
    hosts = (*LOOPBACK_HOSTS, *(host for spec in cluster.hosts for host in (spec.address, spec.name)))
    return _required(cluster, ca, "etcd", "shared certificate", "etcd", hosts, (SERVER, CLIENT))


def _of_host(cluster: Cluster, spec: HostSpec, role: str, ca: Pair) -> Pair:
    # A member also uses the pair as a client: to its peers, and to its own client port.
    hosts = (spec.address, spec.name, *LOOPBACK_HOSTS)
    place, title = f"hosts/{spec.name}/{role}", f"{role} certificate of {spec.name}"
    return _required(cluster, ca, place, title, spec.name, hosts, (SERVER, CLIENT))


def _required(
    cluster: Cluster, ca: Pair, place: str, title: str, common_name: str, hosts: tuple[str, ...], usages: tuple[str, ...]
) -> Pair:
    tls = cluster.tls
    if hosts:
        hosts = tuple(str(name.value) for name in names.alternative_names((*filter(_is_host, hosts), *tls.extra_hosts)))
    return Pair(
        title,
        tls.directory / f"{place}.pem",
        tls.directory / f"{place}-key.pem",
        _request(cluster, common_name, hosts),
        tls.days,
        usages,
        ca,
    )


def _is_host(text: str) -> bool:
    """A member's name need not be a valid host name (`a..b`); it is then left out of the certificate."""
    try:
        names.general_name(text)
    except ConfigError:
        return False
    return True


def _request(cluster: Cluster, common_name: str, hosts: tuple[str, ...] = ()) -> Request:
    names_of_subject = {str(name): text for name, text in cluster.tls.names.items()}
    return Request(common_name, hosts, (names_of_subject,), *_key_type(cluster))


def _key_type(cluster: Cluster) -> tuple[str, int]:
    """Algorithm and size of new keys: those of the file, else as the external CA has them. Raises ConfigError."""
    tls = cluster.tls
    if tls.key_type is not None:
        return tls.key_type
    if tls.ca_certificate is None:
        return _KEY_TYPE
    try:
        pem = tls.ca_certificate.read_bytes()
    except OSError as error:
        raise ConfigError(f"{tls.ca_certificate}: cannot be read: {error.strerror or error}") from error
    return keys.like(parse_certificates(pem, tls.ca_certificate)[0].public_key())


# The existing pairs.


def _ca(cluster: Cluster, now: datetime) -> Pair:
    certificate, key = cluster.tls.ca_certificate, cluster.tls.ca_key
    if certificate is None or key is None:
        return _own_ca(cluster, "ca", "CA", now)
    request = Request("")  # never created here
    return _usable(Pair("CA", certificate, key, request, AUTHORITY_DAYS), now)


def _own_ca(cluster: Cluster, place: str, title: str, now: datetime) -> Pair:
    directory = cluster.tls.directory
    request = _request(cluster, f"{cluster.name} {title}")
    pair = Pair(title, directory / f"{place}.pem", directory / f"{place}-key.pem", request, AUTHORITY_DAYS)
    if not pair.certificate.exists() and not pair.key.exists():
        return replace(pair, pem=None, key_pem=None, reason=MISSING)
    usable = _usable(pair, now)
    return replace(usable, pem=pair.certificate.read_bytes())  # during a rotation with the replaced CA


def _usable(authority: Pair, now: datetime) -> Pair:
    """The CA with its certificate loaded. Raises ConfigError if it cannot sign."""
    try:
        loaded = load_ca(authority.certificate, authority.key)
    except ConfigError as error:
        raise ConfigError(f"{error}; the CA of the cluster must be in {authority.certificate} and {authority.key}") from error
    problems = explain(loaded.pem, ca_pem=loaded.pem, now=now)
    if loaded.certificate.not_valid_after_utc < now:
        problems = [f"it has expired: {problem}" if problem.startswith("it expired") else problem for problem in problems]
    if problems:
        raise ConfigError(
            f"{authority.certificate}: unusable CA: {'; '.join(problems)}. Members and clients would reject the certificates "
            f"that it signs; renew it with tercet pki renew, or set another CA under tls"
        )
    return replace(authority, pem=loaded.pem, key_pem=None, reason="")


def _inspected(pair: Pair, cluster: Cluster, now: datetime, renewal: Renewal) -> Pair:
    """The pair with its contents, or with the reason why it must be created."""
    if not pair.certificate.exists() and not pair.key.exists():
        return replace(pair, pem=None, key_pem=None, reason=MISSING)
    try:
        found = load_pair(pair.certificate, pair.key)
        reason = next(_reasons(pair, found, cluster, now), "") or _asked_for(pair, found, renewal)
        key_pem = pair.key.read_bytes()
    except (ConfigError, OSError) as error:
        return replace(pair, pem=None, key_pem=None, reason=f"the existing pair is unusable: {error}")
    return (
        replace(pair, pem=None, key_pem=None, reason=reason)
        if reason
        else replace(pair, pem=found.pem, key_pem=key_pem, reason="")
    )


def _reasons(pair: Pair, found: CertificateAndKey, cluster: Cluster, now: datetime) -> Iterator[str]:
    """Why the existing pair must be replaced."""
    authority = pair.signer.pem if pair.signer else None
    if authority is None:
        yield "its CA is new"
        return
    if found.certificate.subject != pair.request.subject():
        yield f"the existing subject is {names.subject_text(found.certificate.subject)}"
    listed = names.hosts_of(found.certificate)
    if sorted(listed) != sorted(pair.request.hosts):
        yield f"the existing names are {', '.join(listed) or 'empty'}"
    wanted = cluster.tls.key_type
    if wanted is not None and keys.like(found.certificate.public_key()) != wanted:
        yield "its key has another algorithm or size"
    yield from (f"the existing certificate is invalid: {problem}" for problem in _problems(pair, found, authority, now))
    left = days_left(found.certificate, now=now)
    if left <= cluster.tls.renewal_days:
        yield f"the existing certificate expires in {left:.0f} days"


def _asked_for(pair: Pair, found: CertificateAndKey, renewal: Renewal) -> str:
    """Why a usable pair is created again; "" if it is kept."""
    if renewal == "all":
        return "rotation"
    return "its CA is replaced" if renewal == "replaced CA" and not _is_signed_by_first(pair, found) else ""


def _is_signed_by_first(pair: Pair, found: CertificateAndKey) -> bool:
    """Whether the first CA of the signer's file, which signs, has signed it."""
    if pair.signer is None or pair.signer.pem is None:
        return False
    authority = parse_certificates(pair.signer.pem, pair.signer.certificate)[0]
    try:
        found.certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _problems(pair: Pair, found: CertificateAndKey, authority: bytes, now: datetime) -> Iterator[str]:
    yield from explain(found.pem, ca_pem=authority, usage="client", now=now)
    if SERVER in pair.usages:
        yield from explain(found.pem, ca_pem=authority, usage="server", now=now)


def fingerprint(pem: bytes) -> str:
    """The first 8 bytes of the SHA-256 fingerprint, for display."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex(":", 1)[:23].upper()
