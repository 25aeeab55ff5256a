"""Backups: a systemd timer on each host takes snapshots with the engine's own client and keeps the newest ones.

    /var/backups/etcd/kube-node1-20260102T030405Z.db

A snapshot gets its final name after it has been restored into a scratch directory, which verifies it; what an aborted run has
left is removed by the next one. Every host takes its own snapshots, so that one survives the loss of other hosts.

The timers of all hosts fire at the same time, so each run waits for its turn, unless it was started by hand: a moment within
`backups.spread_seconds`, and a random delay (systemd's RandomizedDelaySec). The moments are multiples of the golden ratio: they
are far from each other for any number of hosts, and a host added at the end of the file does not change the others.

The client runs as the member's user with the member's certificate; if etcd's auth is enabled, the member's name must be a user
with the rights to take snapshots.
"""

from __future__ import annotations

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.plan.unit import UNIT_DIRECTORY, hardening, plain

TIMEOUT_SECONDS = 3600
_RANDOM_PART = 20  # of the spread
_GOLDEN_RATIO = 0.618034


def name(cluster: Cluster) -> str:
    """Name of the service and the timer, without suffix."""
    return f"{cluster.service.unit}-backup"


def paths(cluster: Cluster) -> tuple[str, str]:
    """Paths of the service and the timer, whether backups are enabled or not."""
    return f"{UNIT_DIRECTORY}/{name(cluster)}.service", f"{UNIT_DIRECTORY}/{name(cluster)}.timer"


def enabled_link(cluster: Cluster) -> str:
    """The link that systemd creates when the timer is enabled."""
    return f"{UNIT_DIRECTORY}/timers.target.wants/{name(cluster)}.timer"


def units(cluster: Cluster, spec: HostSpec, *, tool: str, offline_tool: str) -> dict[str, str]:
    """Path to text; empty if backups are disabled. tool: path of etcdctl or tercetctl on the host; offline_tool: of etcdutl or
    tercetutl, which restores.
    """
    if not cluster.backups.enabled:
        return {}
    service, timer = paths(cluster)
    return {service: _service(cluster, spec, tool, offline_tool), timer: _timer(cluster)}


def remove_command(cluster: Cluster) -> str:
    """A line of sh that removes both units; snapshots are kept."""
    service, timer = paths(cluster)
    return (
        f"systemctl disable --now {name(cluster)}.timer >/dev/null 2>&1; "
        f"systemctl stop {name(cluster)}.service >/dev/null 2>&1; "
        f"rm -f {service} {timer} && systemctl daemon-reload"
    )


def _service(cluster: Cluster, spec: HostSpec, tool: str, offline_tool: str) -> str:
    return f"""\
[Unit]
Description=Snapshot of the cluster {plain(cluster.name)}
After={cluster.service.unit}.service

[Service]
Type=oneshot
User={cluster.service.user}
Group={cluster.service.group}
ExecStart=/bin/sh -euc "\\
{_script(cluster, spec, tool, offline_tool)}"
TimeoutStartSec={TIMEOUT_SECONDS + cluster.backups.spread_seconds}
Nice=10
{hardening([cluster.paths.backups])}"""


def _script(cluster: Cluster, spec: HostSpec, tool: str, offline_tool: str) -> str:
    """Lines of sh inside systemd's double quotes: `$` and `%` are doubled, lines are continued with a backslash."""
    stem = f"{cluster.paths.backups}/{spec.name}"
    scratch, turn = f"{cluster.paths.backups}/.{spec.name}.scratch", _turn_seconds(cluster, spec)
    command = " ".join([tool, f"--endpoints={cluster.client_url(spec)}", *_tls(cluster)])
    lines = [
        f"rm -rf {stem}-*.db.new* {stem}-*.db.part {scratch};",
        *([f"case ${{TRIGGER_UNIT-}} in *.timer) sleep {turn};; esac;"] if turn else []),
        f"file={stem}-$(date -u +%Y%m%dT%H%M%SZ).db;",
        f"{command} snapshot save $file.new;",
        f"if [ -x {offline_tool} ]; then {offline_tool} snapshot restore $file.new --data-dir={scratch}; rm -rf {scratch}; fi;",
        "mv $file.new $file;",
        f"ls -1 {stem}-*.db | sort -r | tail -n +{cluster.backups.keep + 1} | xargs -r rm -f --",
    ]
    return " \\\n".join(f"  {line.replace('%', '%%').replace('$', '$$')}" for line in lines)


def _tls(cluster: Cluster) -> list[str]:
    if not cluster.tls.enabled:
        return []
    files = certificate_files(cluster)
    return [f"--cacert={files['ca']}", f"--cert={files['server']}", f"--key={files['server-key']}"]


def _turn_seconds(cluster: Cluster, spec: HostSpec) -> int:
    return int(cluster.hosts.index(spec) * _GOLDEN_RATIO % 1 * cluster.backups.spread_seconds)


def _timer(cluster: Cluster) -> str:
    return f"""\
[Unit]
Description=Snapshot timer of the cluster {plain(cluster.name)}

[Timer]
OnCalendar={cluster.backups.every}
RandomizedDelaySec={cluster.backups.spread_seconds // _RANDOM_PART}
Persistent=yes

[Install]
WantedBy=timers.target
"""


__all__ = ["enabled_link", "name", "paths", "remove_command", "units"]
