"""`destroy`: remove everything that `apply` has installed on the hosts, and nothing else.

All members are stopped at once: one at a time, the remaining ones would only log errors about lost peers. Directories are
removed if they are empty. The user stays, since it may own files elsewhere; so do the certificates and keys on the operator's
machine.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.members.service import stop
from tercet.deploy.plan import backup_unit
from tercet.deploy.plan.desired import programs_in_bin, restart_marker_path, unit_files
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.plan.unit import unit_path
from tercet.deploy.release.release import remove_command
from tercet.deploy.ssh.remote import Host

_REMOVE_SECONDS = 300


async def destroy_plan(cluster: Cluster, hosts: Mapping[str, Host], *, keep_data: bool) -> Plan:
    """The removals from these hosts. Reads only. Raises HostError."""
    specs = [spec for spec in cluster.hosts if spec.name in hosts]
    facts = await asyncio.gather(*(gather(hosts[spec.name], _wanted(cluster)) for spec in specs))
    every = list(zip(specs, facts, strict=True))
    stops = tuple(step for spec, seen in every for step in _stop(cluster, hosts[spec.name], seen))
    removals = tuple(step for spec, seen in every for step in _remove(cluster, spec, hosts[spec.name], seen, keep_data))
    phases = (Phase("stop", stops), Phase("remove", removals))
    return Plan(tuple(phase for phase in phases if phase.steps), tuple(_notes(cluster, keep_data)))


def _wanted(cluster: Cluster) -> Wanted:
    paths = cluster.paths
    return Wanted(
        paths=(
            *unit_files(cluster),
            *_certificates(cluster),
            paths.certificates,
            f"{paths.install}/releases",
            f"{paths.install}/current",
            *(f"{path}.replaced" for path in programs_in_bin(cluster)),
            *_data_directories(cluster),
            paths.backups,
        ),
        unit=cluster.service.unit,
    )


def _stop(cluster: Cluster, host: Host, facts: HostFacts) -> Iterator[Step]:
    """Only for our own unit file: the unit of a distribution package is elsewhere."""
    if not facts.files[unit_path(cluster)].exists:
        return
    unit = f"{cluster.service.unit}.service"

    async def work(progress: Progress) -> str:
        return await stop(host, unit)

    yield Step(host.name, f"stop and disable {unit}", work)


def _remove(cluster: Cluster, spec: HostSpec, host: Host, facts: HostFacts, keep_data: bool) -> Iterator[Step]:
    paths = cluster.paths
    if units := [path for path in unit_files(cluster) if facts.files[path].exists]:
        yield _step(host, "remove units", _remove_units(cluster), units)
    certificates = [path for path in _certificates(cluster) if facts.files[path].exists]
    if certificates or facts.files[paths.certificates].exists:
        command = f"rm -f -- {_words(certificates)}; {_remove_if_empty(paths.certificates)}"
        yield _step(host, "remove certificates and keys", command, certificates or [paths.certificates])
    if any(facts.files[f"{paths.install}/{name}"].exists for name in ("releases", "current")):
        command = remove_command(cluster.engine.kind, paths.install, paths.bin)
        restored = [path for path in programs_in_bin(cluster) if facts.files[f"{path}.replaced"].exists]
        diff = [f"- {paths.install}/releases", *(f"+ {path} (from {path}.replaced)" for path in restored)]
        yield Step(host.name, "remove releases", _work(host, "remove releases", command), "\n".join(diff))
    if keep_data:
        return
    if data := [path for path in _data_directories(cluster) if facts.files[path].exists]:
        yield _step(host, "remove data", _remove_data(cluster), data)
    if facts.files[paths.backups].exists:
        scratch = shlex.quote(f"{paths.backups}/.{spec.name}.scratch")
        files = f"rm -f -- {shlex.quote(f'{paths.backups}/{spec.name}')}-*.db*; rm -rf -- {scratch}"
        command = f"{files}; {_remove_if_empty(paths.backups)}"
        yield _step(host, "remove backups", command, [f"{paths.backups}/{spec.name}-*.db"])


def _step(host: Host, title: str, command: str, removed: list[str]) -> Step:
    return Step(host.name, title, _work(host, title, command), "\n".join(f"- {path}" for path in removed))


def _work(host: Host, title: str, command: str) -> Work:
    async def work(progress: Progress) -> str:
        await host.check(command, step=title, timeout=_REMOVE_SECONDS)
        return ""

    return work


def _remove_units(cluster: Cluster) -> str:
    unit = cluster.service.unit
    return (
        f"{backup_unit.remove_command(cluster)}; rm -f -- {_words([*unit_files(cluster), restart_marker_path(cluster)])} && "
        f"systemctl daemon-reload && {{ systemctl reset-failed {unit}.service 2>/dev/null || :; }}"
    )


def _remove_data(cluster: Cluster) -> str:
    """The data directory contains `member` and what other commands kept; a separate WAL directory is emptied by file names."""
    paths = cluster.paths
    data = shlex.quote(paths.data)
    kept = " ".join(f"{data}/{name}-*" for name in _KEPT)
    parts = [f"rm -rf -- {data}/member {data}/restore {kept}", _remove_if_empty(paths.data, paths.work)]
    if paths.wal is not None:
        wal = shlex.quote(paths.wal)
        parts += [
            f"rm -f -- {wal}/*.wal {wal}/*.tmp {wal}/*.broken",
            f"rm -rf -- {wal}.replaced-* {wal}.before-recover-*",
            _remove_if_empty(paths.wal),
        ]
    return " && ".join(parts)


def _data_directories(cluster: Cluster) -> list[str]:
    return [cluster.paths.data, *([cluster.paths.wal] if cluster.paths.wal is not None else [])]


def _certificates(cluster: Cluster) -> list[str]:
    """Without a CA certificate outside our directory (paths.ca): others may use it."""
    if not cluster.tls.enabled:
        return []
    directory = PurePosixPath(cluster.paths.certificates)
    return list(dict.fromkeys(path for path in certificate_files(cluster).values() if directory in PurePosixPath(path).parents))


def _remove_if_empty(*paths: str) -> str:
    """Also removes an empty parent, except for system directories (/etc, /var/lib)."""
    removals = []
    for path in dict.fromkeys(paths):
        own = [place for place in (path, str(PurePosixPath(path).parent)) if place not in _SYSTEM and place.count("/") > 1]
        removals += [f"rmdir -- {shlex.quote(place)} 2>/dev/null" for place in own]
    return "{ " + "; ".join([*removals, ":"]) + "; }"


_KEPT = ("replaced", "before-recover", "rejoined")
"""First words of the names of what `restore`, `recover`, `migrate` and `member` kept of the members before."""
_SYSTEM = frozenset({"/var/lib", "/var/backups", "/var/log", "/usr/local", "/etc/systemd", "/etc/ssl", "/etc/pki", "/usr/bin"})


def _notes(cluster: Cluster, keep_data: bool) -> Iterator[str]:
    if not keep_data:
        yield "the data and the backups of the members will be deleted; this cannot be undone"
    if cluster.tls.enabled:
        yield f"certificates and keys in {cluster.tls.directory} are kept"


def _words(paths: list[str]) -> str:
    return " ".join(shlex.quote(path) for path in paths)
