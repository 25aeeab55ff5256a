"""From facts to a plan, and from a plan that was agreed to to a cluster that is healthy.

    look at the hosts -> plan -> agree -> certificates -> lay out everywhere -> start, or restart one by one -> health

Nothing is changed anywhere before every host was looked at and the operator has agreed. Members that do not run are started all
at once: a first start waits for the others, and what is down cannot take a majority down. Members that run, and have to be
started anew to take up what has changed, are restarted one by one (`rolling`).

The plan that is shown is the one that is carried out. What it can only speak of, a certificate that is still to be
made, is made by its first phase and read by the steps that need it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.facts.preflight import Finding, preflight
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import start
from tercet.deploy.plan.certificates import Certificates, look
from tercet.deploy.plan.continuity import check_continuity
from tercet.deploy.plan.desired import Desired, desired, wanted
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.plan.planning import HostChange, certificate_steps, host_steps
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.artifacts import default_cache, prepare
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.host_lock import locked_hosts
from tercet.deploy.run.rolling import health_phase, pauses, restart_phase
from tercet.deploy.ssh.remote import Host, HostError
from tercet.errors import ConfigError, TercetError

Confirm = Callable[[Plan], Awaitable[bool]]
ResultT = TypeVar("ResultT")
_UNKNOWN_PYTHON = (0, 0)


class Declined(TercetError):
    """The operator said no."""

    def __init__(self) -> None:
        super().__init__("not confirmed: nothing was changed")


class PreflightFailed(DeployError):
    """Hosts are not ready. findings: the errors, each with its remedy."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__([HostError(one.host, one.check, one.text, remedy=one.remedy) for one in findings])


@dataclass(frozen=True)
class Survey:
    """A host as it is, what it is to run, and what it should look like."""

    facts: HostFacts
    artifact: Artifact
    desired: Desired


async def apply(
    cluster: Cluster, hosts: Mapping[str, Host], members: Members, confirm: Confirm | None, on_event: OnEvent
) -> Plan:
    """See `Deployment.apply`."""
    warnings = ready_or_refused(await preflight(cluster, hosts))
    plan = await draft(cluster, hosts, members, on_event)
    plan = replace(plan, notes=(*plan.notes, *warnings))
    if plan.is_empty:
        return plan
    if confirm is not None and not await confirm(plan):
        raise Declined
    async with locked_hosts(hosts.values(), unit=cluster.service.unit):
        await execute(plan, on_event)
    return plan


def ready_or_refused(findings: Iterable[Finding]) -> list[str]:
    """The warnings, for whoever is asked whether to go on. Raises PreflightFailed with all errors."""
    findings = list(findings)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PreflightFailed(errors)
    return [f"{one.host}: {one.check}: {one.text}; {one.remedy}" for one in findings if one.level == "warning"]


async def draft(cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent) -> Plan:
    """What would make the hosts as the cluster file says; on the hosts this only reads.

    Raises DeployError with what every host says, ConfigError for changes that are not made this way.
    """
    certificates = look(cluster)
    surveys = await _survey(cluster, hosts, certificates, on_event)
    changes = _changes(cluster, hosts, surveys)
    if any(change.is_running for change in changes.values()):
        await require_same_members(cluster, members)
    phases = [
        Phase("certificates", certificate_steps(cluster, certificates)),
        Phase("prepare", tuple(step for change in changes.values() for step in change.laying_out)),
        *await start_phases(cluster, hosts, members, changes),
    ]
    phases = [phase for phase in phases if phase.steps]
    notes = pauses(cluster) if any(phase.one_at_a_time for phase in phases) else ()
    return Plan(tuple(phases), (*cluster.warnings, *notes))


async def _survey(
    cluster: Cluster, hosts: Mapping[str, Host], certificates: Certificates, on_event: OnEvent
) -> dict[str, Survey]:
    """By host. What they are to run is made ready here, which may take a while the first time."""
    python = cluster.engine.python or "python3"
    systems = await _on_all(cluster, lambda spec: gather(hosts[spec.name], Wanted(python=python)))
    artifacts = await _artifacts(cluster, systems, on_event)
    wishes = {spec.name: desired(cluster, spec, artifacts[spec.name], certificates) for spec in cluster.hosts}
    facts = await _on_all(cluster, lambda spec: gather(hosts[spec.name], wanted(cluster, spec, wishes[spec.name])))
    return {name: Survey(facts[name], artifacts[name], wishes[name]) for name in wishes}


