"""The target state of a host: directories, files, and the current release, from the cluster file.

It is built without connecting to the host. A certificate that is still to be created has no content but a source path, so that
a plan can list it; its step reads the file when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files, member_flags
from tercet.deploy.facts.facts import Wanted
from tercet.deploy.plan import backup_program, backup_unit
from tercet.deploy.plan.certificates import Certificates, Pair
from tercet.deploy.plan.unit import unit_path, unit_text
from tercet.deploy.release.release import PROGRAMS, offline_tool, pin_path, program, tool

if TYPE_CHECKING:
    from tercet.deploy.release.artifact import Artifact

MARKER_DIRECTORY = "/run/tercet-deploy"


@dataclass(frozen=True)
class DesiredDirectory:
    path: str
    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class DesiredFile:
    """content: None until created; then it is read from `source`. pair: the pair that a certificate or key belongs to.

    restarts: whether a running member must be restarted after a change.
    """

    path: str
    content: bytes | None = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    restarts: bool = False
    source: Path | None = None
    pair: Pair | None = None


@dataclass(frozen=True)
class Desired:
    """authorities: CA certificates, the same on all hosts. files: certificates and keys of this member. links: path to target.

    unit_text: of the member; backup_units: path to text, empty without backups; backup_files: what they use. programs: paths
    in paths.bin that become links.
    """

    host: HostSpec
    directories: tuple[DesiredDirectory, ...]
    files: tuple[DesiredFile, ...]
    authorities: tuple[DesiredFile, ...]
    links: dict[str, str]
    unit_path: str
    unit_text: str
    backup_units: dict[str, str]
    release: str
    programs: tuple[str, ...] = ()
    backup_files: tuple[DesiredFile, ...] = ()


def desired(cluster: Cluster, spec: HostSpec, artifact: Artifact, certificates: Certificates) -> Desired:
    """Raises ConfigError for an impossible combination of settings."""
    authorities = tuple(_authorities(cluster, certificates))
    return Desired(
        host=spec,
        directories=tuple(_directories(cluster)),
        files=tuple(_pairs(cluster, spec, certificates)),
        authorities=authorities,
        links=_links(cluster, artifact),
        unit_path=unit_path(cluster),
        unit_text=unit_text(cluster, program=program(artifact, cluster.paths.install), flags=member_flags(cluster, spec)),
        backup_units=backup_unit.units(
            cluster,
            spec,
            tool=tool(artifact, cluster.paths.install),
            offline_tool=offline_tool(artifact.engine, cluster.paths.install),
            member=program(artifact, cluster.paths.install),
        ),
        release=artifact.release,
        programs=programs_in_bin(cluster),
        backup_files=tuple(_backup_files(cluster)),
    )


def programs_in_bin(cluster: Cluster) -> tuple[str, ...]:
    """Paths in `paths.bin` that become links; empty if it is not set."""
    return tuple(f"{cluster.paths.bin}/{name}" for name in PROGRAMS[cluster.engine.kind]) if cluster.paths.bin else ()


def wanted(cluster: Cluster, spec: HostSpec, desired: Desired) -> Wanted:
    """The facts that planning needs of the host."""
    paths, service = cluster.paths, cluster.service
    texts = (
        desired.unit_path,
        *backup_unit.paths(cluster),
        restart_marker_path(cluster),
        pin_path(paths.install),
        *(file.path for file in desired.authorities),
    )
    directories = tuple(directory.path for directory in desired.directories)
    return Wanted(
        paths=(
            *directories,
            *(file.path for file in desired.files),
            *texts,
            *desired.links,
            *desired.programs,
            backup_unit.enabled_link(cluster),
            *backup_unit.extra_paths(cluster),
            f"{paths.install}/previous",
            f"{paths.install}/releases/{desired.release}",
            f"{paths.data}/member",
            restore_record_path(cluster),
            *([paths.wal] if paths.wal else []),
        ),
        contents=(*texts, *(file.path for file in desired.files if not file.secret)),
        unit=service.unit,
        users=(service.user,),
        groups=(service.group,),
    )


def wal_parent(cluster: Cluster) -> str | None:
    """The parent of a separate WAL directory.

    The engines create the WAL under a temporary name beside its path and rename it: they need to own the parent directory, and
    the WAL directory must not exist before.
    """
    return None if cluster.paths.wal is None else str(PurePosixPath(cluster.paths.wal).parent)


def restart_marker_path(cluster: Cluster) -> str:
    """File that lists changes which need a restart; on a tmpfs, since a reboot restarts the member anyway."""
    return f"{MARKER_DIRECTORY}/{cluster.service.unit}.restart-pending"


def restore_record_path(cluster: Cluster) -> str:
    """File that exists while a restore is unfinished; on disk, since it must survive a reboot."""
    return f"{cluster.paths.data}/restore/record.json"


def unit_files(cluster: Cluster) -> tuple[str, ...]:
    """All unit files that apply may have written."""
    return (unit_path(cluster), *backup_unit.paths(cluster))


def _directories(cluster: Cluster) -> list[DesiredDirectory]:
    """Parents before children."""
    paths, user, group = cluster.paths, cluster.service.user, cluster.service.group
    own = {paths.data: 0o700, paths.certificates: 0o755}
    if (parent := wal_parent(cluster)) is not None:
        own.setdefault(parent, 0o755)
    if cluster.backups.enabled:
        own[paths.backups] = 0o700
    own.setdefault(paths.work, 0o750)
    found = [DesiredDirectory(path, mode, user, group) for path, mode in own.items()]
    found.append(DesiredDirectory(paths.install, 0o755, "root", "root"))
    return sorted(found, key=lambda directory: PurePosixPath(directory.path).parts)


def _authorities(cluster: Cluster, certificates: Certificates) -> list[DesiredFile]:
    places = certificate_files(cluster)
    found: dict[str, DesiredFile] = {}
    for role, pair in (("ca", certificates.ca), ("peer-ca", certificates.peer_ca)):
        if pair is not None and places[role] not in found:
            found[places[role]] = DesiredFile(places[role], pair.pem, 0o644, restarts=True, source=pair.certificate, pair=pair)
    return list(found.values())


def _pairs(cluster: Cluster, spec: HostSpec, certificates: Certificates) -> list[DesiredFile]:
    """The key of each certificate is right before it."""
    if not cluster.tls.enabled:
        return []
    places = certificate_files(cluster)
    user, group = cluster.service.user, cluster.service.group
    found: dict[str, DesiredFile] = {}
    # A listener reads its files at each handshake. Outgoing peer connections read theirs at start, so those need a restart.
    for role, pair in (("peer", certificates.peers[spec.name]), ("server", certificates.servers[spec.name])):
        key, certificate = places[f"{role}-key"], places[role]
        restarts = role == "peer"
        found.setdefault(key, DesiredFile(key, pair.key_pem, 0o600, user, group, True, restarts, pair.key, pair))
        found.setdefault(
            certificate, DesiredFile(certificate, pair.pem, 0o644, user, group, False, restarts, pair.certificate, pair)
        )
    return list(found.values())


def _backup_files(cluster: Cluster) -> list[DesiredFile]:
    """Raises ConfigError for unusable credentials."""
    if not cluster.backups.enabled:
        return []
    program_file, credentials_file = backup_unit.extra_paths(cluster)
    files = [DesiredFile(program_file, backup_program.program(), 0o644)]
    if cluster.backups.credentials is not None:
        content = backup_program.credentials(cluster.backups.credentials)
        files.append(DesiredFile(credentials_file, content, 0o600, secret=True))
    return files


def _links(cluster: Cluster, artifact: Artifact) -> dict[str, str]:
    install = cluster.paths.install
    links = {f"{install}/current": f"releases/{artifact.release}"}
    if cluster.paths.bin is not None:
        for path in (program(artifact, install), tool(artifact, install)):
            links[f"{cluster.paths.bin}/{PurePosixPath(path).name}"] = path
    return links


__all__ = [
    "MARKER_DIRECTORY",
    "Desired",
    "DesiredDirectory",
    "DesiredFile",
    "desired",
    "restart_marker_path",
    "restore_record_path",
    "unit_files",
    "wal_parent",
    "wanted",
]
