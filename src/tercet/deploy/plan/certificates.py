"""Which certificates does a cluster need, which of them are there, and which are to be made?

Everything is kept with the operator, in `tls.directory` (mode 0700; keys 0600), in PEM:

    ca.pem ca-key.pem                 signs what clients and client listeners show
    peer-ca.pem peer-ca-key.pem       signs what members show each other: a client's certificate opens no peer port
    client.pem client-key.pem         the operator's own, for the user `root`
    hosts/NAME/server.pem peer.pem    with their keys, two pairs a member
    etcd.pem etcd-key.pem             instead of those pairs where `tls.shared` asks for one of all hosts and roles

With `shared`, or with an authority of the operator's own, that one authority stands for both.

`look` reads and touches nothing, so that a plan can be made of it; `ensure_certificates` makes what is missing. An authority is
never made anew here: its members would no longer trust each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.errors import ConfigError
from tercet.pki import days_left, explain, init_ca, issue, keys, load_ca, names
from tercet.pki.certificate import CertificateAndKey, load_pair
from tercet.pki.files import CERTIFICATE_MODE, KEY_MODE, close_to_others, write_all
from tercet.pki.issue import Issued, Request
from tercet.pki.usages import CLIENT, SERVER

AUTHORITY_DAYS = 3650
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
NOT_YET = "there is none yet"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as they are or as they are to be.

    pem, key_pem: None while they are to be made; key_pem of an authority is never read. reason: why they are to be made; "" if
    they are kept. signer: None for an authority.
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
    def is_to_be_made(self) -> bool:
        return bool(self.reason)

    def describe(self) -> str:
        """Who it is for, for how long, and why it is made; nothing secret."""
        parts = [f"names {', '.join(self.request.hosts)}"] if self.request.hosts else []
        parts += [f"signed by the {self.signer.title}"] if self.signer else []
        why = "" if self.reason == NOT_YET else f" ({self.reason})"
        return "; ".join([f"new {self.title}: {self.days} days", *parts]) + why


@dataclass(frozen=True)
class Certificates:
    """All pairs of a cluster; without TLS there are none. ca and peer_ca are the same one where one signs everything."""

    ca: Pair | None = None
    peer_ca: Pair | None = None
    client: Pair | None = None
    servers: Mapping[str, Pair] = field(default_factory=dict)
    peers: Mapping[str, Pair] = field(default_factory=dict)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Each once, signers first."""
        every = [self.ca, self.peer_ca, self.client]
        for name in self.servers:
            every += [self.servers[name], self.peers[name]]
        found: dict[Path, Pair] = {pair.certificate: pair for pair in every if pair is not None}
        return tuple(found.values())

    @property
    def to_be_made(self) -> tuple[Pair, ...]:
        return tuple(pair for pair in self.pairs if pair.is_to_be_made)


def look(cluster: Cluster, *, now: datetime | None = None) -> Certificates:
    """What is there and what is missing. Raises ConfigError where an authority cannot be used."""
    if not cluster.tls.enabled:
        return Certificates()
    now = now or datetime.now(UTC)
    ca = _authority(cluster, now)
    peer_ca = ca if _has_one_authority(cluster) else _own_authority(cluster, "peer-ca", "peer authority", now)
    client = _seen(_client(cluster, ca), cluster, now)
    if cluster.tls.shared:
        one = _seen(_shared(cluster, ca), cluster, now)
        servers = peers = {spec.name: one for spec in cluster.hosts}
    else:
        servers = {spec.name: _seen(_of_host(cluster, spec, "server", ca), cluster, now) for spec in cluster.hosts}
        peers = {spec.name: _seen(_of_host(cluster, spec, "peer", peer_ca), cluster, now) for spec in cluster.hosts}
    return Certificates(ca, peer_ca, client, servers, peers)


def missing(cluster: Cluster, *, now: datetime | None = None) -> list[str]:
    """One line for each pair that `ensure_certificates` would make."""
    return [pair.describe() for pair in look(cluster, now=now).to_be_made]


def ensure_certificates(cluster: Cluster, *, now: datetime | None = None) -> Certificates:
    """Make what is missing or no longer good, keep the rest. Raises ConfigError."""
    found = look(cluster, now=now)
    for pair in found.to_be_made:
        make(cluster, pair, now=now)
    for pair in found.pairs:
        if pair.key.is_relative_to(cluster.tls.directory):
            close_to_others(pair.key)
    return look(cluster, now=now) if found.to_be_made else found


def make(cluster: Cluster, pair: Pair, *, now: datetime | None = None) -> None:
    """Make one pair; its signer must be there. Raises ConfigError."""
    try:
        _open_directory(cluster.tls.directory, pair.certificate.parent)
        issued = _issued(pair, now)
        write_all([(pair.key, issued.key, KEY_MODE), (pair.certificate, issued.certificate, CERTIFICATE_MODE)])
    except OSError as error:
        raise ConfigError(f"{error.filename or pair.certificate}: {error.strerror or error}") from error


def _issued(pair: Pair, now: datetime | None) -> Issued:
    if pair.signer is None:
        return init_ca(pair.request, timedelta(days=pair.days), path_length=0, now=now)
    signer = load_ca(pair.signer.certificate, pair.signer.key)
    return issue(signer, pair.request, usages=pair.usages, days=pair.days, now=now)


