"""The systemd unit of a member.

    ExecStart=/opt/tercet/current/bin/tercet \\
      --name=kube-node1 \\
      --data-dir=/var/lib/etcd

One flag per line in a fixed order: a diff of two units then shows only real changes, and the same cluster file gives the same
text. Flags that a member reads only at its first start (initial-cluster, initial-cluster-state, initial-cluster-token) are
taken from the existing unit, so that a change of the membership restarts no other member.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tercet.deploy.cluster.cluster import Cluster

UNIT_DIRECTORY = "/etc/systemd/system"
_STATE = re.compile(r"(?<=--initial-cluster-state=)(?:new|existing)\b")
_CLUSTER = re.compile(r'(?:--|"--)initial-cluster=[^\s"]*"?')
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
    options = "".join(f"{name}={plain(value)}\n" for name, value in service.options.items())
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
{hardening(writable_directories(cluster)) if service.hardening else ""}{options}
[Install]
WantedBy=multi-user.target
"""


def writable_directories(cluster: Cluster) -> list[str]:
    paths = cluster.paths
    wal_parent = [paths.wal.rpartition("/")[0]] if paths.wal else []  # the engine renames the new WAL directory into place
    return list(dict.fromkeys([paths.data, *wal_parent, paths.work]))


def hardening(writable: list[str]) -> str:
    """Sandboxing options of systemd. /home stays readable: the interpreter may be there."""
    return _HARDENING.format(writable=" ".join(writable))


def keep_first_start_flags(text: str, present: str | None, *, has_data: bool) -> str:
    """`text` with the first-start flags of the existing unit `present`. has_data: whether the member has started before."""
    for line in (_STATE, _TOKEN, _CLUSTER) if has_data else (_STATE,):
        if found := line.search(present or ""):
            text = found[0].join(line.split(text, maxsplit=1))
    return text


def joining(text: str, initial_cluster: str) -> str:
    """`text` for a member that joins a running cluster. initial_cluster: its present members, with this one."""
    text = _STATE.sub("existing", text)
    return _CLUSTER.sub(lambda _: quoted(f"--initial-cluster={initial_cluster}"), text)


def quoted(word: str) -> str:
    """Quote one word of a command line for systemd: specifiers, variables, escapes and quotes."""
    word = word.replace("%", "%%").replace("$", "$$")
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in word) + '"'


def plain(text: str) -> str:
    """Escape specifiers in a description."""
    return text.replace("%", "%%")
