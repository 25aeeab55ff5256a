"""What should a host look like? Directories, files, and the release that is current, as the cluster file wants them.

It is made without asking the host. What is not there yet (a certificate that is still to be made) has no content but a source:
a plan can speak of it, and its step reads it when it is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files, member_flags
from tercet.deploy.facts.facts import Wanted
from tercet.deploy.plan import backup_unit
from tercet.deploy.plan.certificates import Certificates, Pair
from tercet.deploy.plan.unit import unit_path, unit_text
from tercet.deploy.release.release import program, tool

if TYPE_CHECKING:
    from tercet.deploy.release.artifact import Artifact

MARKS = "/run/tercet-deploy"


@dataclass(frozen=True)
class DesiredDirectory:
    path: str
    mode: int
    owner: str
    group: str


@dataclass(frozen=True)
class DesiredFile:
    """content: None while it is to be made; it is then read from `source`. about: the pair that a certificate or key is of.

    restarts: whether a member that runs has to be restarted for it.
    """

    path: str
    content: bytes | None = field(repr=False)
    mode: int
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    restarts: bool = False
    source: Path | None = None
    about: Pair | None = None


@dataclass(frozen=True)
class Desired:
    """authorities: the certificates among the files that all members must have alike. links: path to target.

    files: of certificates. unit_text: of the member; backup_units: path to text, empty without backups.
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


def desired(cluster: Cluster, spec: HostSpec, artifact: Artifact, certificates: Certificates) -> Desired:
    """Raises ConfigError where the cluster file asks for what cannot be."""
    authorities = tuple(_authorities(cluster, certificates))
    return Desired(
        host=spec,
        directories=tuple(_directories(cluster)),
        files=tuple(_pairs(cluster, spec, certificates)),
        authorities=authorities,
        links=_links(cluster, artifact),
        unit_path=unit_path(cluster),
        unit_text=unit_text(cluster, program=program(artifact, cluster.paths.install), flags=member_flags(cluster, spec)),
        backup_units=backup_unit.units(cluster, spec, tool=tool(artifact, cluster.paths.install)),
        release=artifact.release,
    )


def wanted(cluster: Cluster, spec: HostSpec, desired: Desired) -> Wanted:
    """What has to be known of the host before it can be said what is to change there."""
    paths, service = cluster.paths, cluster.service
    texts = (desired.unit_path, *backup_unit.paths(cluster), mark_path(cluster), *(file.path for file in desired.authorities))
    directories = tuple(directory.path for directory in desired.directories)
    return Wanted(
        paths=(
            *directories,
            *(file.path for file in desired.files),
            *texts,
            *desired.links,
            backup_unit.enabled_link(cluster),
            f"{paths.install}/releases/{desired.release}",
            f"{paths.data}/member",
            *([paths.wal] if paths.wal else []),
        ),
        contents=(*texts, *(file.path for file in desired.files if not file.secret)),
        unit=service.unit,
        users=(service.user,),
        groups=(service.group,),
    )


def wal_parent(cluster: Cluster) -> str | None:
    """The directory above a log that has a place of its own.

    Engines make a log under another name beside its place and rename it: the directory above has to be theirs, and the log
    itself must not be there before.
    """
    return None if cluster.paths.wal is None else str(PurePosixPath(cluster.paths.wal).parent)


def mark_path(cluster: Cluster) -> str:
    """Where it is noted that a member has not seen a change yet; gone after a boot, which restarts it anyway."""
    return f"{MARKS}/{cluster.service.unit}.unseen"


def unit_files(cluster: Cluster) -> tuple[str, ...]:
    """Every file of ours under systemd's directory, there or not, to be removed in the end."""
    return (unit_path(cluster), *backup_unit.paths(cluster))


def _directories(cluster: Cluster) -> list[DesiredDirectory]:
    """Parents before what is in them."""
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
            found[places[role]] = DesiredFile(places[role], pair.pem, 0o644, restarts=True, source=pair.certificate, about=pair)
    return list(found.values())


def _pairs(cluster: Cluster, spec: HostSpec, certificates: Certificates) -> list[DesiredFile]:
    """The key before its certificate: a member that looks in between finds a pair that does not fit, and keeps the old one."""
    if not cluster.tls.enabled:
        return []
    places = certificate_files(cluster)
    user, group = cluster.service.user, cluster.service.group
    found: dict[str, DesiredFile] = {}
    # A listener looks at its files at each handshake; what peers show each other is better seen by all of a member at once.
    for role, pair in (("peer", certificates.peers[spec.name]), ("server", certificates.servers[spec.name])):
        key, certificate = places[f"{role}-key"], places[role]
        restarts = role == "peer"
        found.setdefault(key, DesiredFile(key, pair.key_pem, 0o600, user, group, True, restarts, pair.key, pair))
        found.setdefault(
            certificate, DesiredFile(certificate, pair.pem, 0o644, user, group, False, restarts, pair.certificate, pair)
        )
    return list(found.values())


def _links(cluster: Cluster, artifact: Artifact) -> dict[str, str]:
    install = cluster.paths.install
    links = {f"{install}/current": f"releases/{artifact.release}"}
    if cluster.paths.bin is not None:
        for path in (program(artifact, install), tool(artifact, install)):
            links[f"{cluster.paths.bin}/{PurePosixPath(path).name}"] = path
    return links


__all__ = [
    "MARKS",
    "Desired",
    "DesiredDirectory",
    "DesiredFile",
    "desired",
    "mark_path",
    "unit_files",
    "wal_parent",
    "wanted",
]
