"""Rolling restarts: the order of the members, and the conditions for restarting the next one.

Members are restarted one at a time: unhealthy ones first, then followers, the leader last, so that leadership moves once. The
next one waits until this one commits again:

    majority without it?  ->  move leadership  ->  restart, wait until ready  ->  commits again?

A member commits if it answers a linearizable read over mTLS. To answer, it must have applied everything that was committed when
the read arrived, so it has caught up.

A member is stopped only if a majority commits without it (`quorum_gate`). If nothing commits, for example since all peer
certificates have expired, there is nothing to protect: the members are restarted together, since none gets ready alone.
Clusters of one or two members lose their majority at every restart.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members
from tercet.deploy.members.service import StartRequest, request_start, start, unit_state, wait_started
from tercet.deploy.plan.desired import restore_record_path
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.fencing import require_current
from tercet.deploy.run.quorum_gate import Keep, Verdict, judge
from tercet.deploy.run.survey import restore_unfinished
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import StatusError

_BEFORE_SECONDS = 10.0  # long enough for an election or a short network outage
_POLL_SECONDS = 0.25
_TRANSFER_SECONDS = 5.0
_TRANSFERS_MAX = 3


class NotRestarted(HostError):
    """The member was left running as it was."""


async def restart_plan(cluster: Cluster, hosts: Mapping[str, Host], members: Members, names: Collection[str]) -> Plan:
    """Restart these members. hosts: the reachable ones. Raises DeployError if one more member down would cost the majority."""
    require_current(names, members.left_behind)
    await _require_no_restore(cluster, hosts)
    states = await asyncio.gather(*(unit_state(host, _unit(cluster)) for host in hosts.values()))
    all_down = {
        name: f"its {_unit(cluster)} is {state.text}" for name, state in zip(hosts, states, strict=True) if not state.is_up
    }
    all_down |= {spec.name: "its host is not reached" for spec in cluster.hosts if spec.name not in hosts}
    asked_for_some = len(names) < len(cluster.hosts)
    down = {name: why for name, why in all_down.items() if not (asked_for_some and name in names)}
    has_majority = cluster.has_quorum_without(len(all_down))
    if down and has_majority and not cluster.has_quorum_without(len(all_down) + 1):
        raise DeployError([_not_restarted(name, why) for name, why in down.items()])
    return Plan((await restart_phase(cluster, hosts, members, names),), pauses(cluster))


async def _require_no_restore(cluster: Cluster, hosts: Mapping[str, Host]) -> None:
    """Raises DeployError if a host has the record of an unfinished restore, during which members stay stopped."""
    path = restore_record_path(cluster)
    command = f"if [ -e {shlex.quote(path)} ]; then echo unfinished; fi"
    answers = await asyncio.gather(*(host.check(command, step="plan") for host in hosts.values()))
    if unfinished := [name for name, answer in zip(hosts, answers, strict=True) if answer.strip() == b"unfinished"]:
        raise DeployError([restore_unfinished(name, path) for name in unfinished])


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
    *,
    keep: Keep = "majority",
) -> Phase:
    """One step per member, in the order of `in_order`. reasons: shown in the plan. keep: what must commit during a restart."""
    health, answers = await asyncio.gather(members.health(), members.answers())
    order = in_order([spec.name for spec in cluster.hosts if spec.name in names], health, answers)
    rolling = Rolling(cluster, hosts, members, order, keep)
    steps = [Step(name, "restart", rolling.work(name), (reasons or {}).get(name, "")) for name in order]
    return Phase("restart", tuple(steps), one_at_a_time=True)


def in_order(names: Collection[str], health: Collection[MemberHealth], answers: Mapping[str, MemberAnswer]) -> list[str]:
    """Unhealthy members first, the leader last."""
    unhealthy = {one.name for one in health if not one.is_healthy}
    return sorted(names, key=lambda name: (name not in unhealthy, answers[name].is_leader))


def health_phase(cluster: Cluster, members: Members, names: Collection[str], *, allows_alarms: bool = False) -> Phase:
    """The final check that these members are healthy. allows_alarms: or commit, whatever alarms are raised."""
    wait = wait_committing if allows_alarms else _wait_healthy

    def check(spec: HostSpec) -> Work:
        async def work(progress: Progress) -> str:
            return await wait(members, spec, cluster.service.start_timeout_seconds, "health")

        return work

    return Phase("health", tuple(Step(spec.name, "health", check(spec)) for spec in cluster.hosts if spec.name in names))


class Rolling:
    """The restarts of one phase. requested: members restarted together, since nothing commits."""

    def __init__(self, cluster: Cluster, hosts: Mapping[str, Host], members: Members, order: Sequence[str], keep: Keep) -> None:
        self._cluster = cluster
        self._keep = keep
        self._hosts = hosts
        self._members = members
        self._order = order
        self._requested: dict[str, StartRequest] = {}

    def work(self, name: str) -> Work:
        async def work(progress: Progress) -> str:
            return await self.restart(name)

        return work

    async def restart(self, name: str) -> str:
        if name not in self._requested and (await wait_allowed(self._members, name, self._keep, "restarted")).commits:
            return await self._restart_alone(name)
        for other in self._order[self._order.index(name) :]:
            if other not in self._requested:
                self._requested[other] = await request_start(self._hosts[other], self._cluster, step="restart")
        took = await wait_started(self._hosts[name], self._cluster, self._requested[name], step="restart")
        return f"{took}; no majority to protect, restarted together"

    async def require_majority(self, name: str) -> None:
        """Wait for a majority without this member. Raises HostError."""
        await wait_allowed(self._members, name, self._keep, "restarted")

    async def _restart_alone(self, name: str) -> str:
        moved = await _move_leadership(self._members, name, self._order[: self._order.index(name)])
        took = await start(self._hosts[name], self._cluster, step="restart")
        spec = self._cluster.host(name)
        await wait_committing(self._members, spec, self._cluster.service.start_timeout_seconds, "restart")
        return f"{took}{moved}"


async def wait_allowed(members: Members, name: str, keep: Keep, done: str) -> Verdict:
    """Wait for a majority without this member; also before concluding that nothing commits. Raises HostError.

    done: what is refused, "restarted".
    """
    deadline = time.monotonic() + _BEFORE_SECONDS
    while True:
        verdict = judge(await members.health(), name, keep=keep)
        if verdict.is_allowed and verdict.commits:
            return verdict
        if time.monotonic() >= deadline:
            break
        await asyncio.sleep(_POLL_SECONDS)
    if not verdict.is_allowed:
        raise _not_done(name, done, *(f"{one.name} is not healthy: {one.error}" for one in verdict.blockers))
    return verdict


def _not_restarted(name: str, *why: str) -> HostError:
    return _not_done(name, "restarted", *why)


def _not_done(name: str, done: str, *why: str) -> HostError:
    return NotRestarted(
        name,
        "restart" if done == "restarted" else "gate",
        f"not {done}: {'; '.join(why)}. A member is {done} only while a majority commits without it",
        remedy="`tercet deploy apply` starts members that are down; `tercet deploy logs` shows why a member is unhealthy",
    )


async def _wait_healthy(members: Members, spec: HostSpec, patience: float, step: str) -> str:
    """Wait until the member is healthy. Raises HostError after `patience` seconds."""
    return await _wait_for(members, spec, patience, step, lambda health: health.is_healthy)


async def wait_committing(members: Members, spec: HostSpec, patience: float, step: str) -> str:
    """Wait until the member commits, whatever alarms are raised. Raises HostError after `patience` seconds."""
    return await _wait_for(members, spec, patience, step, lambda health: bool(health.commits))


async def _wait_for(
    members: Members, spec: HostSpec, patience: float, step: str, is_met: Callable[[MemberHealth], bool]
) -> str:
    deadline = time.monotonic() + patience
    while not is_met(health := await members.health_of(spec)):
        if time.monotonic() >= deadline:
            text = f"{spec.name} is not healthy: {health.error} (after {patience:g} s)"
            raise HostError(spec.name, step, text, remedy=f"see `tercet deploy logs {spec.name}`")
        await asyncio.sleep(_POLL_SECONDS)
    return "healthy"


async def _move_leadership(members: Members, name: str, restarted: Collection[str]) -> str:
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
    raise NotRestarted(name, "restart", f"not restarted: leadership transfer failed: {problem}", remedy="rerun the command")


def _transferee(name: str, answers: Mapping[str, MemberAnswer], restarted: Collection[str]) -> MemberAnswer | None:
    """Prefer a member that has been restarted already, so that leadership moves once; then the one with the highest index."""
    others = [one for one in answers.values() if one.name != name and one.member_id and not one.is_learner]
    return max(others, key=lambda one: (one.name in restarted, one.raft_index), default=None)


def _unit(cluster: Cluster) -> str:
    return f"{cluster.service.unit}.service"
