"""In what order may members be restarted, and when must the next one not be touched?

One at a time: first those that are in trouble already, then followers, the leader last, so that leadership moves once. Each is
restarted only while all others are healthy, and the next one has its turn only when this one is back:

    others healthy?  ->  lead elsewhere  ->  restart, wait until ready  ->  healthy again?

Healthy means a linearizable read through that very member, over mTLS: to answer it a member must have applied all that the
leader had committed when it was asked, so a member that answers has caught up.

Never: stop a member while another one is down or silent. With three members two must be up, and nobody knows which one fails
next. Whoever cannot see that the others are healthy does not restart. Only a cluster of one or two members has no choice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members
from tercet.deploy.members.service import start, unit_state
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import StatusError

_BEFORE_SECONDS = 10.0  # an election or a pause of the network is over by then
_POLL_SECONDS = 0.25
_HANDOVER_SECONDS = 5.0
_HANDOVERS_MAX = 3


async def restart_plan(cluster: Cluster, hosts: Mapping[str, Host], members: Members, names: Collection[str]) -> Plan:
    """Restart these members. Raises DeployError where one that is not among them is down, or all were asked for and any is."""
    states = await asyncio.gather(*(unit_state(hosts[spec.name], _unit(cluster)) for spec in cluster.hosts))
    asked_for_some = len(names) < len(cluster.hosts)
    down = [
        _refusal(spec.name, f"its {_unit(cluster)} is {state.text}")
        for spec, state in zip(cluster.hosts, states, strict=True)
        if not state.is_up and not (asked_for_some and spec.name in names)
    ]
    if down:
        raise DeployError(down)
    return Plan((await restart_phase(cluster, hosts, members, names),), pauses(cluster))


def pauses(cluster: Cluster) -> tuple[str, ...]:
    """What whoever restarts members of so small a cluster should know; nothing where a majority stays up."""
    if cluster.has_quorum_without(1):
        return ()
    whose = "the only member" if len(cluster.hosts) == 1 else "either of two members"
    return (f"there is no majority without {whose}: while one restarts, nothing can be written, and reads wait",)


async def restart_phase(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    members: Members,
    names: Collection[str],
    reasons: Mapping[str, str] | None = None,
) -> Phase:
    """One step a member, in the order of `in_order`. reasons: why each is restarted, to be shown."""
    health, answers = await asyncio.gather(members.health(), members.answers())
    order = in_order([spec.name for spec in cluster.hosts if spec.name in names], health, answers)
    steps = []
    for place, name in enumerate(order):
        work = _restart(cluster, hosts[name], members, restarted=order[:place])
        steps.append(Step(name, "restart", work, (reasons or {}).get(name, "")))
    return Phase("restart", tuple(steps), one_at_a_time=True)


def in_order(names: Collection[str], health: Collection[MemberHealth], answers: Mapping[str, MemberAnswer]) -> list[str]:
    """Members in trouble first, the leader last, the others between them as they come."""
    unhealthy = {one.name for one in health if not one.is_healthy}
    return sorted(names, key=lambda name: (name not in unhealthy, answers[name].is_leader))


def health_phase(cluster: Cluster, members: Members) -> Phase:
    """Every member has to answer before all is called well."""

    def check(spec: HostSpec) -> Work:
        async def work(progress: Progress) -> str:
            return await _wait_healthy(cluster, members, [spec], cluster.service.start_timeout_seconds, spec.name, "health")

        return work

    return Phase("health", tuple(Step(spec.name, "health", check(spec)) for spec in cluster.hosts))


def _restart(cluster: Cluster, host: Host, members: Members, *, restarted: Collection[str]) -> Work:
    async def work(progress: Progress) -> str:
        await _require_others(cluster, members, host.name)
        moved = await _lead_elsewhere(cluster, members, host.name, restarted)
        took = await start(host, cluster, step="restart")
        patience = cluster.service.start_timeout_seconds
        await _wait_healthy(cluster, members, cluster.hosts, patience, host.name, "restart")
        return f"{took}{moved}"

    return work


async def _require_others(cluster: Cluster, members: Members, name: str) -> None:
    others = [spec for spec in cluster.hosts if spec.name != name]
    if not cluster.has_quorum_without(1):
        return  # one or two members: each restart is a pause, and there is no other way
    unhealthy = await _unhealthy(members, others, _BEFORE_SECONDS)
    if unhealthy:
        raise _refusal(name, *(f"{one.name} is not healthy: {one.error}" for one in unhealthy))


def _refusal(name: str, *why: str) -> HostError:
    return HostError(
        name,
        "restart",
        f"not restarted: {'; '.join(why)}. Members are restarted only while all others are healthy, so that a majority stays",
        remedy="`tercet deploy apply` starts what is down; where members run and are not healthy, see `tercet deploy logs`",
    )


async def _wait_healthy(
    cluster: Cluster, members: Members, specs: Collection[HostSpec], patience: float, name: str, step: str
) -> str:
    """Until all of them are healthy. Returns how long the slowest read took. Raises HostError."""
    unhealthy = await _unhealthy(members, specs, patience)
    if unhealthy:
        words = "; ".join(f"{one.name} is not healthy: {one.error}" for one in unhealthy)
        raise HostError(name, step, f"{words} (after {patience:g} s)", remedy=f"see `tercet deploy logs {unhealthy[0].name}`")
    return "healthy"


async def _unhealthy(members: Members, specs: Collection[HostSpec], patience: float) -> list[MemberHealth]:
    """Those that are not healthy when patience ends; nobody, as soon as all are."""
    deadline = time.monotonic() + patience
    while True:
        health = await asyncio.gather(*(members.health_of(spec) for spec in specs))
        unhealthy = [one for one in health if not one.is_healthy]
        if not unhealthy or time.monotonic() >= deadline:
            return unhealthy
        await asyncio.sleep(_POLL_SECONDS)


async def _lead_elsewhere(cluster: Cluster, members: Members, name: str, restarted: Collection[str]) -> str:
    """If this member leads, let another one: a leader that just stops leaves the cluster without one for an election's time."""
    for _ in range(_HANDOVERS_MAX):
        answers = await members.answers()
        if not answers[name].is_leader:
            return ""
        heir = _heir(name, answers, restarted)
        if heir is None:
            return ""
        try:
            await members.move_leader(name, heir)
        except StatusError as error:
            problem = error.message
            await asyncio.sleep(_POLL_SECONDS)
            continue
        problem = "it still leads"
        deadline = time.monotonic() + _HANDOVER_SECONDS
        while time.monotonic() < deadline:
            answer = await members.answer_of(name)
            if answer.leader and not answer.is_leader:
                return f", leadership moved to {heir.name}"
            await asyncio.sleep(_POLL_SECONDS)
    raise HostError(
        name, "restart", f"not restarted: leadership could not be moved away: {problem}", remedy="run the same again"
    )


def _heir(name: str, answers: Mapping[str, MemberAnswer], restarted: Collection[str]) -> MemberAnswer | None:
    """One that need not be restarted any more, if there is one: then leadership moves once. Then the one furthest ahead."""
    others = [one for one in answers.values() if one.name != name and one.member_id and not one.is_learner]
    return max(others, key=lambda one: (one.name in restarted, one.raft_index), default=None)


def _unit(cluster: Cluster) -> str:
    return f"{cluster.service.unit}.service"
