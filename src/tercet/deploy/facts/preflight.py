"""Preflight: check all hosts before anything is changed, and report every problem with its remedy.

    examined = await examine(cluster, hosts)
    for finding in examined.findings:
        print(finding.host, finding.check, finding.level, finding.text, finding.remedy)

This module gathers the facts, one round trip per host; `preflight_checks` evaluates them. Planning reuses the facts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.facts.preflight_checks import CHECKS, Finding, HostContext, Level, check_local_clock, ports
from tercet.deploy.ssh.remote import Host, HostError

__all__ = ["Examined", "Finding", "Level", "examine"]

# Check names for failed steps; other steps are reported under their own name.
_CHECK_OF_STEP = {"connect": "ssh", "gather facts": "facts"}


@dataclass(frozen=True)
class Examined:
    """findings: all checks, in the order of the file. facts: of the hosts that answered, by name."""

    findings: tuple[Finding, ...]
    facts: Mapping[str, HostFacts]


async def examine(cluster: Cluster, hosts: Mapping[str, Host | HostError], *, disks_beside_members: bool = False) -> Examined:
    """All checks on all hosts. An unreachable host has one finding with the reason.

    disks_beside_members: measure disks also where the member runs; it takes up to three seconds, and delays the member.
    """
    specs = [spec for spec in cluster.hosts if spec.name in hosts]
    asked = [replace(wanted(cluster, spec), fdatasync_beside_unit=disks_beside_members) for spec in specs]
    answers = await asyncio.gather(*(_ask(hosts[spec.name], what) for spec, what in zip(specs, asked, strict=True)))
    known = {spec.name: facts for spec, facts in zip(specs, answers, strict=True) if isinstance(facts, HostFacts)}
    offsets = [facts.clock_offset_seconds for facts in known.values()]
    local = check_local_clock(offsets, max((facts.clock_error_seconds for facts in known.values()), default=0.0))
    findings: list[Finding] = [local] if local else []
    for spec, facts in zip(specs, answers, strict=True):
        if isinstance(facts, HostError):
            findings.append(_unanswered(facts))
            continue
        context = HostContext(cluster, spec, facts, median(offsets), local is not None)
        findings += [finding for check in CHECKS for finding in check(context)]
    return Examined(tuple(findings), known)


async def _ask(host: Host | HostError, what: Wanted) -> HostFacts | HostError:
    if isinstance(host, HostError):
        return host
    try:
        return await gather(host, what)
    except HostError as error:
        return error


def wanted(cluster: Cluster, spec: HostSpec) -> Wanted:
    """The facts that the checks need."""
    paths, service = cluster.paths, cluster.service
    directories = (paths.data, *([paths.wal] if paths.wal else []), paths.backups, paths.install, paths.certificates)
    return Wanted(
        paths=(*directories, f"{paths.install}/current", *([paths.bin] if paths.bin else [])),
        unit=service.unit,
        users=(service.user,),
        groups=(service.group,),
        ports=ports(cluster),
        python=cluster.engine.python or "python3",
        disks=directories,
        fdatasync=paths.wal or paths.data,
        reach=tuple((other.address, cluster.listen.peer_port) for other in cluster.hosts if other != spec),
        addresses=(spec.address,),
    )


def _unanswered(error: HostError) -> Finding:
    return Finding(error.host, _CHECK_OF_STEP.get(error.step, error.step), "error", error.text, error.remedy)
