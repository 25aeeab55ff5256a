"""`defrag` and `compact`: free space in the members' databases, and disarm the alarm that stopped writes.

    compact   the revisions before the last KEEP -> disarm
    defrag    by need, followers first, the leader last, each while a majority commits without it -> disarm

Compaction frees pages inside the database file, defragmentation shrinks the file; the quota is compared with the file. A
NOSPACE alarm is disarmed only if every member is below its quota: otherwise the next write would raise it again. So `compact`
leaves it to the `defrag` after it, unless there is room already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members import changes
from tercet.deploy.members.members import MemberAnswer, Members
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step, Work
from tercet.deploy.run.executor import UNCHANGED, DeployError
from tercet.deploy.run.rolling import in_order, wait_allowed, wait_committing
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

FREE_SHARE_MIN = 0.25
_FREE_BYTES_MIN = 8 << 20
_ROOM_SHARE = 0.95  # of the quota: a member just below it would raise the alarm again at once
_NAMES: Mapping[int, str] = {rpc_pb2.NOSPACE: "NOSPACE", rpc_pb2.CORRUPT: "CORRUPT"}


def alarm_name(alarm: int) -> str:
    return _NAMES.get(alarm, str(alarm))


@dataclass(frozen=True)
class Space:
    """Makes the plans."""

    cluster: Cluster
    members: Members

    async def defrag(self, names: Collection[str], *, every: bool) -> Plan:
        """names: of these members, or of all. every: also of members with little free space. Empty if there is no need.

        Raises DeployError if none of them answers.
        """
        answers, health = await self.members.answers(), await self.members.health()
        chosen = [spec.name for spec in self.cluster.hosts if not names or spec.name in names]
        stopped = any(alarm.alarm == rpc_pb2.NOSPACE for alarm in await self.members.alarms())
        needy = [
            name
            for name in chosen
            if every or is_worthwhile(answers[name]) or (stopped and self._is_full(answers[name]))  # any space counts then
        ]
        steps = tuple(
            self._step(name, "defragment", self._defragment(name))
            for name in in_order(needy, health, answers)
            if answers[name].member_id
        )
        silent = tuple(f"{name} does not answer: {answers[name].error}" for name in chosen if not answers[name].member_id)
        if len(silent) == len(chosen):
            raise DeployError([_silent(answers[name]) for name in chosen])
        phases = [Phase("defragment", steps, one_at_a_time=True), await self._disarming("defrag" if steps else "")]
        sizes = tuple(f"{name}: {_sizes(answers[name])}" for name in needy if answers[name].member_id)
        return Plan(tuple(phase for phase in phases if phase.steps), (*sizes, *silent))

    async def compact(self, keep: int) -> Plan:
        """Keep the last `keep` revisions."""
        try:
            current = await changes.current_revision(self.members)
        except StatusError as error:
            raise _failed("cluster", "compact", error) from error
        revision = current - keep
        if revision < 1:
            return Plan()

        async def act(_progress: Progress) -> str:
            try:
                await changes.compact(self.members, revision)
            except StatusError as error:
                if "required revision has been compacted" in error.message:
                    return UNCHANGED
                raise
            return ""

        # The current revision is not part of the plan: under writes it is another one a moment later.
        step = self._step(
            None, "compact", act, f"keep the last {keep} revisions; older versions can no longer be read or watched"
        )
        phases = [Phase("compact", (step,)), await self._disarming("compact")]
        note = "the files keep their size: `tercet deploy defrag` shrinks them"
        return Plan(tuple(phase for phase in phases if phase.steps), (note,))

    async def _disarming(self, work: Literal["defrag", "compact", ""]) -> Phase:
        """work: what the plan does before; without it only an alarm that has room already is disarmed."""
        raised = [alarm for alarm in await self.members.alarms() if alarm.alarm == rpc_pb2.NOSPACE]
        if not raised or not (work or not await self._full()):
            return Phase("alarms", ())

        async def act(_progress: Progress) -> str:
            full = ", ".join(await self._full())
            if full and work == "compact":
                return f"not yet: {full}; `tercet deploy defrag` shrinks the files, then disarms"
            if full:
                text = f"not disarmed: {full}. Delete keys and compact, or raise quota_backend_bytes, then rerun"
                raise HostError("cluster", "disarm NOSPACE", text)
            for alarm in raised:
                await changes.disarm(self.members, alarm)
            return f"{len(raised)} disarmed"

        return Phase("alarms", (self._step(None, "disarm NOSPACE", act, "writes are accepted again"),))

    async def _full(self) -> list[str]:
        """Members without room."""
        found = []
        for name, answer in (await self.members.answers()).items():
            if self._is_full(answer):
                found.append(f"{name} uses {answer.db_size} of {self._quota(answer)} bytes")
        return found

    def _is_full(self, answer: MemberAnswer) -> bool:
        return bool(answer.member_id) and answer.db_size >= self._quota(answer) * _ROOM_SHARE

    def _quota(self, answer: MemberAnswer) -> int:
        return answer.quota or self.cluster.quota_backend_bytes

    def _defragment(self, name: str) -> Work:
        async def act(_progress: Progress) -> str:
            before = (await self.members.answer_of(name)).db_size
            await wait_allowed(self.members, name, "majority", "defragmented")
            await changes.defragment(self.members, name)
            spec, patience = self.cluster.host(name), self.cluster.service.start_timeout_seconds
            await wait_committing(self.members, spec, patience, "defragment")
            after = (await self.members.answer_of(name)).db_size
            return f"{_mib(before)} -> {_mib(after)}"

        return act

    def _step(self, host: str | None, title: str, act: Work, diff: str = "") -> Step:
        async def work(progress: Progress) -> str:
            try:
                return await act(progress)
            except StatusError as error:
                raise _failed(host or "cluster", title, error) from error

        return Step(host, title, work, diff)


def is_worthwhile(answer: MemberAnswer) -> bool:
    """Whether a quarter of the file, and at least 8 MiB, is free."""
    free = answer.db_size - answer.db_size_in_use
    return answer.member_id != 0 and free >= _FREE_BYTES_MIN and free >= answer.db_size * FREE_SHARE_MIN


def alarms_of(raised: Collection[rpc_pb2.AlarmMember], ids: Mapping[str, int]) -> dict[str, tuple[str, ...]]:
    """Names of the raised alarms, by member. ids: by member, 0 if unknown."""
    return {
        name: tuple(sorted(alarm_name(alarm.alarm) for alarm in raised if alarm.memberID == member_id))
        for name, member_id in ids.items()
    }


def _silent(answer: MemberAnswer) -> HostError:
    remedy = f"see `tercet deploy logs {answer.name}`"
    return HostError(answer.name, "defragment", f"the member does not answer: {answer.error}", remedy=remedy)


def _sizes(answer: MemberAnswer) -> str:
    """A note, not part of a step: under writes it is different a moment later, and the plan would be stale."""
    return f"about {_mib(answer.db_size - answer.db_size_in_use)} of {_mib(answer.db_size)} are free"


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"


def _failed(host: str, step: str, error: StatusError) -> HostError:
    return HostError(host, step, error.message, remedy="see `tercet deploy health`; rerun the command after fixing the cause")
