"""A cluster as described by its file, validated and complete.

This is the desired state only: no connections, no host state. Created by `cluster_file.load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from tercet.deploy.cluster.settings import (
    BackupSettings,
    EngineSettings,
    Listen,
    Paths,
    ServiceSettings,
    SshSettings,
    TlsSettings,
)

QUOTA_BACKEND_BYTES = 8 << 30
CompactionMode: TypeAlias = Literal["periodic", "revision"]
COMPACTION_MODE: CompactionMode = "periodic"
COMPACTION_RETENTION = "1h"


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """One member and the host it runs on.

    ssh: the global settings overridden by this host's. flags: of this member only; they override the global ones. line: in the
    file.
    """

    name: str
    address: str
    ssh: SshSettings = field(default_factory=SshSettings)
    flags: Mapping[str, str] = field(default_factory=dict)
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The content of cluster.yaml, with defaults filled in. flags: long flags of the engine, without dashes."""

    name: str
    hosts: tuple[HostSpec, ...]
    path: Path
    token: str = ""
    engine: EngineSettings = field(default_factory=EngineSettings)
    ssh: SshSettings = field(default_factory=SshSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    paths: Paths = field(default_factory=Paths)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    listen: Listen = field(default_factory=Listen)
    backups: BackupSettings = field(default_factory=BackupSettings)
    flags: Mapping[str, str] = field(default_factory=dict)
    quota_backend_bytes: int = QUOTA_BACKEND_BYTES
    auto_compaction_mode: CompactionMode = COMPACTION_MODE
    auto_compaction_retention: str = COMPACTION_RETENTION
    adopted: bool = False
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.token:
            object.__setattr__(self, "token", self.name)

    @property
    def scheme(self) -> str:
        return "https" if self.tls.enabled else "http"

    @property
    def quorum(self) -> int:
        """Number of members that form a majority."""
        return len(self.hosts) // 2 + 1

    def has_quorum_without(self, count: int) -> bool:
        """Whether a majority remains when `count` members are down."""
        return len(self.hosts) - count >= self.quorum

    def host(self, name: str) -> HostSpec:
        """Raises KeyError for an unknown name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise KeyError(name)

    def client_url(self, host: HostSpec) -> str:
        return f"{self.scheme}://{host_port(host.address, self.listen.client_port)}"

    def peer_url(self, host: HostSpec) -> str:
        return f"{self.scheme}://{host_port(host.address, self.listen.peer_port)}"

    def endpoints(self) -> list[str]:
        """The client URLs of all members, in the order of the file."""
        return [self.client_url(host) for host in self.hosts]

    def initial_cluster(self) -> str:
        """name=URL,name=URL, as in --initial-cluster."""
        return ",".join(f"{host.name}={self.peer_url(host)}" for host in self.hosts)

    def flags_of(self, host: HostSpec) -> dict[str, str]:
        """The flags of one member: the global ones overridden by its own."""
        return {**self.flags, **host.flags}


def host_port(address: str, port: int) -> str:
    """address:port, with brackets around an IPv6 address."""
    return f"{_in_url(address)}:{port}"


def _in_url(address: str) -> str:
    return f"[{address}]" if ":" in address else address