def _open_directory(directory: Path, below: Path) -> None:
    """For the operator alone, all of it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)
    below.mkdir(parents=True, exist_ok=True, mode=0o700)


# What is wanted.


def _has_one_authority(cluster: Cluster) -> bool:
    return cluster.tls.shared or cluster.tls.ca_certificate is not None


def _client(cluster: Cluster, ca: Pair) -> Pair:
    # `root` is the user that etcd's auth, once enabled, takes from a certificate; so this one keeps its rights.
    return _wanted(cluster, ca, "client", "certificate of the operator", "root", (), (CLIENT,))


def _shared(cluster: Cluster, ca: Pair) -> Pair:
    hosts = (*LOOPBACK_HOSTS, *(host for spec in cluster.hosts for host in (spec.address, spec.name)))
    return _wanted(cluster, ca, "etcd", "certificate of all members", "etcd", hosts, (SERVER, CLIENT))


def _of_host(cluster: Cluster, spec: HostSpec, role: str, ca: Pair) -> Pair:
    # A member dials its peers' ports, and its own client port, with the same pair.
    hosts = (spec.address, spec.name, *LOOPBACK_HOSTS)
    place, title = f"hosts/{spec.name}/{role}", f"certificate of {spec.name} ({role})"
    return _wanted(cluster, ca, place, title, spec.name, hosts, (SERVER, CLIENT))


def _wanted(
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
    """A member's name may be one that no host can have, such as `a..b`; nobody reaches it by that then."""
    try:
        names.general_name(text)
    except ConfigError:
        return False
    return True


def _request(cluster: Cluster, common_name: str, hosts: tuple[str, ...] = ()) -> Request:
    tls = cluster.tls
    return Request(
        common_name, hosts, ({str(name): text for name, text in tls.names.items()},), tls.key_algorithm, tls.key_size
    )


# What is there.


def _authority(cluster: Cluster, now: datetime) -> Pair:
    certificate, key = cluster.tls.ca_certificate, cluster.tls.ca_key
    if certificate is None or key is None:
        return _own_authority(cluster, "ca", "authority", now)
    request = Request("")  # never made here
    return _usable(Pair("authority", certificate, key, request, AUTHORITY_DAYS), now)


def _own_authority(cluster: Cluster, place: str, title: str, now: datetime) -> Pair:
    directory = cluster.tls.directory
    request = _request(cluster, f"{cluster.name} {title}")
    pair = Pair(title, directory / f"{place}.pem", directory / f"{place}-key.pem", request, AUTHORITY_DAYS)
    if not pair.certificate.exists() and not pair.key.exists():
        return replace(pair, pem=None, key_pem=None, reason=NOT_YET)
    return _usable(pair, now)


def _usable(authority: Pair, now: datetime) -> Pair:
    """With what is there. Raises ConfigError where nothing can be signed with it."""
    try:
        loaded = load_ca(authority.certificate, authority.key)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; the authority (CA) of the cluster is needed as {authority.certificate} and {authority.key}"
        ) from error
    problems = explain(loaded.pem, ca_pem=loaded.pem, now=now)
    if loaded.certificate.not_valid_after_utc < now:
        problems = [f"it has expired: {problem}" if problem.startswith("it ended") else problem for problem in problems]
    if problems:
        raise ConfigError(
            f"{authority.certificate}: this authority (CA) cannot be used: {'; '.join(problems)}. "
            f"What it signs would be refused by every member and client; renew it (tercet pki renew), or name another under tls"
        )
    return replace(authority, pem=loaded.pem, key_pem=None, reason="")


def _seen(pair: Pair, cluster: Cluster, now: datetime) -> Pair:
    """The pair with what is there of it, or with the reason for which it is to be made."""
    if not pair.certificate.exists() and not pair.key.exists():
        return replace(pair, pem=None, key_pem=None, reason=NOT_YET)
    try:
        found = load_pair(pair.certificate, pair.key)
        reason = next(_reasons(pair, found, cluster, now), "")
        key_pem = pair.key.read_bytes()
    except (ConfigError, OSError) as error:
        return replace(pair, pem=None, key_pem=None, reason=f"what is there cannot be used: {error}")
    return (
        replace(pair, pem=None, key_pem=None, reason=reason)
        if reason
        else replace(pair, pem=found.pem, key_pem=key_pem, reason="")
    )


def _reasons(pair: Pair, found: CertificateAndKey, cluster: Cluster, now: datetime) -> Iterator[str]:
    """Why the pair that is there will not do."""
    authority = pair.signer.pem if pair.signer else None
    if authority is None:
        yield "its authority is new"
        return
    if found.certificate.subject != pair.request.subject():
        yield f"the one there is for {names.subject_text(found.certificate.subject)}"
    listed = names.hosts_of(found.certificate)
    if sorted(listed) != sorted(pair.request.hosts):
        yield f"the one there is for {', '.join(listed) or 'no host'}"
    if keys.like(found.certificate.public_key()) != (cluster.tls.key_algorithm, cluster.tls.key_size):
        yield "its key is of another kind"
    yield from (f"the one there will not do: {problem}" for problem in _problems(pair, found, authority, now))
    left = days_left(found.certificate, now=now)
    if left <= cluster.tls.renewal_days:
        yield f"the one there ends in {left:.0f} days"


def _problems(pair: Pair, found: CertificateAndKey, authority: bytes, now: datetime) -> Iterator[str]:
    yield from explain(found.pem, ca_pem=authority, usage="client", now=now)
    if SERVER in pair.usages:
        yield from explain(found.pem, ca_pem=authority, usage="server", now=now)


def fingerprint(pem: bytes) -> str:
    """By which people tell certificates apart: the beginning of the SHA-256."""
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex(":", 1)[:23].upper()
