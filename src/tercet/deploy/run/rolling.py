"""Rolling restarts: the order of the members, and the conditions for restarting the next one.

Members are restarted one at a time: unhealthy ones first, then followers, the leader last, so that leadership moves once. A
member is restarted only while all others are healthy, and the next one waits until this one is healthy again:

    others healthy?  ->  move leadership  ->  restart, wait until ready  ->  healthy again?

Healthy means that the member itself answers a linearizable read over mTLS. To answer, it must have applied everything that was
committed when the read arrived, so a healthy member has caught up.

A member is never stopped while another one is down or unreachable: of three members two must be up, and either may fail next.
Only clusters of one or two members are restarted without a majority.
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

_BEFORE_SECONDS = 10.0  # long enough for an election or a short network outage
_POLL_SECONDS = 0.25
_TRANSFER_SECONDS = 5.0
_TRANSFERS_MAX = 3


async def restart_plan(cluster: Cluster, hosts: Mapping[str, Host], members: Members, names: Collection[str]) -> Plan:
    """Restart these members. Raises DeployError if a member is down that is not among `names`, or any if all are named."""
    states = await asyncio.gather(*(unit_state(hosts[spec.name], _unit(cluster)) for spec in cluster.hosts))
    asked_for_some = len(names) < len(cluster.hosts)
    down = [
        _not_restarted(spec.name, f"its {_unit(cluster)} is {state.text}")
        for spec, state in zip(cluster.hosts, states, strict=True)
        if not state.is_up and not (asked_for_some and spec.name in names)
    ]
    if down:
        raise DeployError(down)
    return Plan((await restart_phase(cluster, hosts, members, names),), pauses(cluster))


def pauses(cluster: Cluster) -> tuple[str, ...]:
    """A warning for clusters that lose their majority during a restart."""
    if cluster.has_quorum_without(1):
        return ()
    members = "one member" if len(cluster.hosts) == 1 else "two members"
    return (f"a cluster of {members} has no majority during a restart: writes fail and linearizable reads wait",)


async def restart_phase(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    members: Members,
    names: Collection[str],
    reasons: Mapping[str, str] | None = None,
) -> Phase:
    """One step per member, in the order of `in_order`. reasons: shown in the plan."""
    health, answers = await asyncio.gather(members.health(), members.answers())
    order = in_order([spec.name for spec in cluster.hosts if spec.name in names], health, answers)
    steps = []
    for place, name in enumerate(order):
        work = _restart(cluster, hosts[name], members, restarted=order[:place])
        steps.append(Step(name, "restart", work, (reasons or {}).get(name, "")))
    return Phase("restart", tuple(steps), one_at_a_time=True)


def in_order(names: Collection[str], health: Collection[MemberHealth], answers: Mapping[str, MemberAnswer]) -> list[str]:
    """Unhealthy members first, the leader last."""
    unhealthy = {one.name for one in health if not one.is_healthy}
    return sorted(names, key=lambda name: (name not in unhealthy, answers[name].is_leader))


def health_phase(cluster: Cluster, members: Members) -> Phase:
    """The final check that every member is healthy."""

    def check(spec: HostSpec) -> Work:
        async def work(progress: Progress) -> str:
            return await _wait_healthy(cluster, members, [spec], cluster.service.start_timeout_seconds, spec.name, "health")

        return work

    return Phase("health", tuple(Step(spec.name, "health", check(spec)) for spec in cluster.hosts))


def _restart(cluster: Cluster, host: Host, members: Members, *, restarted: Collection[str]) -> Work:
    async def work(progress: Progress) -> str:
        await _require_others(cluster, members, host.name)
        moved = await _move_leadership(cluster, members, host.name, restarted)
        took = await start(host, cluster, step="restart")
        patience = cluster.service.start_timeout_seconds
        await _wait_healthy(cluster, members, cluster.hosts, patience, host.name, "restart")
        return f"{took}{moved}"

    return work


async def _require_others(cluster: Cluster, members: Members, name: str) -> None:
    others = [spec for spec in cluster.hosts if spec.name != name]
    if not cluster.has_quorum_without(1):
        return  # one or two members: every restart costs the majority
    unhealthy = await _unhealthy(members, others, _BEFORE_SECONDS)
    if unhealthy:
        raise _not_restarted(name, *(f"{one.name} is not healthy: {one.error}" for one in unhealthy))


def _not_restarted(name: str, *why: str) -> HostError:
    return HostError(
        name,
        "restart",
        f"not restarted: {'; '.join(why)}. A member is restarted only while all others are healthy, to keep the majority",
        remedy="`tercet deploy apply` starts members that are down; `tercet deploy logs` shows why a member is unhealthy",
    )


async def _wait_healthy(
    cluster: Cluster, members: Members, specs: Collection[HostSpec], patience: float, name: str, step: str
) -> str:
    """Wait until all of them are healthy. Raises HostError after `patience` seconds."""
    unhealthy = await _unhealthy(members, specs, patience)
    if unhealthy:
        problems = "; ".join(f"{one.name} is not healthy: {one.error}" for one in unhealthy)
        raise HostError(
            name, step, f"{problems} (after {patience:g} s)", remedy=f"see `tercet deploy logs {unhealthy[0].name}`"
        )
    return "healthy"


async def _unhealthy(members: Members, specs: Collection[HostSpec], patience: float) -> list[MemberHealth]:
    """The members that are unhealthy after `patience` seconds; an empty list as soon as all are healthy."""
    deadline = time.monotonic() + patience
    while True:
        health = await asyncio.gather(*(members.health_of(spec) for spec in specs))
        unhealthy = [one for one in health if not one.is_healthy]
        if not unhealthy or time.monotonic() >= deadline:
            return unhealthy
        await asyncio.sleep(_POLL_SECONDS)


async def _move_leadership(cluster: Cluster, members: Members, name: str, restarted: Collection[str]) -> str:
    """Transfer leadership away from this member: stopping a leader leaves the cluster leaderless for an election timeout."""
    for _ in range(_TRANSFERS_MAX):
        answers = await members.answers()
        if not answers[name].is_leader:
            return ""
        transferee = _transferee(name, answers, restarted)
        if transferee is None:
            return ""
        try:
            await members.move_leader(name, transferee)
        except StatusError as error:
            problem = error.message
            await asyncio.sleep(_POLL_SECONDS)
            continue
        problem = f"it is still the leader after {_TRANSFER_SECONDS:g} s"
        deadline = time.monotonic() + _TRANSFER_SECONDS
        while time.monotonic() < deadline:
            answer = await members.answer_of(name)
            if answer.leader and not answer.is_leader:
                return f", leadership moved to {transferee.name}"
            await asyncio.sleep(_POLL_SECONDS)
    raise HostError(name, "restart", f"not restarted: leadership transfer failed: {problem}", remedy="rerun the command")


def _transferee(name: str, answers: Mapping[str, MemberAnswer], restarted: Collection[str]) -> MemberAnswer | None:
    """Prefer a member that has been restarted already, so that leadership moves once; then the one with the highest index."""
    others = [one for one in answers.values() if one.name != name and one.member_id and not one.is_learner]
    return max(others, key=lambda one: (one.name in restarted, one.raft_index), default=None)


def _unit(cluster: Cluster) -> str:
    return f"{cluster.service.unit}.service"
