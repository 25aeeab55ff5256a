"""Backups: on each host a timer that has the engine's own tool take a snapshot, and keeps the newest ones.

    /var/backups/etcd/kube-node1-20260102T030405Z.db

A snapshot has its name only when it is complete: the tool sees to that; what it left behind when it was cut is removed here.
Each host takes its own, so that one is left whatever happens to the others. The tool runs as the member's user and shows the
member's own certificate; where etcd's auth is enabled, the name of the member has to be a user who may take snapshots.
"""

from __future__ import annotations

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.plan.unit import UNIT_DIRECTORY, hardening, plain

TIMEOUT_SECONDS = 3600


def name(cluster: Cluster) -> str:
    """Of the two units, without suffix."""
    return f"{cluster.service.unit}-backup"


def paths(cluster: Cluster) -> tuple[str, str]:
    """The service's file and the timer's, whether there are backups or not."""
    return f"{UNIT_DIRECTORY}/{name(cluster)}.service", f"{UNIT_DIRECTORY}/{name(cluster)}.timer"


def enabled_link(cluster: Cluster) -> str:
    """What systemd makes when the timer is enabled."""
    return f"{UNIT_DIRECTORY}/timers.target.wants/{name(cluster)}.timer"


def units(cluster: Cluster, spec: HostSpec, *, tool: str) -> dict[str, str]:
    """Path to text; empty where there are to be no backups. tool: path of etcdctl or tercetctl on the host."""
    if not cluster.backups.enabled:
        return {}
    service, timer = paths(cluster)
    return {service: _service(cluster, spec, tool), timer: _timer(cluster)}


def remove_command(cluster: Cluster) -> str:
    """A line of sh that takes both units away; snapshots stay."""
    service, timer = paths(cluster)
    return (
        f"systemctl disable --now {name(cluster)}.timer >/dev/null 2>&1; "
        f"systemctl stop {name(cluster)}.service >/dev/null 2>&1; "
        f"rm -f {service} {timer} && systemctl daemon-reload"
    )


def _service(cluster: Cluster, spec: HostSpec, tool: str) -> str:
    return f"""\
[Unit]
Description=Snapshot of the cluster {plain(cluster.name)}
After={cluster.service.unit}.service

[Service]
Type=oneshot
User={cluster.service.user}
Group={cluster.service.group}
ExecStart=/bin/sh -euc "\\
{_script(cluster, spec, tool)}"
TimeoutStartSec={TIMEOUT_SECONDS}
Nice=10
{hardening([cluster.paths.backups])}"""


def _script(cluster: Cluster, spec: HostSpec, tool: str) -> str:
    """Lines of sh inside systemd's double quotes: dollars and per cents are doubled, each line goes on with a backslash."""
    stem = f"{cluster.paths.backups}/{spec.name}"
    command = " ".join([tool, f"--endpoints={cluster.client_url(spec)}", *_tls(cluster)])
    lines = [
        f"rm -f {stem}-*.db.part;",
        f"file={stem}-$(date -u +%Y%m%dT%H%M%SZ).db;",
        f"{command} snapshot save $file;",
        f"ls -1 {stem}-*.db | sort -r | tail -n +{cluster.backups.keep + 1} | xargs -r rm -f --",
    ]
    return " \\\n".join(f"  {line.replace('%', '%%').replace('$', '$$')}" for line in lines)


def _tls(cluster: Cluster) -> list[str]:
    if not cluster.tls.enabled:
        return []
    files = certificate_files(cluster)
    return [f"--cacert={files['ca']}", f"--cert={files['server']}", f"--key={files['server-key']}"]


def _timer(cluster: Cluster) -> str:
    return f"""\
[Unit]
Description=When snapshots of the cluster {plain(cluster.name)} are taken

[Timer]
OnCalendar={cluster.backups.every}
Persistent=yes

[Install]
WantedBy=timers.target
"""


__all__ = ["enabled_link", "name", "paths", "remove_command", "units"]
