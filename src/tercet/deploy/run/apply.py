"""`apply`: gather facts, plan, confirm, execute, and check the cluster's health.

    facts -> plan -> confirm -> certificates -> prepare all hosts -> start, or restart one by one -> health

Nothing is changed before all hosts have been inspected and the operator has confirmed. Members that are down are started at
once: a first start waits for the others, and starting cannot cost a majority. Running members that need a restart are restarted
one at a time (`rolling`).

The plan that is displayed is the plan that is executed: it is made again under the locks of the hosts, and a difference is an
error. Certificates that do not exist yet are created by its first phase and read by the steps that copy them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.facts.preflight import Finding, preflight
from tercet.deploy.facts.preflight_checks import Purpose
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import start
from tercet.deploy.plan.certificates import Certificates, inspect
from tercet.deploy.plan.continuity import check_continuity
from tercet.deploy.plan.desired import Desired, desired, wanted
from tercet.deploy.plan.engine_version import check_version_change
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.plan.planning import HostChange, certificate_steps, has_data, host_steps
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.artifacts import default_cache, prepare
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.host_lock import locked_hosts
from tercet.deploy.run.membership import Membership, membership, require_data
from tercet.deploy.run.rolling import health_phase, pauses, restart_phase
from tercet.deploy.ssh.remote import Host, HostError
from tercet.errors import TercetError
from tercet.version import ETCD_VERSION

Confirm = Callable[[Plan], Awaitable[bool]]
ResultT = TypeVar("ResultT")
_UNKNOWN_PYTHON = (0, 0)


class Declined(TercetError):
    """The operator did not confirm."""

    def __init__(self) -> None:
        super().__init__("not confirmed: nothing was changed")


class StalePlan(TercetError):
    """The hosts have changed since the plan was made."""

    def __init__(self) -> None:
        super().__init__("the plan is stale: the hosts have changed since it was made; nothing was changed. Rerun the command")


class PreflightFailed(DeployError):
    """Preflight found errors. findings: the errors, each with its remedy."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__([HostError(one.host, one.check, one.text, remedy=one.remedy) for one in findings])


@dataclass(frozen=True)
class HostSurvey:
    """The facts of a host, the artifact for it, and its target state."""

    facts: HostFacts
    artifact: Artifact
    desired: Desired


@dataclass(frozen=True)
class Draft:
    """A plan, and the kinds of work on each host, to which some preflight checks apply."""

    plan: Plan
    purposes: Mapping[str, frozenset[Purpose]]

    def prevents(self, finding: Finding) -> bool:
        """Whether an error of preflight prevents this plan; otherwise it is a warning."""
        if finding.level != "error" or finding.purpose is None:
            return finding.level == "error"
        hosts = [finding.host] if finding.host in self.purposes else list(self.purposes)
        return any(finding.purpose in self.purposes[host] for host in hosts)


async def plan(cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent) -> Plan:
    """See `Deployment.plan`. Errors of preflight are the plan's blockers."""
    findings = await preflight(cluster, hosts)
    require_no_errors(one for one in findings if one.check in _NEEDED_FOR_PLANNING)
    draft = await make_draft(cluster, hosts, members, on_event)
    blockers = tuple(_sentence(one) for one in findings if draft.prevents(one))
    return replace(draft.plan, blockers=() if draft.plan.is_empty else blockers)


async def apply(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    members: Members,
    confirm: Confirm | None,
    on_event: OnEvent,
    *,
    locked: Collection[Host],
) -> Plan:
    """See `Deployment.apply`. hosts: those to change. locked: all reachable hosts, which are locked against other operators."""
    findings = await preflight(cluster, hosts)
    require_no_errors(one for one in findings if one.purpose is None)
    now = datetime.now(UTC)  # one time for both drafts: the reasons for new certificates name it
    draft = await make_draft(cluster, hosts, members, on_event, now=now)
    if draft.plan.is_empty:
        return draft.plan
    require_no_errors(one for one in findings if draft.prevents(one))
    warnings = tuple(_sentence(one) for one in findings if one.level != "ok" and not draft.prevents(one))
    shown = replace(draft.plan, notes=(*draft.plan.notes, *warnings))
    if confirm is not None and not await confirm(shown):
        raise Declined
    async with locked_hosts(locked, unit=cluster.service.unit):
        current = await make_draft(cluster, hosts, members, on_event, now=now)
        if current.plan.changes != draft.plan.changes:
            raise StalePlan
        await execute(current.plan, on_event)
    return shown


