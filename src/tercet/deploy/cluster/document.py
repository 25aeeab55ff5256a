"""The schema of the whole cluster file: top level and hosts, before hosts inherit global settings."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from tercet.deploy.cluster.cluster import COMPACTION_MODE, COMPACTION_RETENTION, QUOTA_BACKEND_BYTES, CompactionMode
from tercet.deploy.cluster.field_types import Address, Boolean, Name, Quota
from tercet.deploy.cluster.settings import (
    CONFIG,
    BackupSettings,
    EngineSettings,
    Listen,
    Paths,
    ServiceSettings,
    SshSettings,
    TlsSettings,
)

FLAG_VALUE_LENGTH_MAX = 2000


def check_flag_value(text: str) -> str:
    if not text.isprintable() or len(text) > FLAG_VALUE_LENGTH_MAX:
        raise ValueError(f"must be printable text on one line, of at most {FLAG_VALUE_LENGTH_MAX} characters")
    return text


FlagValue: TypeAlias = Annotated[str, AfterValidator(check_flag_value)]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class HostEntry:
    """One member and its host."""

    name: Name
    """Name of the member."""
    address: Address
    """IP address (or DNS name) used by the other members and by clients."""
    ssh: SshSettings = field(default_factory=SshSettings)
    """SSH settings of this host; they override `ssh`."""
    flags: dict[str, FlagValue] = field(default_factory=dict)
    """Flags of this member; they override the global flags."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Document:
    """The top level of cluster.yaml."""

    name: Name
    """Name of the cluster."""
    token: Name | None = None
    """Initial cluster token, which makes the IDs of a new cluster unique; by default the cluster's name."""
    hosts: list[HostEntry]
    """The members, one per host."""
    adopted: Boolean = False
    """Whether the members were deployed by other means and stay as they are: apply then changes nothing on their hosts."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    ssh: SshSettings = field(default_factory=SshSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    paths: Paths = field(default_factory=Paths)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    listen: Listen = field(default_factory=Listen)
    backups: BackupSettings = field(default_factory=BackupSettings)
    quota_backend_bytes: Quota = QUOTA_BACKEND_BYTES
    """Database size at which writes are refused: bytes, or with a unit as in 8GiB."""
    auto_compaction_mode: CompactionMode = COMPACTION_MODE
    """Whether auto_compaction_retention is a duration or a number of revisions."""
    auto_compaction_retention: str = COMPACTION_RETENTION
    """History to keep: a duration such as 1h, or revisions; 0 disables auto-compaction."""
    flags: dict[str, FlagValue] = field(default_factory=dict)
    """Additional flags of the engine, without dashes, for all members."""


SECTIONS = {
    "engine": EngineSettings,
    "ssh": SshSettings,
    "tls": TlsSettings,
    "paths": Paths,
    "service": ServiceSettings,
    "listen": Listen,
    "backups": BackupSettings,
}
"""The sections of the top level."""
