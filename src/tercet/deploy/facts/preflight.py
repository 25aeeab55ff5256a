"""Would a deployment succeed? All that stands in its way, at once, each with its remedy, before anything is changed.

    for finding in await preflight(cluster, hosts):
        print(finding.host, finding.check, finding.level, finding.text, finding.remedy)

Here the hosts are asked, one round trip each; what the answers mean is decided in `preflight_checks`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from statistics import median

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.facts.preflight_checks import CHECKS, Finding, Level, Question, ports
from tercet.deploy.ssh.remote import Host, HostError

__all__ = ["Finding", "Level", "preflight"]

# Checks that a failed step stands for; a step of any other name keeps it.
_CHECK_OF_STEP = {"connect": "ssh", "gather facts": "facts"}


async def preflight(cluster: Cluster, hosts: Mapping[str, Host | HostError]) -> list[Finding]:
    """Every check on every host, in the file's order. A host that cannot be asked has the one finding that says why."""
    specs = [spec for spec in cluster.hosts if spec.name in hosts]
    answers = await asyncio.gather(*(_ask(cluster, spec, hosts[spec.name]) for spec in specs))
    offsets = [facts.clock_offset_seconds for facts in answers if isinstance(facts, HostFacts)]
    findings: list[Finding] = []
    for spec, facts in zip(specs, answers, strict=True):
        if isinstance(facts, HostError):
            findings.append(_unanswered(facts))
            continue
        question = Question(cluster, spec, facts, median(offsets))
        findings += [finding for check in CHECKS for finding in check(question)]
    return findings


async def _ask(cluster: Cluster, spec: HostSpec, host: Host | HostError) -> HostFacts | HostError:
    if isinstance(host, HostError):
        return host
    try:
        return await gather(host, wanted(cluster, spec))
    except HostError as error:
        return error


def wanted(cluster: Cluster, spec: HostSpec) -> Wanted:
    """What the checks need to know of one host."""
    paths, service = cluster.paths, cluster.service
    directories = (paths.data, *([paths.wal] if paths.wal else []), paths.backups, paths.install, paths.certificates)
    return Wanted(
        paths=(*directories, *([paths.bin] if paths.bin else [])),
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
