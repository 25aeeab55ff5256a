"""`member add`, `member remove` and `member replace`: one change of the membership at a time.

    add       prepare the host -> add as learner -> start -> caught up? -> promote -> health
    remove    move leadership away -> remove from the cluster -> stop its service
    replace   copy the release -> stop -> remove from the cluster -> move its data aside -> add

A learner has no vote, so a member that starts slowly or not at all costs no majority; it is promoted when it has caught up.
Members are removed before others are added, so that a dead one does not raise the majority (etcd, "runtime reconfiguration").
Nobody else restarts: --initial-cluster is read at the first start only. Each step can be repeated: the plan is made from the
member list, and an interrupted change is continued by running the command again.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import FileFact, HostFacts
from tercet.deploy.facts.preflight import examine
from tercet.deploy.members import changes
from tercet.deploy.members.members import MemberHealth, Members
from tercet.deploy.members.service import stop, unit_state
from tercet.deploy.plan.ca_rotation import require_one_ca
from tercet.deploy.plan.certificates import Certificates, inspect
from tercet.deploy.plan.engine_version import is_older_minor
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.plan.planning import PARTS, Part, certificate_steps, has_data, host_steps
from tercet.deploy.run.apply import require_no_errors, start_step
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import UNCHANGED, DeployError
from tercet.deploy.run.fencing import readmission
from tercet.deploy.run.membership import initial_cluster
from tercet.deploy.run.quorum_gate import may_add, may_remove
from tercet.deploy.run.rolling import health_phase
from tercet.deploy.run.survey import HostSurvey, survey
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError, StatusError
from tercet.proto import rpc_pb2
from tercet.version import ETCD_VERSION

_CATCH_UP_SECONDS = 600.0
_CONNECT_SECONDS = 60.0
_POLL_SECONDS = 0.5
_SPARE_BYTES = 128 << 20  # for the log
_STEP = "member"
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class MemberChange:
    """Makes the plans. hosts: the reachable ones. now: one time for both plans, since reasons of new certificates name it."""

    cluster: Cluster
    hosts: Mapping[str, Host]
    members: Members
    on_event: OnEvent
    now: datetime

    async def add(self, name: str) -> Plan:
        """Empty if it is a voter already. Raises ConfigError, DeployError for an unsafe order."""
        spec, listed = self.cluster.host(name), await self._listed()
        member = _with_url(listed, self.cluster.peer_url(spec))
        if member is not None and member.name and not member.isLearner:
            return Plan()
        if member is None:
            self._check_addition(spec, listed)
        return await self._joining(spec, listed, member)

    async def remove(self, name: str) -> Plan:
        """name: of a member, or its id in hexadecimal if it has none. Empty if there is no such member, nor its service."""
        listed = await self._listed()
        member = _called(listed, name)
        if member is None:  # after an interruption its service may still start at each boot
            return Plan((Phase("stop", (self._stop(name),)),) if await self._has_service(name) else ())
        await self._check_removal(name, listed, member)
        phases = [Phase("membership", (self._removal(name, member),))]
        if name in self.hosts:
            phases.append(Phase("stop", (self._stop(name),)))
        return Plan(tuple(phases))

    async def replace(self, name: str) -> Plan:
        """Remove the member of this name and add it again, without its data, at the address in the file."""
        spec, listed = self.cluster.host(name), await self._listed()
        url = self.cluster.peer_url(spec)
        member = _called(listed, name)
        pending = _with_url(listed, url)
        if member is None or (pending is not None and (not pending.name or pending.isLearner)):
            return await self.add(name)  # removed before an interruption
        await self._check_removal(name, listed, member)
        rest = [one for one in listed if one.ID != member.ID]
        steps = (self._stop(name), replace(self._removal(name, member), host=name))
        joining = await self._joining(spec, rest, None, removal=steps)
        note = f"the data of {name} is moved aside on its host, and copied again from the other members"
        return replace(joining, notes=(*joining.notes, note))

    # Checks.

    async def _listed(self) -> list[rpc_pb2.Member]:
        listed = await self.members.listed()
        if listed is None:
            raise ConfigError(
                f"{self.cluster.path}: no member answers, and the membership is changed only while a majority commits; see "
                "`tercet deploy health`"
            )
        return listed

    async def _voters(self, listed: Sequence[rpc_pb2.Member]) -> list[MemberHealth]:
        """The health of every voter; one that is not in the file cannot be asked, and counts as failed."""
        ours = {self.cluster.peer_url(spec): spec.name for spec in self.cluster.hosts}
        health = {one.name: one for one in await self.members.health()}
        found = []
        for member in listed:
            known = next((health[ours[url]] for url in member.peerURLs if url in ours), None)
            if not member.isLearner:
                found.append(known or MemberHealth(_name(member), "", False, 0.0, "it is not in the cluster file", False))
        return found

    def _check_addition(self, spec: HostSpec, listed: Sequence[rpc_pb2.Member]) -> None:
        for member in listed:
            if member.name == spec.name:
                raise ConfigError(
                    f"{self.cluster.path}: the cluster has a member {spec.name} at {', '.join(member.peerURLs)}; to move it to "
                    f"{self.cluster.peer_url(spec)}, run `tercet deploy member replace {spec.name}`"
                )
            if member.isLearner or not member.name:
                raise ConfigError(
                    f"{self.cluster.path}: {_name(member)} ({', '.join(member.peerURLs)}) is still joining; members are added "
                    "one at a time: run its `tercet deploy member add` again, or remove it"
                )

    async def _check_removal(self, name: str, listed: Sequence[rpc_pb2.Member], member: rpc_pb2.Member) -> None:
        """Raises DeployError if the members that remain would not commit."""
        if member.isLearner:
            return
        voters = await self._voters(listed)
        target = next(one.name for one, voter in zip(voters, _voting(listed), strict=True) if voter.ID == member.ID)
        if may_remove(voters, target):
            return
        failed = [f"{one.name} is not healthy: {one.error}" for one in voters if one.name != target and not one.commits]
        if not failed:
            raise DeployError(
                [
                    HostError(
                        name, _STEP, "not removed: it is the only member", remedy="`tercet deploy destroy` ends the cluster"
                    )
                ]
            )
        text = "; ".join(failed)
        raise DeployError([_refused(name, f"not removed: {text}. The members that remain must have a majority that commits")])

    async def _check_release(self, seen: HostSurvey) -> None:
        """A member of an older minor version than all others refuses to join. Raises DeployError."""
        running = [answer.version for answer in (await self.members.answers()).values() if answer.version]
        release = seen.artifact.version if seen.artifact.engine == "etcd" else ETCD_VERSION
        if running and all(is_older_minor(release, version) for version in running):
            text = f"not added: the cluster file has etcd {release}, and the members run {', '.join(sorted(set(running)))}"
            remedy = "set engine.source to the release that the members run"
            raise DeployError([HostError(seen.desired.host.name, _STEP, text, remedy=remedy)])

    async def _check_space(self, name: str, facts: HostFacts | None) -> None:
        """The host gets all data, beside that of an earlier member, which is kept. Raises DeployError."""
        sizes = [answer.db_size for answer in (await self.members.answers()).values()]
        data, needed = self.cluster.paths.data, max(sizes) + _SPARE_BYTES
        free = facts.disk_free.get(data, needed) if facts is not None else needed
        if free < needed:
            text = f"not added: {free >> 20} MiB free for {data}, {needed >> 20} MiB needed for the database"
            remedy = "free space on its disk; `tercet deploy defrag` shrinks the database"
            raise DeployError([HostError(name, _STEP, text, remedy=remedy)])

    # Steps.

    async def _joining(
        self,
        spec: HostSpec,
        listed: Sequence[rpc_pb2.Member],
        member: rpc_pb2.Member | None,
        *,
        removal: tuple[Step, ...] = (),
    ) -> Plan:
        """Prepare the host, add it unless `member` is there, start it, promote it. listed: without a removed member.

        removal: stops and removes the earlier member of this host. What takes long or may fail without it comes before.
        """
        name, url = spec.name, self.cluster.peer_url(spec)
        voters = await self._voters(listed)
        if not may_add(voters):
            failed = "; ".join(f"{one.name} is not healthy: {one.error}" for one in voters if not one.commits)
            raise DeployError([_refused(name, f"not added: {failed}. One more member would raise the majority")])
        certificates = inspect(self.cluster, now=self.now)
        require_one_ca(certificates)
        examined = await examine(self.cluster, {name: self.hosts[name]})
        require_no_errors(examined.findings)
        here = {name: self.hosts[name]}
        seen = (await survey(self.cluster, here, certificates, examined.facts, self.on_event))[name]
        await self._check_release(seen)
        is_started = member is not None and bool(member.name)
        if not is_started:
            await self._check_space(name, examined.facts.get(name))
        facts = seen.facts if is_started else _without_data(self.cluster, seen.facts)
        joins = initial_cluster(self.cluster, [*listed, *([] if member else [rpc_pb2.Member(name=name, peerURLs=[url])])])
        host, wish, artifact = self.hosts[name], seen.desired, seen.artifact
        first: tuple[Part, ...] = ("copy",) if removal else ()
        copy = host_steps(self.cluster, host, seen.facts, wish, artifact, parts=first)
        parts = [part for part in PARTS if part not in first]
        change = host_steps(self.cluster, host, facts, wish, artifact, joins=joins, parts=parts)
        aside = () if is_started else tuple(self._data_aside(name, seen.facts, is_stopped=bool(removal)))
        phases = (
            Phase("certificates", certificate_steps(self.cluster, _of_host(certificates, name))),
            Phase("copy", copy.steps),
            Phase("remove", removal),
            Phase("prepare", (*aside, *readmission(self.members.left_behind, host), *change.steps)),
            Phase("membership", (self._step(name, "add as learner", self._addition(url)),) if member is None else ()),
            Phase("start", () if is_started and change.is_running else (start_step(self.cluster, self.hosts[name]),)),
            Phase("promote", (self._step(name, "promote", self._promotion(url)),)),
            health_phase(self.cluster, self.members, [name]),
        )
        return Plan(tuple(phase for phase in phases if phase.steps))

    async def _has_service(self, name: str) -> bool:
        if name not in self.hosts:
            return False
        state = await unit_state(self.hosts[name], f"{self.cluster.service.unit}.service")
        return state.is_enabled or state.active not in ("inactive", "failed", "")

    def _stop(self, name: str) -> Step:
        unit = f"{self.cluster.service.unit}.service"

        async def work(_progress: Progress) -> str:
            return await stop(self.hosts[name], unit) or "stopped"

        return Step(name, f"stop and disable {unit}", work)

    def _data_aside(self, name: str, facts: HostFacts, *, is_stopped: bool) -> Iterator[Step]:
        """A member that joins must start empty: data of an earlier member would break that member's votes."""
        paths = self.cluster.paths
        if not has_data(self.cluster, facts) and facts.unit.active in ("inactive", ""):
            return
        if facts.unit.active not in ("inactive", "") and not is_stopped:
            yield self._stop(name)
        suffix = f"{self.now:%Y%m%dT%H%M%SZ}"
        moves = [(f"{paths.data}/member", f"{paths.data}/replaced-{suffix}")]
        if paths.wal is not None:
            moves.append((paths.wal, f"{paths.wal}.replaced-{suffix}"))
        command = " && ".join(
            f"if [ -e {shlex.quote(old)} ]; then mv -T {shlex.quote(old)} {shlex.quote(new)}; fi" for old, new in moves
        )
        title = "move the earlier data aside"

        async def work(_progress: Progress) -> str:
            await self.hosts[name].check(command, step=title)
            return ""

        yield Step(name, title, work, f"{paths.data}/member, if there is one")

    def _removal(self, name: str, member: rpc_pb2.Member) -> Step:
        async def act(progress: Progress) -> str:
            await self._connected(lambda: changes.remove(self.members, member.ID), progress)
            return f"member {member.ID:x}"

        return self._step(None, f"remove {name} from the cluster", act, f"member {member.ID:x}, {', '.join(member.peerURLs)}")

    def _addition(self, url: str) -> Work:
        async def act(progress: Progress) -> str:
            return f"member {await self._connected(lambda: changes.add_learner(self.members, url), progress):x}"

        return act

    async def _connected(self, request: Callable[[], Awaitable[AnswerT]], progress: Progress) -> AnswerT:
        """The answer, once all members have been connected for five seconds; until then etcd refuses changes as unsafe."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                return await request()
            except StatusError as error:
                if changes.NOT_CONNECTED not in error.message or time.monotonic() > deadline:
                    raise
            progress(0, 0, "waiting until the members are connected")
            await asyncio.sleep(_POLL_SECONDS)

    def _promotion(self, url: str) -> Work:
        async def act(progress: Progress) -> str:
            deadline = time.monotonic() + _CATCH_UP_SECONDS
            while True:
                member = _with_url(await self._listed(), url)
                if member is None or not member.isLearner:
                    return UNCHANGED
                try:
                    await changes.promote(self.members, member.ID)
                except StatusError as error:
                    if changes.NOT_CAUGHT_UP not in error.message or time.monotonic() > deadline:
                        raise
                    progress(0, 0, "catching up")
                    await asyncio.sleep(_POLL_SECONDS)
                else:
                    return "caught up"

        return act

    def _step(self, host: str | None, title: str, act: Work, diff: str = "") -> Step:
        """A step whose refusal by the cluster is an error of this step."""

        async def work(progress: Progress) -> str:
            try:
                return await act(progress)
            except StatusError as error:
                remedy = "see `tercet deploy health`; rerun the command after fixing the cause"
                raise HostError(host or "cluster", title, error.message, remedy=remedy) from error

        return Step(host, title, work, diff)


def member_change(cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent) -> MemberChange:
    return MemberChange(cluster, hosts, members, on_event, datetime.now(UTC))


def _with_url(listed: Sequence[rpc_pb2.Member], url: str) -> rpc_pb2.Member | None:
    return next((member for member in listed if url in member.peerURLs), None)


def _called(listed: Sequence[rpc_pb2.Member], name: str) -> rpc_pb2.Member | None:
    """By name, or by id in hexadecimal for a member that has never started."""
    return next((member for member in listed if name in (member.name, f"{member.ID:x}")), None)


def _name(member: rpc_pb2.Member) -> str:
    return member.name or f"{member.ID:x}"


def _voting(listed: Sequence[rpc_pb2.Member]) -> list[rpc_pb2.Member]:
    return [member for member in listed if not member.isLearner]


def _without_data(cluster: Cluster, facts: HostFacts) -> HostFacts:
    """The host after its member has been stopped, and its data moved aside."""
    absent = {f"{cluster.paths.data}/member": FileFact(kind="absent")}
    if cluster.paths.wal is not None:
        absent[cluster.paths.wal] = FileFact(kind="absent")
    unit = replace(facts.unit, active="inactive", enabled=False)
    return replace(facts, files={**facts.files, **absent}, unit=unit)


def _of_host(certificates: Certificates, name: str) -> Certificates:
    """Without the pairs of other hosts, which are no members yet or are renewed by apply."""
    return replace(
        certificates,
        servers={name: certificates.servers[name]} if certificates.servers else {},
        peers={name: certificates.peers[name]} if certificates.peers else {},
    )


def _refused(name: str, text: str) -> HostError:
    return HostError(name, _STEP, text, remedy="see `tercet deploy health`, and repair or replace the failed member first")
