"""The systemd unit of a member, as one would write it by hand.

    ExecStart=/opt/tercet/current/bin/tercet \\
      --name=kube-node1 \\
      --data-dir=/var/lib/etcd

One flag a line, in a fixed order: the difference between two units is then what changed, and the same cluster file gives the
same text. What a member reads at its first start only (`initial-cluster-state`, `initial-cluster-token`) is taken from the unit
that is there: it means nothing any more, so it must not be a reason to restart anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tercet.deploy.cluster.cluster import Cluster

UNIT_DIRECTORY = "/etc/systemd/system"
_STATE = re.compile(r"(?<=--initial-cluster-state=)(?:new|existing)\b")
_TOKEN = re.compile(r'(?:--|"--)initial-cluster-token=[^\n]*?(?=(?: \\)?\n)')
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./\[\]$-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=full
ReadWritePaths={writable}
ProtectHome=read-only
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""


def unit_path(cluster: Cluster) -> str:
    return f"{UNIT_DIRECTORY}/{cluster.service.unit}.service"


def unit_text(cluster: Cluster, *, program: str, flags: Mapping[str, str]) -> str:
    """program: path on the host. flags: long names without dashes."""
    service, paths = cluster.service, cluster.paths
    command = " \\\n  ".join([quoted(program), *(quoted(f"--{name}={value}") for name, value in flags.items())])
    return f"""\
[Unit]
Description={cluster.engine.kind} member of the cluster {plain(cluster.name)}
Documentation=https://etcd.io/docs/
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
User={service.user}
Group={service.group}
WorkingDirectory={paths.work}
ExecStart={command}
Restart=on-failure
RestartSec={service.restart_seconds}
TimeoutStartSec={service.start_timeout_seconds}
LimitNOFILE={service.open_files}
{hardening(writable_directories(cluster))}
[Install]
WantedBy=multi-user.target
"""


def writable_directories(cluster: Cluster) -> list[str]:
    paths = cluster.paths
    above_the_log = [paths.wal.rpartition("/")[0]] if paths.wal else []  # since it is renamed into its place
    return list(dict.fromkeys([paths.data, *above_the_log, paths.work]))


def hardening(writable: list[str]) -> str:
    """What a member needs no right to. /home stays readable: the interpreter may be there."""
    return _HARDENING.format(writable=" ".join(writable))


def as_begun(text: str, present: str | None, *, has_data: bool) -> str:
    """The unit's text with what the unit that is there says of the member's first start. has_data: whether there was one."""
    for line in (_STATE, _TOKEN) if has_data else (_STATE,):
        if found := line.search(present or ""):
            text = found[0].join(line.split(text, maxsplit=1))
    return text


def quoted(word: str) -> str:
    """One word of a command, so that systemd gives it to the program unchanged: no specifier, variable, escape or quote."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in word) + '"'


def plain(text: str) -> str:
    """Text for a description: specifiers as they stand."""
    return text.replace("%", "%%")
