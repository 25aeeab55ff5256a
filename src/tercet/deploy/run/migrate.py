"""`migrate`: the other engine on a running cluster, one member at a time: tercet in place of etcd, or back.

    save a snapshot
    each member, the leader last: copy the other engine, remove the member, move its data aside, add it as a learner that runs
        the other engine, promote it
    compare the members

The data is copied by the peer protocol, which both engines speak, so that clients notice nothing but the change of a leader;
the files of one engine are never read by the other. While a member is replaced, the cluster has one member less: of three, none
of the other two may fail then.

Each member is a plan of its own, made from the member list: after an interruption the command continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import Wanted, gather
from tercet.deploy.members.members import Members
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.backup import backup_of
from tercet.deploy.run.compare import compare_phase
from tercet.deploy.run.member_change import MemberChange
from tercet.deploy.run.rolling import in_order
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError

_ENGINES = ("etcd", "tercet")


@dataclass(frozen=True)
class Migration:
    """Makes the plans. backups: local directory of the snapshot that is taken before the first member; None: none is taken."""

    cluster: Cluster
    hosts: Mapping[str, Host]
    members: Members
    change: MemberChange
    backups: Path | None

    async def plan(self) -> Plan:
        """The replacement of the next member; empty if every member runs the engine of the file. Raises as `replace` does."""
        left = await self._left()
        if not left:
            return Plan()
        name, *later = in_order(left, await self.members.health(), await self.members.answers())
        found = await self.change.replace(name)
        phases = [*found.phases]
        if len(left) == len(self.cluster.hosts) and self.backups is not None:
            backup = await backup_of(self.cluster, self.members, self.backups, self.change.now).plan()
            phases = [*backup.phases, *phases]
        if not later:
            phases.append(compare_phase(self.members, [spec.name for spec in self.cluster.hosts]))
        notes = [f"{name} is replaced by a member that runs {self.cluster.engine.kind}", *found.notes]
        if later:
            notes.append(f"then {', '.join(later)} in the same way, one at a time")
        return replace(found, phases=tuple(phases), notes=tuple(notes))

    async def _left(self) -> list[str]:
        """The members that run the other engine, or have not joined again with this one."""
        facts = await asyncio.gather(*(gather(host, Wanted(unit=self.cluster.service.unit)) for host in self.hosts.values()))
        programs = {
            name: PurePosixPath(seen.unit.exec_line.split(" ", 1)[0]).name for name, seen in zip(self.hosts, facts, strict=True)
        }
        others = [f"{name} ({program or 'no unit'})" for name, program in programs.items() if program not in _ENGINES]
        if others:
            text = f"neither etcd nor tercet runs on {', '.join(others)}; see `tercet deploy plan`"
            raise ConfigError(f"{self.cluster.path}: {text}")
        listed = await self.members.listed() or []
        voters = {url for member in listed if member.name and not member.isLearner for url in member.peerURLs}
        return [
            name
            for name, program in programs.items()
            if program != self.cluster.engine.kind or self.cluster.peer_url(self.cluster.host(name)) not in voters
        ]
