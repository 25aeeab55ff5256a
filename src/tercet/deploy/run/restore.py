"""`restore`: replace the data of the whole cluster by a snapshot.

    save a snapshot of what is there -> copy to all hosts -> unpack on all hosts
        -> stop all members -> exchange the data -> record who is left out -> start all -> health -> compare the members

The present cluster serves until every host has unpacked the snapshot. The restored one has a token of its own, so other cluster
and member IDs: a member that was not restored cannot join it. The data before is kept on each host, as `replaced-ID`.

`DATA/restore` on each host has the copy, the unpacked data and the record of the restore, which names its snapshot. It is
removed at the end. If the operator or a host fails, the same command continues from what it finds there; until then members are
stopped and disabled, also after a reboot, and other commands refuse to start them: some may have the old data.

Exchanging is a sequence of renames. The member's directory is put in place last, and its presence there, with none waiting in
`DATA/restore`, is the sign that this host is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.members import changes
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import unit_state
from tercet.deploy.plan.desired import restore_record_path
from tercet.deploy.plan.plan import Phase, Plan, Step
from tercet.deploy.release.release import offline_tool
from tercet.deploy.run.apply import start_step
from tercet.deploy.run.backup import backup_of
from tercet.deploy.run.compare import compare_phase
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.fencing import readmission, recording
from tercet.deploy.run.restore_steps import Record, RestoreSteps, Source
from tercet.deploy.run.rolling import health_phase
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import StatusError

_SPARE_BYTES = 128 << 20  # for the log of the restored member, and of the present one meanwhile
_RUNS = ("active", "reloading", "activating", "deactivating")


@dataclass(frozen=True)
class Restore:
    """Makes the plan. hosts: the members of the restored cluster. others: reachable hosts of the file that are left out.

    work: local directory for the copy that is uploaded. backups: local directory of the snapshot that is taken before; None:
    none is taken. now: names a new restore.
    """

    cluster: Cluster
    hosts: Mapping[str, Host]
    others: Mapping[str, Host]
    members: Members
    source: Source
    work: Path
    backups: Path | None
    now: datetime

    async def plan(self) -> Plan:
        """The rest of the restore. Raises DeployError if a host has no release."""
        facts = dict(zip(self.hosts, await asyncio.gather(*map(self._gather, self.hosts.values())), strict=True))
        if any(seen.files[self.steps.complete].exists for seen in facts.values()):
            rest = [name for name, seen in facts.items() if self._record_on(seen)]
            return Plan((Phase("finish", tuple(map(self.steps.finishing, rest))),))
        self._require_releases(facts)
        await self._require_others_down()
        record = self._record_of_interrupted(facts) or await self._new_record()
        has_begun = {name for name, seen in facts.items() if self._record_on(seen) == record}
        pending = [name for name, seen in facts.items() if not (name in has_begun and self._is_exchanged(seen))]
        self._require_space({name: facts[name] for name in pending}, has_begun)
        saved, notes = await self._backup(record, is_resumed=bool(has_begun))
        phases = [
            *saved,
            *self._copies(facts, record, has_begun, pending),
            *self._exchanges(facts, record, pending),
            compare_phase(self.members, list(facts)),
            Phase("complete", tuple(map(self.steps.completing, facts))),
            Phase("finish", tuple(map(self.steps.finishing, facts))),
        ]
        return Plan(tuple(phase for phase in phases if phase.steps), (*notes, *self._notes(record, facts)))

    def _copies(
        self, facts: Mapping[str, HostFacts], record: Record, has_begun: Collection[str], pending: Collection[str]
    ) -> list[Phase]:
        """Until every host has unpacked the snapshot; the present cluster serves meanwhile."""
        missing = [name for name in pending if not (name in has_begun and facts[name].files[self.steps.copy].exists)]
        return [
            Phase("prepare", (self.steps.preparation(record),) if missing and self.source.bump else ()),
            Phase("begin", tuple(self.steps.beginning(name, record) for name in facts if name not in has_begun)),
            Phase("copy", tuple(map(self.steps.copying, missing))),
            Phase("unpack", tuple(self.steps.unpacking(name, record) for name in pending)),
        ]

    def _exchanges(self, facts: Mapping[str, HostFacts], record: Record, pending: Collection[str]) -> list[Phase]:
        """Until the members serve the restored data. Those that were started before an interruption are left alone."""
        up = [name for name, seen in facts.items() if seen.unit.active in _RUNS]
        running = [name for name in pending if name in up or facts[name].unit.enabled]
        starting = [name for name in facts if name in pending or name not in up]
        return [
            Phase("stop", tuple(map(self.steps.stopping, running))),
            Phase("exchange", tuple(self.steps.exchange(name, record) for name in pending)),
            Phase("record", (*self._recording(record, facts), *self._readmissions(facts))),
            Phase("enable", tuple(map(self.steps.enabling, facts))),
            Phase("start", tuple(start_step(self.cluster, self.hosts[name]) for name in starting)),
            health_phase(self.cluster, self.members, list(facts), allows_alarms=True),  # those of the snapshot are part of it
        ]

    def _recording(self, record: Record, facts: Collection[str]) -> tuple[Step, ...]:
        left = [spec for spec in self.cluster.hosts if spec.name not in facts]
        return recording(self.members.left_behind, left, "restore", record.id)

    def _readmissions(self, facts: Collection[str]) -> Iterator[Step]:
        for name in facts:
            yield from readmission(self.members.left_behind, self.hosts[name])

    @property
    def steps(self) -> RestoreSteps:
        return RestoreSteps(self.cluster, self.hosts, self.source, self.work)

    # What is there.

    async def _gather(self, host: Host) -> HostFacts:
        record, steps, paths = restore_record_path(self.cluster), self.steps, self.cluster.paths
        tool = offline_tool(self.cluster.engine.kind, paths.install)
        unpacked = (steps.unpacked, f"{steps.unpacked}/member")
        wanted = (record, steps.complete, steps.copy, *unpacked, f"{paths.data}/member", tool)
        return await gather(host, Wanted(paths=wanted, contents=(record,), unit=self.cluster.service.unit, disks=(paths.data,)))

    def _require_releases(self, facts: Mapping[str, HostFacts]) -> None:
        tool = offline_tool(self.cluster.engine.kind, self.cluster.paths.install)
        missing = [name for name, seen in facts.items() if not seen.files[tool].exists]
        if missing:
            remedy = "run `tercet deploy apply` first; snapshots of etcd are restored by releases since 3.5"
            raise DeployError([HostError(name, "plan", f"{tool} does not exist", remedy=remedy) for name in missing])

    def _require_space(self, pending: Mapping[str, HostFacts], has_begun: Collection[str]) -> None:
        """Raises DeployError for hosts whose disk would be filled: under a member that still serves."""
        size, data, errors = self.source.snapshot.size, self.cluster.paths.data, []
        for name, seen in pending.items():
            there = name in has_begun and seen.files[self.steps.copy].exists, seen.files[self.steps.unpacked].exists
            needed, free = size * (2 - sum(there)) + _SPARE_BYTES, seen.disk_free[data]
            if not all(there) and free < needed:
                text = f"{free >> 20} MiB free for {data}, {needed >> 20} MiB needed for the copy and what is unpacked from it"
                errors.append(HostError(name, "plan", text, remedy="free space on its disk"))
        if errors:
            raise DeployError(errors)

    async def _require_others_down(self) -> None:
        """Raises DeployError if a member that is left out runs: the cluster before could go on beside the restored one."""
        unit = f"{self.cluster.service.unit}.service"
        states = await asyncio.gather(*(unit_state(host, unit) for host in self.others.values()))
        running = [name for name, state in zip(self.others, states, strict=True) if state.active in _RUNS]
        if running:
            remedy = f"restore on all hosts, or stop it: systemctl disable --now {unit}"
            text = f"{unit} runs, but this host is left out of the restore"
            raise DeployError([HostError(name, "plan", text, remedy=remedy) for name in running])

    def _record_on(self, facts: HostFacts) -> Record | None:
        return Record.from_json(facts.files[restore_record_path(self.cluster)].content or "")

    def _record_of_interrupted(self, facts: Mapping[str, HostFacts]) -> Record | None:
        """Of a restore of the same snapshot on the same hosts.

        A host that has lost its data after others were started cannot continue under the same IDs: it may have voted.
        """
        done = [self._record_on(seen) is not None and self._is_exchanged(seen) for seen in facts.values()]
        is_started = any(one and seen.unit.enabled for one, seen in zip(done, facts.values(), strict=True))
        for seen in facts.values() if all(done) or not is_started else ():
            found = self._record_on(seen)
            if found and (found.sha256, found.bump, set(found.hosts)) == (self.source.sha256, self.source.bump, set(facts)):
                return found
        return None

    async def _new_record(self) -> Record:
        source, present = self.source, 0
        with contextlib.suppress(StatusError, HostError):  # no member answers: only the snapshot's revision is known
            present = await changes.current_revision(self.members)
        revision = max(source.revision, present) + source.bump if source.bump else 0
        return Record(f"{self.now:%Y%m%dT%H%M%SZ}", source.sha256, source.bump, tuple(self.hosts), revision)

    def _is_exchanged(self, facts: HostFacts) -> bool:
        """Whether the unpacked data is in its place, and no longer waiting."""
        waits, copied = facts.files[f"{self.steps.unpacked}/member"].exists, facts.files[self.steps.copy].exists
        unpacked = facts.files[self.steps.unpacked].exists
        return copied and unpacked and not waits and facts.files[f"{self.cluster.paths.data}/member"].exists

    async def _backup(self, record: Record, *, is_resumed: bool) -> tuple[tuple[Phase, ...], list[str]]:
        """The snapshot of what is there, before the first change; it cannot be taken if nothing commits."""
        if self.backups is None or is_resumed:
            return (), []
        name = f"before-restore-{record.id}"
        backup = backup_of(self.cluster, self.members, self.backups, self.now, name=name)
        try:
            return (await backup.plan()).phases, []
        except DeployError:
            return (), ["no member commits, so no snapshot of the present data is saved; its files are kept on the hosts"]

    def _notes(self, record: Record, facts: Mapping[str, HostFacts]) -> list[str]:
        found = []
        if any(seen.files[f"{self.cluster.paths.data}/member"].exists for seen in facts.values()):
            found.append(
                f"every key and value of the cluster is replaced by those of {self.source.shown}; the data before is "
                f"kept on the hosts, as {self.cluster.paths.data}/replaced-{record.id}"
            )
        if any(self._record_on(seen) not in (None, record) for seen in facts.values()):
            found.append("an unfinished restore of another snapshot or on other hosts is replaced by this one")
        others = [spec.name for spec in self.cluster.hosts if spec.name not in facts]
        found += [f"{name} will not be a member of the restored cluster; add it with `member add {name}`" for name in others]
        if not self.source.bump:
            found.append("the revision goes back: clients that watch or cache keys must be restarted")
        return found


def restore(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    others: Mapping[str, Host],
    members: Members,
    source: Source,
    *,
    work: Path,
    backups: Path | None,
) -> Restore:
    return Restore(cluster, hosts, others, members, source, work, backups, datetime.now(UTC))
