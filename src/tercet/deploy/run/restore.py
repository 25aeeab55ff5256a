"""`restore`: replace the data of the whole cluster by a snapshot.

    save a snapshot of what is there -> copy to all hosts -> unpack on all hosts
        -> stop all members -> exchange the data -> start all -> health -> compare the members

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
import hashlib
import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import HostFacts, Wanted, gather
from tercet.deploy.members import changes
from tercet.deploy.members.bumped_snapshot import newest_revision, write_bumped
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import stop, unit_state
from tercet.deploy.members.snapshot import Snapshot, read
from tercet.deploy.plan.desired import restore_record_path
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.release.release import offline_tool
from tercet.deploy.run.apply import start_step
from tercet.deploy.run.backup import Backup
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.rolling import health_phase
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

REVISIONS_BUMPED = 1_000_000_000
"""More than any cluster writes between two backups."""
_UNPACK_SECONDS = 3600.0
_EXCHANGE_SECONDS = 300.0
_RUNS = ("active", "reloading", "activating", "deactivating")


@dataclass(frozen=True)
class Source:
    """A verified snapshot to restore. revision: its newest. sha256: of the whole file. bump: revisions to add; 0: none."""

    snapshot: Snapshot
    revision: int
    sha256: str
    bump: int
    has_digest: bool


@dataclass(frozen=True)
class Record:
    """A restore that has begun, as recorded on each host. id: time of its start, part of file names and of the token.

    revision: of the restored cluster, above that of the snapshot and of the present cluster; 0: that of the snapshot.
    """

    id: str
    sha256: str
    bump: int
    hosts: tuple[str, ...]
    revision: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, text: str) -> Record | None:
        """None for a damaged record."""
        try:
            content = json.loads(text)
            hosts = tuple(map(str, content["hosts"]))
            return cls(str(content["id"]), str(content["sha256"]), int(content["bump"]), hosts, int(content["revision"]))
        except (ValueError, KeyError, TypeError):
            return None


def read_source(path: Path, *, bump: int, skip_hash_check: bool) -> Source:
    """Verify the snapshot. Raises ConfigError."""
    snapshot = read(path, skip_hash_check=skip_hash_check)
    with path.open("rb") as file:
        return Source(
            snapshot, newest_revision(path), hashlib.file_digest(file, "sha256").hexdigest(), bump, not skip_hash_check
        )


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
        if any(seen.files[self._complete].exists for seen in facts.values()):
            rest = [name for name, seen in facts.items() if self._record_on(seen)]
            return Plan((Phase("finish", tuple(map(self._finishing, rest))),))
        self._require_releases(facts)
        await self._require_others_down()
        record = self._record_of_interrupted(facts) or await self._new_record()
        has_begun = {name for name, seen in facts.items() if self._record_on(seen) == record}
        pending = [name for name, seen in facts.items() if not (name in has_begun and self._is_exchanged(seen))]
        saved, notes = await self._backup(record, is_resumed=bool(has_begun))
        phases = [
            *saved,
            *self._copies(facts, record, has_begun, pending),
            *self._exchanges(facts, record, pending),
            Phase("compare", (Step(None, "compare the members", self._compare),)),
            Phase("complete", tuple(map(self._completing, facts))),
            Phase("finish", tuple(map(self._finishing, facts))),
        ]
        return Plan(tuple(phase for phase in phases if phase.steps), (*notes, *self._notes(record, facts)))

    def _copies(
        self, facts: Mapping[str, HostFacts], record: Record, has_begun: Collection[str], pending: Collection[str]
    ) -> list[Phase]:
        """Until every host has unpacked the snapshot; the present cluster serves meanwhile."""
        missing = [name for name in pending if not (name in has_begun and facts[name].files[self._copy].exists)]
        return [
            Phase("prepare", (self._preparation(record),) if missing and self.source.bump else ()),
            Phase("begin", tuple(self._beginning(name, record) for name in facts if name not in has_begun)),
            Phase("copy", tuple(map(self._copying, missing))),
            Phase("unpack", tuple(self._unpacking(name, record) for name in pending)),
        ]

    def _exchanges(self, facts: Mapping[str, HostFacts], record: Record, pending: Collection[str]) -> list[Phase]:
        """Until the members serve the restored data. Those that were started before an interruption are left alone."""
        up = [name for name, seen in facts.items() if seen.unit.active in _RUNS]
        running = [name for name in pending if name in up or facts[name].unit.enabled]
        starting = [name for name in facts if name in pending or name not in up]
        return [
            Phase("stop", tuple(map(self._stopping, running))),
            Phase("exchange", tuple(self._exchange(name, record) for name in pending)),
            Phase("enable", tuple(map(self._enabling, facts))),
            Phase("start", tuple(start_step(self.cluster, self.hosts[name]) for name in starting)),
            health_phase(self.cluster, self.members, list(facts)),
        ]

    # What is there.

    @property
    def _directory(self) -> str:
        return restore_record_path(self.cluster).rpartition("/")[0]

    @property
    def _copy(self) -> str:
        return f"{self._directory}/snapshot.db"

    @property
    def _complete(self) -> str:
        """Exists from the moment when every member serves the restored data."""
        return f"{self._directory}/complete"

    @property
    def _unpacked(self) -> str:
        return f"{self._directory}/new"

    async def _gather(self, host: Host) -> HostFacts:
        record, paths = restore_record_path(self.cluster), self.cluster.paths
        tool = offline_tool(self.cluster.engine.kind, paths.install)
        wanted = (record, self._complete, self._copy, self._unpacked, f"{self._unpacked}/member", f"{paths.data}/member", tool)
        return await gather(host, Wanted(paths=wanted, contents=(record,), unit=self.cluster.service.unit))

    def _require_releases(self, facts: Mapping[str, HostFacts]) -> None:
        tool = offline_tool(self.cluster.engine.kind, self.cluster.paths.install)
        missing = [name for name, seen in facts.items() if not seen.files[tool].exists]
        if missing:
            remedy = "run `tercet deploy apply` first; snapshots of etcd are restored by releases since 3.5"
            raise DeployError([HostError(name, "plan", f"{tool} does not exist", remedy=remedy) for name in missing])

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
        waits, copied = facts.files[f"{self._unpacked}/member"].exists, facts.files[self._copy].exists
        unpacked = facts.files[self._unpacked].exists
        return copied and unpacked and not waits and facts.files[f"{self.cluster.paths.data}/member"].exists

    async def _backup(self, record: Record, *, is_resumed: bool) -> tuple[tuple[Phase, ...], list[str]]:
        """The snapshot of what is there, before the first change; it cannot be taken if nothing commits."""
        if self.backups is None or is_resumed:
            return (), []
        backup = Backup(self.cluster, self.members, self.backups, self.now, name=f"before-restore-{record.id}")
        try:
            return (await backup.plan()).phases, []
        except DeployError:
            return (), ["no member commits, so no snapshot of the present data is saved; its files are kept on the hosts"]

    def _notes(self, record: Record, facts: Mapping[str, HostFacts]) -> list[str]:
        found = []
        if any(seen.files[f"{self.cluster.paths.data}/member"].exists for seen in facts.values()):
            found.append(
                f"every key and value of the cluster is replaced by those of {self.source.snapshot.path}; the data before is "
                f"kept on the hosts, as {self.cluster.paths.data}/replaced-{record.id}"
            )
        if any(self._record_on(seen) not in (None, record) for seen in facts.values()):
            found.append("an unfinished restore of another snapshot or on other hosts is replaced by this one")
        others = [spec.name for spec in self.cluster.hosts if spec.name not in facts]
        found += [f"{name} will not be a member of the restored cluster; add it with `member add {name}`" for name in others]
        if not self.source.bump:
            found.append("the revision goes back: clients that watch or cache keys must be restarted")
        return found

    # Steps.

    def _preparation(self, record: Record) -> Step:
        async def work(_progress: Progress) -> str:
            path = self.source.snapshot.path
            await asyncio.to_thread(write_bumped, path, self.work / "snapshot.db", record.revision)
            return f"revision {self.source.revision} -> {record.revision}, all before it compacted"

        return Step(None, "prepare the snapshot", work, f"revision + {self.source.bump}, all before it compacted")

    def _beginning(self, name: str, record: Record) -> Step:
        user, group = self.cluster.service.user, self.cluster.service.group
        directory = shlex.quote(self._directory)
        title = "record the restore"

        async def work(_progress: Progress) -> str:
            host = self.hosts[name]
            make = f"rm -rf -- {directory} && install -d -m 0700 -o {user} -g {group} {directory}"
            await host.check(make, step=title, timeout=_EXCHANGE_SECONDS)
            await host.write(restore_record_path(self.cluster), record.to_json(), mode=0o600, step=title)
            return ""

        return Step(name, title, work, restore_record_path(self.cluster))

    def _copying(self, name: str) -> Step:
        local = self.work / "snapshot.db" if self.source.bump else self.source.snapshot.path
        title = "copy the snapshot"

        async def work(progress: Progress) -> str:
            await self.hosts[name].upload(local, self._copy, mode=0o600, step=title, progress=progress)
            return ""

        return Step(name, title, work, f"{max(1, self.source.snapshot.size >> 20)} MiB")

    def _unpacking(self, name: str, record: Record) -> Step:
        return self._command(name, "unpack the snapshot", self._unpack_command(name, record), timeout=_UNPACK_SECONDS)

    def _unpack_command(self, name: str, record: Record) -> str:
        cluster, spec = self.cluster, self.cluster.host(name)
        new, part, wal = self._unpacked, f"{self._unpacked}.partial", self._new_wal
        members = ",".join(f"{one}={cluster.peer_url(cluster.host(one))}" for one in record.hosts)
        options = {
            "name": name,
            "data-dir": part,
            "initial-cluster": members,
            "initial-cluster-token": f"{cluster.token}-restored-{record.id}",
            "initial-advertise-peer-urls": cluster.peer_url(spec),
        }
        if wal:
            options["wal-dir"] = wal
        flags = [f"--{option}={value}" for option, value in options.items()]
        if not (self.source.bump or self.source.has_digest):
            flags.append("--skip-hash-check=true")
        tool = offline_tool(cluster.engine.kind, cluster.paths.install)
        restore = shlex.join([tool, "snapshot", "restore", self._copy, *flags])
        made = " ".join(map(shlex.quote, [part, *([wal] if wal else [])]))
        owner = f"{cluster.service.user}:{cluster.service.group}"
        return (
            f"if [ -d {shlex.quote(new)} ]; then exit 0; fi; umask 077; rm -rf -- {made} && {restore} >&2 && "
            f"chown -R {owner} -- {made} && sync && mv -T {shlex.quote(part)} {shlex.quote(new)}"
        )

    @property
    def _new_wal(self) -> str:
        """The unpacked log, beside its place, if that is not in the data directory."""
        return f"{self.cluster.paths.wal}.restoring" if self.cluster.paths.wal else ""

    def _stopping(self, name: str) -> Step:
        unit = f"{self.cluster.service.unit}.service"

        async def work(_progress: Progress) -> str:
            return await stop(self.hosts[name], unit) or "stopped"

        return Step(name, f"stop and disable {unit}", work, "until the restore is complete")

    def _exchange(self, name: str, record: Record) -> Step:
        """Renames only; each is skipped if it was done before an interruption."""
        data, kept = f"{self.cluster.paths.data}/member", f"{self.cluster.paths.data}/replaced-{record.id}"
        commands = [_move_if_there(data, kept)]
        if wal := self.cluster.paths.wal:
            aside = _move_if_there(wal, f"{wal}.replaced-{record.id}")
            new = shlex.quote(self._new_wal)
            commands.append(f"if [ -e {new} ]; then {aside} && mv -T {new} {shlex.quote(wal)}; fi")
        waiting = shlex.quote(f"{self._unpacked}/member")
        commands += ["sync", f"mv -T {waiting} {shlex.quote(data)}", "sync"]
        command = f"if [ -e {waiting} ]; then {' && '.join(commands)}; fi"
        return self._command(name, "exchange the data", command, f"{data} -> {kept}", timeout=_EXCHANGE_SECONDS)

    def _enabling(self, name: str) -> Step:
        unit = f"{self.cluster.service.unit}.service"
        return self._command(name, f"enable {unit}", f"systemctl enable {shlex.quote(unit)} 2>&1")

    def _completing(self, name: str) -> Step:
        """Before any record is removed: a host without one would be restored again, under a member that has voted."""
        return self._command(name, "mark as complete", f"touch -- {shlex.quote(self._complete)} && sync")

    def _finishing(self, name: str) -> Step:
        title = "remove the record and the copy"
        return self._command(name, title, f"rm -rf -- {shlex.quote(self._directory)}", timeout=_EXCHANGE_SECONDS)

    def _command(self, name: str, title: str, command: str, diff: str = "", *, timeout: float = 60) -> Step:
        async def work(_progress: Progress) -> str:
            await self.hosts[name].check(command, step=title, timeout=timeout)
            return ""

        return Step(name, title, work, diff)

    async def _compare(self, _progress: Progress) -> str:
        """All members must have the same data: at their newest revision, or below if clients write meanwhile."""
        try:
            found = await self._hashes(0)
            revision = min(one.header.revision for one in found.values())
            if revision > max(one.compact_revision for one in found.values()):
                found = await self._hashes(revision)
        except StatusError as error:
            raise HostError("cluster", "compare", error.message, remedy="rerun the command") from error
        first, *others = found
        for other in others:
            if (found[other].hash, found[other].compact_revision) != (found[first].hash, found[first].compact_revision):
                text = f"its data differs from that of {first} at revision {revision}"
                raise HostError(other, "compare", text, remedy="rerun the command; if it fails again, restore anew")
        return f"hash {found[first].hash:x} at revision {revision} on {len(found)} members"

    async def _hashes(self, revision: int) -> dict[str, rpc_pb2.HashKVResponse]:
        answers = await asyncio.gather(*(changes.hash_of(self.members, name, revision) for name in self.hosts))
        return dict(zip(self.hosts, answers, strict=True))


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


def _move_if_there(old: str, new: str) -> str:
    """A command of sh."""
    return f"if [ -e {shlex.quote(old)} ]; then mv -T {shlex.quote(old)} {shlex.quote(new)}; fi"
