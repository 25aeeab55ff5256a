"""`recover`: a cluster whose majority is lost for good continues from the survivor with the newest log.

    stop the survivors -> keep a copy of the newest one's files -> record the others as left behind
        -> restart it as the only member -> health -> add the other hosts, one at a time (`member_change`)

It is a last resort: writes that only lost members had are gone, although they were acknowledged. So it is refused while a
majority can come back: while enough members have their data, or are on hosts that are not reached and not named as lost.

The newest log is found on disk, since a member without a majority does not serve after a restart. tercet keeps every entry of
the log; etcd keeps those that it knows to be committed. Source: Raft §5.4.1; etcd, --force-new-cluster.

Hosts that are not reached keep members of the cluster before; `members.left_behind` says what follows.

The flag is for this start only: after a later one it would remove the members that were added. So it is in a file under /run,
which the unit itself removes when the member is ready, whatever has become of this process and its connection by then.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts import log_probe
from tercet.deploy.members.members import Members
from tercet.deploy.members.service import start, stop, unit_state
from tercet.deploy.plan.desired import MARKER_DIRECTORY
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.fencing import recording
from tercet.deploy.run.rolling import wait_committing
from tercet.deploy.run.survey import on_all
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host, last_lines
from tercet.errors import ConfigError

_COPY_SECONDS = 3600.0
_PROBE_SECONDS = 300.0


@dataclass(frozen=True)
class LogEnd:
    """The end of a member's log: term and index of its last entry, and the index that it knows to be committed."""

    term: int
    index: int
    commit: int

    @property
    def text(self) -> str:
        return f"log ends at entry {self.index} of term {self.term}, committed up to {self.commit}"


