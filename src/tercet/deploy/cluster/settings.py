"""The sections of the cluster file: fields, types, defaults and documentation.

These dataclasses are both the schema and the objects used by the other packages. The docstring under a field is its
documentation in docs/cluster-file.md and in the comments of a new cluster.yaml.

Checks of single values are in `field_types`, consistency checks in `checks`.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tercet.deploy.cluster.field_types import (
    AgeRecipient,
    Boolean,
    BucketUrl,
    Calendar,
    CertificateHost,
    HostPath,
    Interpreter,
    Jump,
    Listener,
    LocalPath,
    Login,
    OwnDirectory,
    PlainText,
    Port,
    Sha256,
    Source,
    SshHost,
    Unit,
    UnitOption,
    User,
    Version,
    integer,
)

EngineKind: TypeAlias = Literal["tercet", "etcd"]
SubjectKey: TypeAlias = Literal["C", "ST", "L", "O", "OU"]
INSTALL_DIRECTORIES = {"tercet": "/opt/tercet", "etcd": "/opt/etcd"}
_RENEWAL_DAYS_MAX = 30
_KEY_SIZES = {"ecdsa": 256, "rsa": 2048, "ed25519": 256}
CONFIG = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class EngineSettings:
    """The program that the members run, and its source."""

    kind: EngineKind = "tercet"
    """tercet, or upstream etcd."""
    source: Source | None = None
    """etcd: path or URL of a release tarball. tercet: of a bundle; by default it is built from the local installation."""
    sha256: Sha256 | None = None
    """Expected SHA-256 of the source."""
    version: Version | None = None
    """Expected version of the source; by default any."""
    python: Interpreter | None = None
    """tercet: Python interpreter (3.11 or newer) on the hosts; by default python3."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SshSettings:
    """SSH connections to the hosts. Unset fields are taken from ~/.ssh/config, as with `ssh`."""

    host: SshHost | None = None
    """Host or ssh alias to connect to instead of the member's address; only under a host."""
    user: Login | None = None
    """Login on the host."""
    port: Port | None = None
    """Port of the SSH server."""
    key: LocalPath | None = None
    """Private key file; by default the keys of the agent and ssh's default files."""
    jump: Jump | None = None
    """Jump host as [user@]host[:port]; several are separated by commas."""
    config: LocalPath | None = None
    """Configuration file instead of ~/.ssh/config."""
    known_hosts: LocalPath | None = None
    """Known hosts file instead of ~/.ssh/known_hosts."""
    sudo: Boolean = True
    """Use sudo if the login is not root."""
    connect_timeout: Annotated[float, Field(ge=0.1, le=600)] = 10
    """Connection timeout in seconds."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TlsSettings:
    """Certificates of members and clients, created and renewed on the operator's machine."""

    enabled: Boolean = True
    """Use TLS for clients and peers."""
    directory: LocalPath = Field(default=Path("pki"), validate_default=True)
    """Local directory of CAs, certificates and keys (mode 0700)."""
    ca_certificate: LocalPath | None = None
    """Certificate of an existing CA, for example one created with cfssl; by default a CA is created."""
    ca_key: LocalPath | None = None
    """Key of that CA; it is not copied to the hosts."""
    shared: Boolean = False
    """Use one certificate for all hosts and both roles, instead of one for each."""
    key_algorithm: Literal["ecdsa", "rsa", "ed25519"] | None = None
    """Algorithm of new keys; by default that of `ca_certificate`, otherwise ecdsa. If it is set, other keys are replaced."""
    key_size: Annotated[int, integer(0, 16384)] = 0
    """Size of new keys in bits: 256, 384 or 521 for ecdsa, 2048 to 8192 for rsa; 0 for 256 or 2048."""
    days: Annotated[int, integer(1, 36500)] = 365
    """Lifetime of certificates in days."""
    names: dict[SubjectKey, PlainText] = field(default_factory=dict)
    """Additional subject fields of the certificates: C, ST, L, O, OU."""
    extra_hosts: list[CertificateHost] = field(default_factory=list)
    """Additional DNS names and addresses that clients use to reach the members."""

    def __post_init__(self) -> None:
        if not self.key_size:
            object.__setattr__(self, "key_size", _KEY_SIZES[self.key_algorithm or "ecdsa"])

    @property
    def key_type(self) -> tuple[str, int] | None:
        """Algorithm and size of keys, if the file has one of both."""
        asked = self.key_algorithm is not None or self.key_size != _KEY_SIZES["ecdsa"]
        return (self.key_algorithm or "ecdsa", self.key_size) if asked else None

    @property
    def renewal_days(self) -> float:
        """Days before expiry from which a certificate is renewed: a third of its lifetime, at most 30."""
        return min(_RENEWAL_DAYS_MAX, self.days / 3)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Paths:
    """Absolute paths on the hosts."""

    install: OwnDirectory = INSTALL_DIRECTORIES["tercet"]
    """Directory of the engine's releases; by default /opt/etcd if the engine is etcd."""
    bin: HostPath | None = None
    """Directory for links to the programs."""
    data: OwnDirectory = "/var/lib/etcd"
    """Data directory of the member."""
    wal: OwnDirectory | None = None
    """Separate directory for the write-ahead log; by default it is inside the data directory."""
    certificates: OwnDirectory = "/etc/etcd/cert"
    """Certificates and keys of the member."""
    ca: HostPath | None = None
    """File of the CA certificate; by default ca.pem in `certificates`."""
    backups: OwnDirectory = "/var/backups/etcd"
    """Snapshots taken by the backup timer."""
    work: OwnDirectory = ""
    """Working directory of the service; by default `data`."""

    def __post_init__(self) -> None:
        if not self.work:
            object.__setattr__(self, "work", self.data)

    @property
    def ca_file(self) -> str:
        return self.ca or f"{self.certificates}/ca.pem"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ServiceSettings:
    """The systemd service of a member."""

    unit: Unit = "etcd"
    """Name of the systemd unit."""
    user: User = "etcd"
    """User that the member runs as."""
    group: User = ""
    """Group of the member; by default the group with the user's name."""
    create_user: Boolean = True
    """Create user and group if they do not exist."""
    restart_seconds: Annotated[int, integer(0, 3600)] = 5
    """Seconds before a failed member is restarted (RestartSec)."""
    open_files: Annotated[int, integer(1024, 1 << 30)] = 65536
    """Limit of open files and connections (LimitNOFILE)."""
    start_timeout_seconds: Annotated[int, integer(1, 3600)] = 60
    """Seconds that a member may take to become ready (TimeoutStartSec): one that joins, to receive the whole database. A tercet
    member that loads a large database gets more time."""
    hardening: Boolean = True
    """Restrict the member with systemd's sandboxing options."""
    options: dict[UnitOption, PlainText] = field(default_factory=dict)
    """Additional settings of the unit's [Service] section; they override those that the unit has otherwise."""

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.user)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Listen:
    """Listeners of the members. They always listen on their address, for clients and for peers."""

    client_port: Port = 2379
    """Port for clients."""
    peer_port: Port = 2380
    """Port for peers."""
    loopback: Boolean = True
    """Listen for clients on 127.0.0.1 as well."""
    plain_loopback: Boolean = False
    """Listen on 127.0.0.1 without TLS: every user of the host then has full access."""
    metrics_url: Listener | None = None
    """Additional listener for /metrics and /health only, such as http://0.0.0.0:2381."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class BackupSettings:
    """Snapshots taken on each host by a systemd timer."""

    enabled: Boolean = True
    """Take snapshots."""
    every: Calendar = "daily"
    """Schedule, as a systemd calendar expression."""
    keep: Annotated[int, integer(1, 1000)] = 7
    """Number of snapshots to keep."""
    spread_seconds: Annotated[int, integer(0, 86400)] = 600
    """Seconds over which the hosts' snapshots are spread, so that they are not taken at once."""
    recipient: AgeRecipient | None = None
    """Public key of age (age1...) to encrypt the snapshots to; only its secret key decrypts them."""
    to: BucketUrl | None = None
    """s3://BUCKET/PREFIX: store the snapshots there as well."""
    credentials: LocalPath | None = None
    """Local file with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION for `to`; copied to the hosts, for root only."""
