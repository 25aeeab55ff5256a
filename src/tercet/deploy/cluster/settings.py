"""The sections of the cluster file, each with its fields, their defaults and what they are for.

These are the schema and the objects at once: what the file may say is what the rest of the room reads. The text under a field
is its documentation; docs/cluster-file.md and the comments of a new cluster.yaml are made of it.

Checks of one value are in `field_types`, checks of values against each other in `checks`.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tercet.deploy.cluster.field_types import (
    Boolean,
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
    """Which program the members run, and where it comes from."""

    kind: EngineKind = "tercet"
    """tercet, or upstream etcd."""
    source: Source | None = None
    """etcd: path or URL of its release tarball. tercet: of a bundle; by default one is built from this installation."""
    sha256: Sha256 | None = None
    """SHA-256 that the source must have."""
    version: Version | None = None
    """Version that the source must be; by default whatever it is."""
    python: Interpreter | None = None
    """tercet: the Python (3.11 or newer) to run with on the hosts; by default python3."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SshSettings:
    """How to reach the hosts: whatever is not set here is as `ssh` would have it, ~/.ssh/config included."""

    host: SshHost | None = None
    """Host or alias to connect to instead of the member's address; only under a host."""
    user: Login | None = None
    """Login on the host."""
    port: Port | None = None
    """Port of the SSH server."""
    key: LocalPath | None = None
    """Private key file; by default the agent's keys and ssh's usual files."""
    jump: Jump | None = None
    """Jump host, as [user@]host[:port]; several separated by commas."""
    config: LocalPath | None = None
    """Configuration file to read instead of ~/.ssh/config."""
    known_hosts: LocalPath | None = None
    """File of known host keys instead of ~/.ssh/known_hosts."""
    sudo: Boolean = True
    """Become root with sudo where the login is not root."""
    connect_timeout: Annotated[float, Field(ge=0.1, le=600)] = 10
    """Seconds to wait for a connection."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TlsSettings:
    """Certificates: between members and towards clients, made and renewed from here."""

    enabled: Boolean = True
    """Use TLS for clients and peers."""
    directory: LocalPath = Field(default=Path("pki"), validate_default=True)
    """Where authorities, certificates and keys are kept here, with the operator (mode 0700)."""
    ca_certificate: LocalPath | None = None
    """Certificate of an authority that exists, such as one made by cfssl; by default one is made."""
    ca_key: LocalPath | None = None
    """Key of that authority. It stays here."""
    shared: Boolean = False
    """One certificate for all hosts and both roles, instead of one for each."""
    key_algorithm: Literal["ecdsa", "rsa", "ed25519"] = "ecdsa"
    """Kind of keys to make."""
    key_size: Annotated[int, integer(0, 16384)] = 0
    """Size of the keys in bits: 256, 384 or 521 for ecdsa, 2048 to 8192 for rsa; 0: 256 or 2048."""
    days: Annotated[int, integer(1, 36500)] = 365
    """Days that a certificate is valid."""
    names: dict[SubjectKey, PlainText] = field(default_factory=dict)
    """Further parts of the certificates' subject: C, ST, L, O, OU."""
    extra_hosts: list[CertificateHost] = field(default_factory=list)
    """Further names and addresses that clients reach the members at."""

    def __post_init__(self) -> None:
        if not self.key_size:
            object.__setattr__(self, "key_size", _KEY_SIZES[self.key_algorithm])

    @property
    def renewal_days(self) -> float:
        """So many days before its end a certificate is made anew: the last third of its time, but no more than a month."""
        return min(_RENEWAL_DAYS_MAX, self.days / 3)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Paths:
    """Where things are on the hosts. All are absolute."""

    install: OwnDirectory = INSTALL_DIRECTORIES["tercet"]
    """Directory of the engine's releases; /opt/etcd where the engine is etcd."""
    bin: HostPath | None = None
    """Directory in which links to the programs are made."""
    data: OwnDirectory = "/var/lib/etcd"
    """The members' data."""
    wal: OwnDirectory | None = None
    """The write-ahead log, if it is to be on a disk of its own; by default inside the data."""
    certificates: OwnDirectory = "/etc/etcd/cert"
    """Certificates and keys of the member."""
    ca: HostPath | None = None
    """File of the authority's certificate; by default ca.pem beside the member's certificates."""
    backups: OwnDirectory = "/var/backups/etcd"
    """Snapshots taken by the backup timer."""
    work: OwnDirectory = ""
    """Working directory of the service; by default the data directory."""

    def __post_init__(self) -> None:
        if not self.work:
            object.__setattr__(self, "work", self.data)

    @property
    def ca_file(self) -> str:
        return self.ca or f"{self.certificates}/ca.pem"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ServiceSettings:
    """The systemd service that runs a member."""

    unit: Unit = "etcd"
    """Name of the unit."""
    user: User = "etcd"
    """User that the member runs as."""
    group: User = ""
    """Its group; by default the one named as the user."""
    create_user: Boolean = True
    """Make user and group where they are missing."""
    restart_seconds: Annotated[int, integer(0, 3600)] = 5
    """Pause before a member that failed is started again."""
    open_files: Annotated[int, integer(1024, 1 << 30)] = 65536
    """Most open files and connections."""
    start_timeout_seconds: Annotated[int, integer(1, 3600)] = 60
    """How long a member may take to become ready."""

    def __post_init__(self) -> None:
        if not self.group:
            object.__setattr__(self, "group", self.user)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Listen:
    """Where members listen: always on their address, for clients and for peers."""

    client_port: Port = 2379
    """Port for clients."""
    peer_port: Port = 2380
    """Port for the other members."""
    loopback: Boolean = True
    """Listen for clients on 127.0.0.1 as well."""
    plain_loopback: Boolean = False
    """Listen on 127.0.0.1 without TLS: whoever can log in to the host may then read and write everything."""
    metrics_url: Listener | None = None
    """Further listener for /metrics and /health alone, such as http://0.0.0.0:2381."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class BackupSettings:
    """Snapshots of the store, taken on each host by a timer."""

    enabled: Boolean = True
    """Take them."""
    every: Calendar = "daily"
    """When, as a systemd calendar expression."""
    keep: Annotated[int, integer(1, 1000)] = 7
    """How many are kept."""