@dataclass(frozen=True)
class Recovery:
    """Makes the plan. hosts: the reached ones. lost: hosts that the operator knows not to come back. now: names the copy.

    forced: also while a majority could come back, and from a member that an earlier recovery left behind.
    """

    cluster: Cluster
    hosts: Mapping[str, Host]
    members: Members
    lost: frozenset[str]
    forced: bool
    now: datetime

    async def plan(self) -> Plan:
        """Empty if a majority commits. Raises ConfigError without a survivor, and while a majority can come back."""
        if any(one.commits for one in await self.members.health()):
            return Plan()
        candidates = {name: host for name, host in self.hosts.items() if name not in self._given_up}
        ends = {name: end for name, end in (await self._log_ends(candidates)).items() if end is not None}
        if not ends:
            raise ConfigError(f"{self.cluster.path}: {self._nothing_left()}")
        self._require_lost_majority(ends)
        newest = max(ends, key=lambda name: self._order(ends[name]))
        states = await asyncio.gather(*(unit_state(host, self._unit) for host in self.hosts.values()))
        installed = [name for name, state in zip(self.hosts, states, strict=True) if state.load != "not-found"]
        phases = (
            Phase("stop", tuple(map(self._stopping, installed))),  # also those that are down: they would start at the next boot
            Phase("keep", (self._copying(newest),)),
            Phase("record", self._recording(newest)),
            Phase("restart", (self._restarting(newest, ends[newest]),)),
        )
        return Plan(tuple(phase for phase in phases if phase.steps), self._notes(newest, ends))

    def _nothing_left(self) -> str:
        """Why there is no survivor: a snapshot is the way only if no other host may have one."""
        if absent := [spec.name for spec in self.cluster.hosts if spec.name not in (*self.hosts, *self._given_up)]:
            return (
                f"no reached host has data of a member. {', '.join(absent)}, not reached, may have: rerun when they are back; "
                "if they are lost for good, restore a snapshot"
            )
        return "no reached host has data of a member; restore a snapshot instead"

    # What is there.

    @property
    def _given_up(self) -> set[str]:
        """Hosts whose data is not that of the present cluster."""
        earlier = {spec.name for spec in self.cluster.hosts if self.members.left_behind.of(spec.name) is not None}
        return set(self.lost) if self.forced else {*self.lost, *earlier}

    @property
    def _unit(self) -> str:
        return f"{self.cluster.service.unit}.service"

    @property
    def _log(self) -> str:
        return self.cluster.paths.wal or f"{self.cluster.paths.data}/member/wal"

    async def _log_ends(self, hosts: Mapping[str, Host]) -> dict[str, LogEnd | None]:
        """None for a host without data. Raises DeployError for an unreadable log."""
        return await on_all(self.cluster, hosts, lambda spec: self._log_end(hosts[spec.name]))

    async def _log_end(self, host: Host) -> LogEnd | None:
        step, program = "read the log", inspect.getsource(log_probe)
        there = await host.check(f"if [ -d {shlex.quote(self._log)} ]; then echo there; fi", step=step)
        if not there.strip():
            return None
        done = await host.run_python(program, json.dumps(self._log).encode(), timeout=_PROBE_SECONDS, step=step)
        if done.exit_code:
            raise HostError(host.name, step, f"the probe failed:\n{last_lines(done.stderr)}")
        answer = json.loads(done.stdout)
        if "error" in answer:
            remedy = f"to continue without this member: --lost {host.name}"
            raise HostError(host.name, step, f"unreadable: {answer['error']}", remedy=remedy)
        return LogEnd(int(answer["term"]), int(answer["index"]), int(answer["commit"]))

    def _order(self, end: LogEnd) -> tuple[int, int, int]:
        """What survives the restart decides: tercet keeps the whole log, etcd its committed part."""
        if self.cluster.engine.kind == "tercet":
            return end.term, end.index, end.commit
        return end.commit, end.term, end.index

    def _require_lost_majority(self, ends: Mapping[str, LogEnd]) -> None:
        names = [spec.name for spec in self.cluster.hosts]
        unknown = [name for name in names if name not in self.hosts and name not in self._given_up]
        if self.forced or len(ends) + len(unknown) < self.cluster.quorum:
            return
        there = f"{', '.join(ends)} {'have their' if len(ends) > 1 else 'has its'} data"
        if len(ends) >= self.cluster.quorum:
            raise ConfigError(
                f"{self.cluster.path}: not recovered: {there}, a majority of {len(names)}: no write is lost if they start. "
                "Run `tercet deploy apply`, and see `tercet deploy logs` for why they do not commit; --force recovers anyway"
            )
        options = " ".join(f"--lost {name}" for name in unknown)
        raise ConfigError(
            f"{self.cluster.path}: not recovered: {there}, and {', '.join(unknown)} may come back, with which a majority "
            f"commits without loss. If they are lost for good: {options}"
        )

    def _notes(self, newest: str, ends: Mapping[str, LogEnd]) -> tuple[str, ...]:
        chosen = ends[newest]
        kept = chosen.index if self.cluster.engine.kind == "tercet" else chosen.commit
        notes = [f"{name}: {end.text}{' (the newest)' if name == newest else ''}" for name, end in ends.items()]
        notes.append(
            f"the cluster continues from entry {kept} of {newest}; writes after it that only other members had are lost, even "
            "though they were acknowledged"
        )
        if kept < chosen.index:
            notes.append(
                f"etcd drops entries {kept + 1} to {chosen.index} of {newest}, which may have been acknowledged as well"
            )
        others = [spec.name for spec in self.cluster.hosts if spec.name != newest]
        joining = [name for name in others if name in self.hosts]
        if joining:
            notes.append(f"then {', '.join(joining)} join again, one at a time; earlier data there is moved aside, and kept")
        absent = [name for name in others if name not in self.hosts]
        notes += [f"never start the earlier member of {name} again; add it with `member add {name}`" for name in absent]
        if len(absent) >= self.cluster.quorum:
            notes.append(
                f"{', '.join(absent)} are a majority of the cluster before, and cannot be fenced while they are not reached: "
                f"if they start where they do not reach {newest}, they acknowledge writes, which will be lost. Keep them off, "
                "or off the network, until they have joined again; the next command that reaches them stops them"
            )
        return tuple(notes)

    # Steps.

    def _recording(self, newest: str) -> tuple[Step, ...]:
        left = [spec for spec in self.cluster.hosts if spec.name != newest]
        return recording(self.members.left_behind, left, "recovery", f"{self.now:%Y%m%dT%H%M%SZ}")

    def _stopping(self, name: str) -> Step:
        async def work(_progress: Progress) -> str:
            return await stop(self.hosts[name], self._unit) or "stopped"

        return Step(name, f"stop and disable {self._unit}", work)

    def _copying(self, name: str) -> Step:
        suffix = f"before-recover-{self.now:%Y%m%dT%H%M%SZ}"
        data, wal = self.cluster.paths.data, self.cluster.paths.wal
        copies = [(f"{data}/member", f"{data}/{suffix}"), *([(wal, f"{wal}.{suffix}")] if wal else [])]
        commands = []
        for source, target in copies:
            old, part, new = map(shlex.quote, (source, f"{target}.partial", target))
            copy = f"cp -a --reflink=auto -- {old} {part} && sync && mv -T {part} {new}"
            commands.append(f"rm -rf -- {part} && {{ {copy} || {{ rm -rf -- {part}; exit 1; }}; }}")  # not on a full disk
        title = "keep a copy of the data"

        async def work(_progress: Progress) -> str:
            await self.hosts[name].check(" && ".join(commands), step=title, timeout=_COPY_SECONDS)
            return ""

        return Step(name, title, work, f"{data}/{suffix}")

    def _restarting(self, name: str, end: LogEnd) -> Step:
        title = "restart as the only member"
        directory = f"/run/systemd/system/{self._unit}.d"
        drop_in, flag = (
            f"{directory}/force-new-cluster.conf",
            f"{MARKER_DIRECTORY}/{self.cluster.service.unit}.force-new-cluster",
        )
        text = f"[Service]\nEnvironmentFile=-{flag}\nExecStartPost=+/usr/bin/env rm -f {flag}\n"
        write = (
            f"umask 022; mkdir -p {directory} {MARKER_DIRECTORY} && printf '%s' {shlex.quote(text)} >{drop_in} && "
            f"echo ETCD_FORCE_NEW_CLUSTER=true >{flag} && systemctl daemon-reload"
        )

        async def work(_progress: Progress) -> str:
            host = self.hosts[name]
            self.members.left_behind.discard(name)  # it is, if an earlier recovery is given up for it
            await host.check(write, step=title)
            try:
                took = await start(host, self.cluster, step=title)
            finally:
                await host.check(f"rm -f {flag} {drop_in}; rmdir {directory} 2>/dev/null; systemctl daemon-reload", step=title)
            patience = self.cluster.service.start_timeout_seconds
            await wait_committing(self.members, self.cluster.host(name), patience, title)
            await host.check(f"systemctl enable {self._unit} 2>&1", step=title)
            return took

        return Step(name, title, work, end.text)


def recovery(cluster: Cluster, hosts: Mapping[str, Host], members: Members, *, lost: Collection[str], forced: bool) -> Recovery:
    return Recovery(cluster, hosts, members, frozenset(lost), forced, datetime.now(UTC))
