"""Backups: a systemd timer on each host takes snapshots with the engine's own client and keeps the newest ones.

    /var/backups/etcd/kube-node1-20260102T030405Z.db

The client renames a snapshot to its final name when it is complete; partial files of an aborted run are removed here. Every
host takes its own snapshots, so that one survives the loss of other hosts. The client runs as the member's user with the
member's certificate; if etcd's auth is enabled, the member's name must be a user with the rights to take snapshots.
"""

from __future__ import annotations

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.plan.unit import UNIT_DIRECTORY, hardening, plain

TIMEOUT_SECONDS = 3600


def name(cluster: Cluster) -> str:
    """Name of the service and the timer, without suffix."""
    return f"{cluster.service.unit}-backup"


def paths(cluster: Cluster) -> tuple[str, str]:
    """Paths of the service and the timer, whether backups are enabled or not."""
    return f"{UNIT_DIRECTORY}/{name(cluster)}.service", f"{UNIT_DIRECTORY}/{name(cluster)}.timer"


def enabled_link(cluster: Cluster) -> str:
    """The link that systemd creates when the timer is enabled."""
    return f"{UNIT_DIRECTORY}/timers.target.wants/{name(cluster)}.timer"


def units(cluster: Cluster, spec: HostSpec, *, tool: str) -> dict[str, str]:
    """Path to text; empty if backups are disabled. tool: path of etcdctl or tercetctl on the host."""
    if not cluster.backups.enabled:
        return {}
    service, timer = paths(cluster)
    return {service: _service(cluster, spec, tool), timer: _timer(cluster)}


def remove_command(cluster: Cluster) -> str:
    """A line of sh that removes both units; snapshots are kept."""
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
    """Lines of sh inside systemd's double quotes: `$` and `%` are doubled, lines are continued with a backslash."""
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
Description=Snapshot timer of the cluster {plain(cluster.name)}

[Timer]
OnCalendar={cluster.backups.every}
Persistent=yes

[Install]
WantedBy=timers.target
"""


__all__ = ["enabled_link", "name", "paths", "remove_command", "units"]
