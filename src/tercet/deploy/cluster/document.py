"""The cluster file as a whole: its top level and its hosts, as written, before hosts inherit from the cluster."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, TypeAlias

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from tercet.deploy.cluster.cluster import COMPACTION_MODE, COMPACTION_RETENTION, QUOTA_BACKEND_BYTES, CompactionMode
from tercet.deploy.cluster.field_types import Address, Name, Quota
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
    """IP address (or DNS name) that the other members and the clients reach it at."""
    ssh: SshSettings = field(default_factory=SshSettings)
    """How to reach this host, over what `ssh` says for all."""
    flags: dict[str, FlagValue] = field(default_factory=dict)
    """Flags of this member, over those for all."""


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Document:
    """Everything that cluster.yaml may say."""

    name: Name
    """Name of the cluster, for people."""
    token: Name | None = None
    """Text mixed into the IDs of a new cluster, so that two never meet; by default the cluster's name."""
    hosts: list[HostEntry]
    """The members, one a host."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    ssh: SshSettings = field(default_factory=SshSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    paths: Paths = field(default_factory=Paths)
    service: ServiceSettings = field(default_factory=ServiceSettings)
    listen: Listen = field(default_factory=Listen)
    backups: BackupSettings = field(default_factory=BackupSettings)
    quota_backend_bytes: Quota = QUOTA_BACKEND_BYTES
    """Size at which the store refuses further writes: bytes, or with a unit as 8GiB."""
    auto_compaction_mode: CompactionMode = COMPACTION_MODE
    """Whether the retention below is a time or a number of revisions."""
    auto_compaction_retention: str = COMPACTION_RETENTION
    """History to keep: a duration such as 1h, or revisions; 0: all of it, for ever."""
    flags: dict[str, FlagValue] = field(default_factory=dict)
    """Further flags of the engine, without dashes, for all members."""


SECTIONS = {
    "engine": EngineSettings,
    "ssh": SshSettings,
    "tls": TlsSettings,
    "paths": Paths,
    "service": ServiceSettings,
    "listen": Listen,
    "backups": BackupSettings,
}
"""The top level's maps with fields of their own."""
