"""`apply`: gather facts, plan, confirm, execute, and check the cluster's health.

    facts -> plan -> confirm -> certificates -> prepare all hosts -> start, or restart one by one -> health

Nothing is changed before all hosts have been inspected and the operator has confirmed. Members that are down are started at
once: a first start waits for the others, and starting cannot cost a majority. Running members that need a restart are restarted
one at a time (`rolling`).

Certificates that do not exist yet are created by its first phase and read by the steps that copy them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import HostFacts
from tercet.deploy.facts.preflight import Examined, Finding, examine
from tercet.deploy.facts.preflight_checks import Purpose
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import start
from tercet.deploy.plan.ca_rotation import require_one_ca
from tercet.deploy.plan.certificates import inspect
from tercet.deploy.plan.continuity import check_continuity
from tercet.deploy.plan.engine_version import check_version_change, warning_before
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.plan.planning import HostChange, certificate_steps, has_data, host_steps, pinned_release
from tercet.deploy.run.adoption import adopted_plan
from tercet.deploy.run.agreed import Confirm, carry_out
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.fencing import require_current
from tercet.deploy.run.membership import Membership, check_unlisted, membership, require_data
from tercet.deploy.run.rolling import health_phase, pauses, restart_phase
from tercet.deploy.run.survey import HostSurvey, survey
from tercet.deploy.ssh.remote import Host, HostError
from tercet.version import ETCD_VERSION


class PreflightFailed(DeployError):
    """Preflight found errors. findings: the errors, each with its remedy."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__([HostError(one.host, one.check, one.text, remedy=one.remedy) for one in findings])


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
    if cluster.adopted:
        return await adopted_plan(cluster, hosts)
    examined = await examine(cluster, hosts)
    require_no_errors(one for one in examined.findings if one.check in _NEEDED_FOR_PLANNING)
    draft = await make_draft(cluster, hosts, members, on_event, systems=examined.facts)
    blockers = tuple(_sentence(one) for one in examined.findings if draft.prevents(one))
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
    now = datetime.now(UTC)  # one time for both drafts: the reasons for new certificates name it
    if cluster.adopted:
        adopted = partial(adopted_plan, cluster, hosts, now)
        return await carry_out(adopted, confirm, on_event, locked=locked, unit=cluster.service.unit)
    examined = await examine(cluster, hosts)

    async def make_plan() -> Plan:
        draft = await make_draft(cluster, hosts, members, on_event, systems=examined.facts, now=now)
        return permitted(draft, examined)

    require_no_errors(one for one in examined.findings if one.purpose is None)
    return await carry_out(make_plan, confirm, on_event, locked=locked, unit=cluster.service.unit)


def permitted(draft: Draft, examined: Examined) -> Plan:
    """The plan, with the remaining findings of preflight as notes. Raises PreflightFailed if they prevent it."""
    if draft.plan.is_empty:
        return draft.plan
    require_no_errors(one for one in examined.findings if draft.prevents(one))
    warnings = tuple(_sentence(one) for one in examined.findings if one.level != "ok" and not draft.prevents(one))
    return replace(draft.plan, notes=(*draft.plan.notes, *warnings))


_NEEDED_FOR_PLANNING = frozenset({"ssh", "sudo", "facts", "system", "python"})


def require_no_errors(findings: Iterable[Finding]) -> None:
    """Raises PreflightFailed with all errors."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PreflightFailed(errors)


def _sentence(finding: Finding) -> str:
    return f"{finding.host}: {finding.check}: {finding.text}; {finding.remedy}"


async def make_draft(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    members: Members,
    on_event: OnEvent,
    *,
    systems: Mapping[str, HostFacts],
    now: datetime | None = None,
) -> Draft:
    """The steps that make the hosts match the cluster file; changes nothing on the hosts. systems: facts of preflight.

    Raises DeployError with the errors of all hosts, ConfigError for changes that apply does not support.
    """
    require_current(hosts, members.left_behind)
    certificates = inspect(cluster, now=now)
    require_one_ca(certificates)
    surveys = await survey(cluster, hosts, certificates, systems, on_event)
    for seen in surveys.values():
        check_continuity(cluster, seen.desired.host, seen.facts)
    is_running = any(seen.facts.unit.active in ("active", "reloading") for seen in surveys.values())
    listed = await membership(cluster, members) if is_running else Membership()
    if not listed.is_known:
        check_unlisted(cluster, {name: seen.facts for name, seen in surveys.items()})
    changes = _changes(cluster, hosts, surveys, listed)
    phases = [
        Phase("certificates", certificate_steps(cluster, certificates)),
        Phase("prepare", tuple(step for change in changes.values() for step in change.steps)),
        *await start_phases(cluster, hosts, members, changes),
    ]
    phases = [phase for phase in phases if phase.steps]
    notes = pauses(cluster) if any(phase.one_at_a_time for phase in phases) else ()
    purposes = {name: change.purposes for name, change in changes.items()}
    return Draft(
        Plan(
            tuple(phases),
            (*cluster.warnings, *_drop_ins(cluster, surveys), *_pins(cluster, surveys), *version_notes(surveys), *notes),
        ),
        purposes,
    )


def _drop_ins(cluster: Cluster, surveys: Mapping[str, HostSurvey]) -> tuple[str, ...]:
    """Notes about files that override the units, which apply neither writes nor removes."""
    unit = f"{cluster.service.unit}.service"
    drift = {name: ", ".join(seen.facts.unit.drop_ins) for name, seen in surveys.items() if seen.facts.unit.drop_ins}
    return tuple(f"{name}: drop-ins override settings of {unit}: {paths}" for name, paths in drift.items())


def _pins(cluster: Cluster, surveys: Mapping[str, HostSurvey]) -> tuple[str, ...]:
    """Notes about releases that apply keeps."""
    notes = []
    for name, seen in surveys.items():
        pin, release = pinned_release(cluster, seen.facts), seen.desired.release
        if pin not in ("", release):
            notes.append(f"{name}: stays at {pin}, to which it was rolled back; `tercet deploy upgrade` activates {release}")
    return tuple(notes)


def version_notes(surveys: Mapping[str, HostSurvey]) -> tuple[str, ...]:
    """Warnings about the change of the version."""
    found = [
        warning_before(current, seen.artifact.version)
        for seen in surveys.values()
        if seen.artifact.engine == "etcd"
        for current in seen.facts.versions.values()
    ]
    return tuple(dict.fromkeys(filter(None, found)))


def check_version(seen: HostSurvey, cluster: Cluster) -> None:
    """Raises HostError for an unsupported change of the version of a started member."""
    target = ETCD_VERSION if seen.artifact.engine == "tercet" else seen.artifact.version
    if pinned_release(cluster, seen.facts) not in ("", seen.desired.release):
        return
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
            check_version(seen, cluster)
            require_data(cluster, name, seen.facts, listed)
            joins = listed.initial_cluster if name in listed.unstarted else ""
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
    phases = [Phase("start", tuple(start_step(cluster, hosts[name]) for name in down))]
    if changed:
        phases.append(await restart_phase(cluster, hosts, members, changed, changed))
    if down or changed:
        phases.append(health_phase(cluster, members, changes))
    return phases


def start_step(cluster: Cluster, host: Host) -> Step:
    async def work(progress: Progress) -> str:
        return await start(host, cluster)

    return Step(host.name, "start", work)
