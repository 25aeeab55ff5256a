"""The flags that a member's process was started with, whoever deployed it: command line and ETCD_... variables.

A unit's text does not have them all: variables come from EnvironmentFile=, drop-ins, or a manifest of the kubelet.
"""

from __future__ import annotations

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.cluster.command_flags import read_flags
from tercet.deploy.ssh.remote import Host

_BETWEEN = b"\n== variables\n"


async def running_flags(host: Host, cluster: Cluster, *, step: str = "read the member's flags") -> dict[str, str]:
    """By name; empty if the member does not run. Raises HostError."""
    unit = f"{cluster.service.unit}.service"
    command = (
        f"pid=$(systemctl show --value -p MainPID {unit} 2>/dev/null); "
        '[ "${pid:-0}" != 0 ] || pid=$(pgrep -o -x etcd) || exit 0; '  # without a unit: a pod of the kubelet
        "cat /proc/$pid/cmdline; printf '\\n== variables\\n'; grep -z '^ETCD_' /proc/$pid/environ || :"
    )
    arguments, _, variables = (await host.check(command, step=step)).partition(_BETWEEN)
    words = _words(arguments)[1:]
    named = (word.partition("=") for word in _words(variables))
    return read_flags(words, {name: value for name, _, value in named}).values


def _words(content: bytes) -> list[str]:
    return [word.decode("utf-8", "replace") for word in content.rstrip(b"\0").split(b"\0")]
