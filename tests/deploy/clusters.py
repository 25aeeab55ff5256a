"""Clusters and host facts for planning tests."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.cluster_file import load
from tercet.deploy.facts.facts import FileFact, HostFacts, UnitFact
from tercet.deploy.plan.desired import Desired, wanted
from tercet.deploy.release.artifacts import Artifact

HOSTS = """\
hosts:
- {name: node1, address: 10.0.0.1}
- {name: node2, address: 10.0.0.2}
- {name: node3, address: 10.0.0.3}
"""
ABSENT = FileFact(kind="absent")


def cluster_of(directory: Path, settings: str = "", *, hosts: str = HOSTS) -> Cluster:
    path = directory / "cluster.yaml"
    path.write_text(f"name: demo\n{settings}\n{hosts}")
    return load(path)


def artifact_of(cluster: Cluster, *, version: str = "1.2.3") -> Artifact:
    kind = cluster.engine.kind
    return Artifact(kind, version, Path("/nowhere/release.tar.gz"), "0" * 64, 5 << 20, f"{kind}-{version}-0a1b2c3d")


def fresh(cluster: Cluster, desired: Desired) -> HostFacts:
    """A fresh host."""
    paths = wanted(cluster, desired.host, desired).paths
    return HostFacts(
        hostname=desired.host.name,
        os_name="Debian 12",
        arch="x86_64",
        python=(3, 11, 2),
        systemd=252,
        is_root=True,
        clock_offset_seconds=0,
        clock_error_seconds=0.01,
        files=dict.fromkeys(paths, ABSENT),
        unit=UnitFact(load="not-found", active="inactive"),
        users=frozenset(),
        groups=frozenset(),
        listeners={},
        disk_free={},
    )


def as_wanted(cluster: Cluster, desired: Desired) -> HostFacts:
    """An up-to-date host with a running member."""
    files = dict(fresh(cluster, desired).files)
    for directory in desired.directories:
        files[directory.path] = FileFact(
            kind="directory", mode=directory.mode, owner=directory.owner, group=directory.group, size=1
        )
    for file in (*desired.authorities, *desired.files, *desired.backup_files):
        content = None if file.secret or file in desired.backup_files else (file.content or b"").decode()
        files[file.path] = FileFact(
            kind="file",
            sha256=sha256(file.content or b"").hexdigest(),
            mode=file.mode,
            owner=file.owner,
            group=file.group,
            content=content,
        )
    for path, text in {desired.unit_path: desired.unit_text, **desired.backup_units}.items():
        files[path] = FileFact(kind="file", mode=0o644, owner="root", group="root", content=text)
    for path, target in desired.links.items():
        files[path] = FileFact(kind="link", target=target)
    files |= {
        path: FileFact(kind="directory")
        for path in (f"{cluster.paths.install}/releases/{desired.release}", f"{cluster.paths.data}/member")
    }
    if desired.backup_units:
        link = next(path for path in files if ".target.wants/" in path)
        files[link] = FileFact(kind="link", target="/etc/systemd/system/etcd-backup.timer")
    return replace(
        fresh(cluster, desired),
        files=files,
        unit=UnitFact(load="loaded", active="active", sub="running", enabled=True, invocation="aaaa"),
        users=frozenset({cluster.service.user}),
        groups=frozenset({cluster.service.group}),
    )


def changed(facts: HostFacts, path: str, **fields: object) -> HostFacts:
    """The same host with a changed file."""
    return replace(facts, files={**facts.files, path: replace(facts.files[path], **fields)})  # type: ignore[arg-type]
