"""Backups: a systemd timer on each host takes snapshots with the engine's own client and keeps the newest ones.

    /var/backups/etcd/kube-node1-20260102T030405Z.db        .db.age with backups.recipient; also in the bucket with backups.to

The program is `on_host/backup_job`: a snapshot gets its final name after it has been restored into a scratch member whose
HashKV is that of this host's member. Every host takes its own snapshots, so that one survives the loss of other hosts.

The timers of all hosts fire at the same time, so each run waits for its turn, unless it was started by hand: a moment within
`backups.spread_seconds`, and a random delay (systemd's RandomizedDelaySec). The moments are multiples of the golden ratio: they
are far from each other for any number of hosts, and a host added at the end of the file does not change the others.

The client runs as the member's user with the member's certificate; if etcd's auth is enabled, the member's name must be a user
with the rights to take snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import certificate_files
from tercet.deploy.plan.backup_program import credentials_path, program_path
from tercet.deploy.plan.unit import UNIT_DIRECTORY, hardening, plain, quoted
from tercet.pki.age import check_recipient

TIMEOUT_SECONDS = 3600
_RANDOM_PART = 20  # of the spread
_GOLDEN_RATIO = 0.618034
_OOM_SCORE = 1000  # the scratch member needs the memory of a member: if that is too much, this job ends, not the member


def name(cluster: Cluster) -> str:
    """Name of the service and the timer, without suffix."""
    return f"{cluster.service.unit}-backup"


def paths(cluster: Cluster) -> tuple[str, str]:
    """Paths of the service and the timer, whether backups are enabled or not."""
    return f"{UNIT_DIRECTORY}/{name(cluster)}.service", f"{UNIT_DIRECTORY}/{name(cluster)}.timer"


def enabled_link(cluster: Cluster) -> str:
    """The link that systemd creates when the timer is enabled."""
    return f"{UNIT_DIRECTORY}/timers.target.wants/{name(cluster)}.timer"


def units(cluster: Cluster, spec: HostSpec, *, tool: str, offline_tool: str, member: str) -> dict[str, str]:
    """Path to text; empty if backups are disabled. Paths of programs on the host: tool: etcdctl or tercetctl; offline_tool:
    etcdutl or tercetutl, which restores; member: etcd or tercet.
    """
    if not cluster.backups.enabled:
        return {}
    service, timer = paths(cluster)
    programs = {"tool": tool, "offline-tool": offline_tool, "member": member}
    return {service: _service(cluster, spec, programs), timer: _timer(cluster)}


def extra_paths(cluster: Cluster) -> tuple[str, str]:
    """Paths of the program and of the bucket's credentials, whether they are needed or not."""
    return program_path(cluster), credentials_path(cluster)


def check_command(cluster: Cluster, spec: HostSpec) -> str:
    """A line of sh that fails, with the reason, if this host cannot encrypt or reach the bucket; "" without either."""
    if not (cluster.backups.recipient or cluster.backups.to):
        return ""
    read = f"set -a; . {credentials_path(cluster)}; " if cluster.backups.to else ""
    return f"({read}exec {' '.join(_command(cluster, spec, {}))} --check)"


def remove_command(cluster: Cluster) -> str:
    """A line of sh that removes the units and what they use; snapshots are kept."""
    service, timer = paths(cluster)
    return (
        f"systemctl disable --now {name(cluster)}.timer >/dev/null 2>&1; "
        f"systemctl stop {name(cluster)}.service >/dev/null 2>&1; "
        f"rm -f {service} {timer} {' '.join(extra_paths(cluster))} && systemctl daemon-reload"
    )


def _service(cluster: Cluster, spec: HostSpec, programs: Mapping[str, str]) -> str:
    credentials = f"EnvironmentFile={credentials_path(cluster)}\n" if cluster.backups.to else ""
    command = " \\\n  ".join(_command(cluster, spec, programs))
    return f"""\
[Unit]
Description=Snapshot of the cluster {plain(cluster.name)}
After={cluster.service.unit}.service

[Service]
Type=oneshot
User={cluster.service.user}
Group={cluster.service.group}
{credentials}ExecStart={command}
TimeoutStartSec={TIMEOUT_SECONDS + cluster.backups.spread_seconds}
Nice=10
OOMScoreAdjust={_OOM_SCORE}
{hardening([cluster.paths.backups])}"""


def _command(cluster: Cluster, spec: HostSpec, programs: Mapping[str, str]) -> list[str]:
    """The program with its flags, quoted for systemd."""
    backups = cluster.backups
    flags = {
        "name": spec.name,
        "directory": cluster.paths.backups,
        "endpoint": cluster.client_url(spec),
        **{name: programs.get(name, "-") for name in ("member", "tool", "offline-tool")},
        **_tls(cluster),
        "keep": str(backups.keep),
        "turn": str(_turn_seconds(cluster, spec)),
    }
    if backups.recipient:
        flags["recipient"] = check_recipient(backups.recipient).hex()
    if backups.to:
        flags["to"] = backups.to
    return [f"/usr/bin/env python3 -I {program_path(cluster)}", *(quoted(f"--{name}={text}") for name, text in flags.items())]


def _tls(cluster: Cluster) -> dict[str, str]:
    if not cluster.tls.enabled:
        return {}
    files = certificate_files(cluster)
    return {"cacert": files["ca"], "cert": files["server"], "key": files["server-key"]}


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


__all__ = ["check_command", "enabled_link", "extra_paths", "name", "paths", "remove_command", "units"]
