"""`apply` on adopted hosts (`adopted: true`): it changes nothing there.

The members of adopted hosts were deployed by other means. The operator gets a certificate, so that the commands that only need
the members work: status, health, logs, restart, backup, defrag, compact. Commands that write units, programs, certificates or
data are refused until `adopted: false` lets `apply` take the hosts over, member by member.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.member_flags import member_flags
from tercet.deploy.members.running_flags import running_flags
from tercet.deploy.plan.certificates import Certificates, inspect
from tercet.deploy.plan.continuity import FIRST_START_FLAGS
from tercet.deploy.plan.plan import Phase, Plan
from tercet.deploy.plan.planning import certificate_steps
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError

_DIRECTORIES = ("data-dir", "wal-dir")


async def adopted_plan(cluster: Cluster, hosts: Mapping[str, Host], now: datetime | None = None) -> Plan:
    """The creation of the operator's certificate, if there is none. notes: flags that differ from the file's.

    Raises ConfigError without the CA that the members trust, HostError.
    """
    flags = await asyncio.gather(*(running_flags(host, cluster, step="plan") for host in hosts.values()))
    notes = [
        f"{name}: {difference}; adopted hosts are not changed"
        for name, running in zip(hosts, flags, strict=True)
        for difference in differences(cluster, cluster.host(name), running)
    ]
    steps = certificate_steps(cluster, _of_operator(cluster, now))
    phases = (Phase("certificates", steps),) if steps else ()
    return Plan(phases, (*cluster.warnings, *notes))


def differences(cluster: Cluster, spec: HostSpec, running: Mapping[str, str]) -> Iterator[str]:
    """Flags of the file that a running member has not, or has with another value. Listeners and certificates are its own."""
    if not running:
        return
    wanted = member_flags(cluster, spec)
    own = {name for name in wanted if name.endswith(("-file", "-cert-auth", "-urls"))}
    for name, value in wanted.items():
        if name in own or name in FIRST_START_FLAGS:
            continue
        runs = running.get(name, "")
        if runs in ("", "0"):  # etcd's default, which the import has written down
            if name in cluster.flags_of(spec):
                yield f"the member runs without {name}, the file has {value}"
        elif not _is_same(name, runs, value):
            yield f"the member runs with {name} {runs}, the file has {value}"


def require_managed(cluster: Cluster, verb: str) -> None:
    """Raises ConfigError for a command that would change adopted hosts."""
    if cluster.adopted:
        raise ConfigError(
            f"{cluster.path}: adopted: true: the hosts stay as they were deployed, so `tercet deploy {verb}` is refused. "
            "Set adopted: false; `tercet deploy apply` then replaces units, programs and certificates, one member at a time"
        )


def _of_operator(cluster: Cluster, now: datetime | None) -> Certificates:
    if not cluster.tls.enabled:
        return Certificates()
    if cluster.tls.ca_certificate is None:
        raise ConfigError(
            f"{cluster.path}: tls: the operator needs a certificate that the members accept: set tls.ca_certificate and "
            "tls.ca_key to local copies of the CA that the members trust"
        )
    return replace(inspect(cluster, now=now), servers={}, peers={})


def _is_same(name: str, runs: str, value: str) -> bool:
    if name not in _DIRECTORIES:
        return runs == value
    path = PurePosixPath(runs)
    return path == PurePosixPath(value) if path.is_absolute() else PurePosixPath(value).parts[-len(path.parts) :] == path.parts