_NEEDED_FOR_PLANNING = frozenset({"ssh", "sudo", "facts", "system", "python"})


def require_no_errors(findings: Iterable[Finding]) -> None:
    """Raises PreflightFailed with all errors."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PreflightFailed(errors)


def _sentence(finding: Finding) -> str:
    return f"{finding.host}: {finding.check}: {finding.text}; {finding.remedy}"


async def make_draft(
    cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent, *, now: datetime | None = None
) -> Draft:
    """The steps that make the hosts match the cluster file; changes nothing on the hosts.

    Raises DeployError with the errors of all hosts, ConfigError for changes that apply does not support.
    """
    certificates = inspect(cluster, now=now)
    surveys = await _survey(cluster, hosts, certificates, on_event)
    for seen in surveys.values():
        check_continuity(cluster, seen.desired.host, seen.facts)
    is_running = any(seen.facts.unit.active in ("active", "reloading") for seen in surveys.values())
    listed = await membership(cluster, members) if is_running else Membership()
    changes = _changes(cluster, hosts, surveys, listed)
    phases = [
        Phase("certificates", certificate_steps(cluster, certificates)),
        Phase("prepare", tuple(step for change in changes.values() for step in change.steps)),
        *await start_phases(cluster, hosts, members, changes),
    ]
    phases = [phase for phase in phases if phase.steps]
    notes = pauses(cluster) if any(phase.one_at_a_time for phase in phases) else ()
    purposes = {name: change.purposes for name, change in changes.items()}
    return Draft(Plan(tuple(phases), (*cluster.warnings, *_drop_ins(cluster, surveys), *notes)), purposes)


async def _survey(
    cluster: Cluster, hosts: Mapping[str, Host], certificates: Certificates, on_event: OnEvent
) -> dict[str, HostSurvey]:
    """By host name. Builds the artifacts, which may take a while the first time."""
    python = cluster.engine.python or "python3"
    systems = await _on_all(
        cluster, hosts, lambda spec: gather(hosts[spec.name], Wanted(python=python, unit=cluster.service.unit))
    )
    artifacts = await _artifacts(cluster, systems, on_event)
    wishes = {name: desired(cluster, cluster.host(name), artifacts[name], certificates) for name in systems}

    async def facts_of(spec: HostSpec) -> HostFacts:
        programs = _engine_program(systems[spec.name])
        return await gather(hosts[spec.name], replace(wanted(cluster, spec, wishes[spec.name]), programs=programs))

    facts = await _on_all(cluster, hosts, facts_of)
    return {name: HostSurvey(facts[name], artifacts[name], wishes[name]) for name in wishes}


def _engine_program(facts: HostFacts) -> tuple[str, ...]:
    """The program that the unit runs, if it is an engine."""
    program = facts.unit.exec_line.split(" ", 1)[0]
    return (program,) if program.endswith(("/etcd", "/tercet")) else ()


def _drop_ins(cluster: Cluster, surveys: Mapping[str, HostSurvey]) -> tuple[str, ...]:
    """Notes about files that override the units, which apply neither writes nor removes."""
    unit = f"{cluster.service.unit}.service"
    drift = {name: ", ".join(seen.facts.unit.drop_ins) for name, seen in surveys.items() if seen.facts.unit.drop_ins}
    return tuple(f"{name}: drop-ins override settings of {unit}: {paths}" for name, paths in drift.items())


def _check_version(seen: HostSurvey, cluster: Cluster) -> None:
    """Raises HostError for an unsupported change of the version of a started member."""
    target = ETCD_VERSION if seen.artifact.engine == "tercet" else seen.artifact.version
    if has_data(cluster, seen.facts) and not (seen.artifact.engine == "tercet" and cluster.engine.source):
        for current in seen.facts.versions.values():
            check_version_change(seen.desired.host.name, current=current, target=target)


def _changes(
    cluster: Cluster, hosts: Mapping[str, Host], surveys: Mapping[str, HostSurvey], listed: Membership
) -> dict[str, HostChange]:
    """Raises DeployError with the errors of the hosts."""
    changes: dict[str, HostChange] = {}
    errors: list[Exception] = []
    for name, seen in surveys.items():
        try:
            _check_version(seen, cluster)
            require_data(cluster, name, seen.facts, listed)
            joins = name in listed.unstarted
            changes[name] = host_steps(cluster, hosts[name], seen.facts, seen.desired, seen.artifact, joins=joins)
        except HostError as error:
            errors.append(error)
    if errors:
        raise DeployError(errors)
    return changes


async def start_phases(
    cluster: Cluster, hosts: Mapping[str, Host], members: Members, changes: Mapping[str, HostChange]
) -> list[Phase]:
    """Start all members that are down, restart changed running members one by one, then check the health of all."""
    down = [name for name, change in changes.items() if not change.is_running]
    changed = {name: "\n".join(change.restart_reasons) for name, change in changes.items() if name not in down}
    changed = {name: why for name, why in changed.items() if changes[name].needs_restart}
    phases = [Phase("start", tuple(Step(name, "start", _start(cluster, hosts[name])) for name in down))]
    if changed:
        phases.append(await restart_phase(cluster, hosts, members, changed, changed))
    if down or changed:
        phases.append(health_phase(cluster, members, changes))
    return phases


def _start(cluster: Cluster, host: Host) -> Work:
    async def work(progress: Progress) -> str:
        return await start(host, cluster)

    return work


async def _artifacts(cluster: Cluster, systems: Mapping[str, HostFacts], on_event: OnEvent) -> dict[str, Artifact]:
    """By host name. One artifact per kind of host, built in sequence since a build uses the whole machine."""
    made: dict[tuple[str, tuple[int, int]], Artifact] = {}
    loop = asyncio.get_running_loop()
    title = "build the tercet bundle" if cluster.engine.kind == "tercet" else "prepare the etcd release"
    has_reported = False  # no event for a cached artifact

    def report(done: int, total: int) -> None:
        nonlocal has_reported
        has_reported = True
        on_event(Event(None, title, "running", done=done, total=total))

    def progress(done: int, total: int) -> None:  # called in the worker thread
        loop.call_soon_threadsafe(report, done, total)

    for facts in systems.values():
        kind = _kind(facts)
        if kind not in made:
            python = facts.python[:2] if facts.python else None
            made[kind] = await prepare(cluster.engine, arch=facts.arch, python=python, cache=default_cache(), progress=progress)
    if has_reported:
        on_event(Event(None, title, "done"))
    return {name: made[_kind(facts)] for name, facts in systems.items()}


def _kind(facts: HostFacts) -> tuple[str, tuple[int, int]]:
    return facts.arch, facts.python[:2] if facts.python else _UNKNOWN_PYTHON


async def _on_all(
    cluster: Cluster, hosts: Collection[str], ask: Callable[[HostSpec], Awaitable[ResultT]]
) -> dict[str, ResultT]:
    """The answer of every host. Raises DeployError with all errors."""
    specs = [spec for spec in cluster.hosts if spec.name in hosts]
    answers = await asyncio.gather(*(ask(spec) for spec in specs), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    if failures:
        unexpected = [failure for failure in failures if not isinstance(failure, TercetError)]
        raise unexpected[0] if unexpected else DeployError(failures)
    return {spec.name: answer for spec, answer in zip(specs, answers, strict=True) if not isinstance(answer, BaseException)}