def _changes(cluster: Cluster, hosts: Mapping[str, Host], surveys: Mapping[str, Survey]) -> dict[str, HostChange]:
    """Raises ConfigError for the first change that a member with data could not follow, DeployError with what hosts refuse."""
    for seen in surveys.values():
        check_continuity(cluster, seen.desired.host, seen.facts)
    changes: dict[str, HostChange] = {}
    refusals: list[Exception] = []
    for name, seen in surveys.items():
        try:
            changes[name] = host_steps(cluster, hosts[name], seen.facts, seen.desired, seen.artifact)
        except HostError as error:
            refusals.append(error)
    if refusals:
        raise DeployError(refusals)
    return changes


async def start_phases(
    cluster: Cluster, hosts: Mapping[str, Host], members: Members, changes: Mapping[str, HostChange]
) -> list[Phase]:
    """What is down at once, then what runs and has changed, one by one; then whether all are well."""
    down = [name for name, change in changes.items() if not change.is_running]
    changed = {name: "\n".join(change.restart_reasons) for name, change in changes.items() if name not in down}
    changed = {name: why for name, why in changed.items() if changes[name].needs_restart}
    phases = [Phase("start", tuple(Step(name, "start", _started(cluster, hosts[name])) for name in down))]
    if changed:
        phases.append(await restart_phase(cluster, hosts, members, changed, changed))
    if down or changed:
        phases.append(health_phase(cluster, members))
    return phases


def _started(cluster: Cluster, host: Host) -> Work:
    async def work(progress: Progress) -> str:
        return await start(host, cluster)

    return work


async def require_same_members(cluster: Cluster, members: Members) -> None:
    """The cluster's own list of members is the one of the file: whoever was added or removed since has to be in it, or not."""
    listed = await members.listed()
    if listed is None:
        return  # nobody answers; what the units on the hosts say was compared already
    ours = {cluster.peer_url(spec): spec.name for spec in cluster.hosts}
    theirs = {url: member.name for member in listed for url in member.peerURLs}
    gone = [f"{name or 'one'} ({url})" for url, name in theirs.items() if url not in ours]
    new = [f"{name} ({url})" for url, name in ours.items() if url not in theirs]
    said = [f"the cluster has a member {which} that is not in the file" for which in gone]
    said += [f"{which} is in the file and not a member of the cluster" for which in new]
    if said:
        raise ConfigError(
            f"{cluster.path}: hosts: {'; '.join(said)}. Members are not added or removed by apply: put the file's hosts as "
            "they were, or change the membership with etcdctl member add and remove first"
        )


async def _artifacts(cluster: Cluster, systems: Mapping[str, HostFacts], on_event: OnEvent) -> dict[str, Artifact]:
    """By host; made once for all hosts of a kind, one after the other since making one keeps this machine busy."""
    made: dict[tuple[str, tuple[int, int]], Artifact] = {}
    loop = asyncio.get_running_loop()
    title = f"{cluster.engine.kind} as one file"
    is_told = False  # nothing is said of what is in the cache already

    def tell(done: int, total: int) -> None:
        nonlocal is_told
        is_told = True
        on_event(Event(None, title, "running", done=done, total=total))

    def progress(done: int, total: int) -> None:  # called in the thread that does it
        loop.call_soon_threadsafe(tell, done, total)

    for facts in systems.values():
        kind = _kind(facts)
        if kind not in made:
            python = facts.python[:2] if facts.python else None
            made[kind] = await prepare(cluster.engine, arch=facts.arch, python=python, cache=default_cache(), progress=progress)
    if is_told:
        on_event(Event(None, title, "done"))
    return {name: made[_kind(facts)] for name, facts in systems.items()}


def _kind(facts: HostFacts) -> tuple[str, tuple[int, int]]:
    return facts.arch, facts.python[:2] if facts.python else _UNKNOWN_PYTHON


async def _on_all(cluster: Cluster, ask: Callable[[HostSpec], Awaitable[ResultT]]) -> dict[str, ResultT]:
    """Every host's answer, or all the errors."""
    answers = await asyncio.gather(*(ask(spec) for spec in cluster.hosts), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    if failures:
        strange = [failure for failure in failures if not isinstance(failure, TercetError)]
        raise strange[0] if strange else DeployError(failures)
    return {
        spec.name: answer for spec, answer in zip(cluster.hosts, answers, strict=True) if not isinstance(answer, BaseException)
    }
