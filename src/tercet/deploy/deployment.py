"""The Python API of `tercet deploy`: a cluster on its hosts as an object.

    deployment = Deployment(load(Path("cluster.yaml")))
    plan = await deployment.plan()          # read-only
    await deployment.apply()                # executes the plan; safe to repeat
    for health in await deployment.health(): ...

Each call connects to the hosts and disconnects at the end. An unreachable host is an error before anything is changed; `status`
and `health` report it instead. Verbs other than preflight, plan and apply import what they alone need on first use.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from tercet.deploy.access import Access, reached, with_limit
from tercet.deploy.cluster.client_environment import client_environment
from tercet.deploy.facts.preflight import Finding, examine
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members, MemberStatus
from tercet.deploy.members.service import certificate_days, unit_state
from tercet.deploy.plan.certificates import Renewal
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run import apply as applying
from tercet.deploy.run import rolling
from tercet.deploy.run.adoption import require_managed
from tercet.deploy.run.agreed import Confirm
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.owned_directory import OwnedDirectory

if TYPE_CHECKING:
    from tercet.deploy.run.certificates import Stage
    from tercet.pki.age import Key

__all__ = ["Confirm", "DeployError", "Deployment", "MemberHealth", "MemberStatus"]

REVISIONS_BUMPED = 1_000_000_000
"""More than any cluster writes between two backups."""
MemberAction: TypeAlias = Literal["add", "remove", "replace"]


class Deployment(Access):
    """accept_new: accept unknown SSH host keys and add them to known_hosts. ask_password: called if sudo requires a password.
    on_event: called on every state change of a step; events contain no secrets. limit: names of the hosts that preflight, plan
    and apply work on; by default all. Other hosts may be unreachable.
    """

    async def preflight(self) -> list[Finding]:
        """The results of all checks on every host."""
        async with self._connected(self._limit or None) as hosts:
            return list((await examine(self.cluster, hosts, disks_beside_members=True)).findings)

    async def plan(self) -> Plan:
        """The steps of `apply`. Changes nothing. Raises HostError, ConfigError, DeployError.

        Unreachable hosts are blockers of the plan, which has the steps of the others; if there are none, DeployError.
        """
        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            targets = {name: host for name, host in hosts.items() if not self._limit or name in self._limit}
            failures = [host for host in targets.values() if isinstance(host, HostError)]
            if len(failures) == len(targets):
                raise DeployError(failures)
            found = await applying.plan(self.cluster, reached(targets), members, self._on_event)
            return replace(found, blockers=(*(str(with_limit(one, hosts)) for one in failures), *found.blockers))

    async def apply(self, confirm: Confirm | None = None) -> Plan:
        """Change the hosts to match the cluster file. Returns the executed plan, which is empty if there was nothing to do.

        confirm: called with a non-empty plan before anything is changed; False raises Declined.
        Raises HostError, ConfigError, PreflightFailed, DeployError with all failures, Interrupted.
        """
        async with self._changing(self._limit or None, can_limit=True) as (hosts, members):
            targets = self._targets(hosts)
            return await applying.apply(self.cluster, targets, members, confirm, self._on_event, locked=tuple(hosts.values()))

    async def renew_certificates(
        self,
        *,
        renewal: Renewal = "due",
        until: Stage = "all",
        dry_run: bool = False,
        confirm: Confirm | None = None,
    ) -> Plan:
        """Create certificates, copy them and restart the members one at a time. Returns the plan; empty: nothing to do.

        renewal: "due": those about to expire or unusable; "all"; "replaced CA": the CAs as well, without downtime.
        until: the last stage of a CA rotation to carry out. dry_run: change nothing.
        """
        require_managed(self.cluster, "certs")
        from tercet.deploy.run.certificates import certificate_work

        if renewal == "replaced CA" and self._limit:
            raise ConfigError("a CA is rotated on all hosts, not on some")
        can_limit = renewal != "replaced CA"
        async with self._changing(self._limit or None, dry_run=dry_run, can_limit=can_limit) as (hosts, members):
            work = certificate_work(self.cluster, self._targets(hosts), members, self._on_event)
            return await work.change(confirm, renewal=renewal, until=until, dry_run=dry_run, locked=tuple(hosts.values()))

    async def change_member(
        self, action: MemberAction, name: str, *, dry_run: bool = False, confirm: Confirm | None = None
    ) -> Plan:
        """Add, remove or replace one member. Returns the plan; empty: nothing to do. Other hosts may be unreachable.

        name: a host of the file; for "remove" also a member that the file no longer has. Raises as `apply` does, and for orders
        that would cost the majority.
        """
        require_managed(self.cluster, f"member {action}")
        from tercet.deploy.run.member_change import member_change

        if action != "remove":
            self._require_known([name])
        async with self._changing([] if action == "remove" else [name], dry_run=dry_run) as (hosts, members):
            change = member_change(self.cluster, hosts, members, self._on_event)
            makers = {"add": change.add, "remove": change.remove, "replace": change.replace}

            return await self._planned(lambda: makers[action](name), hosts, confirm, dry_run)

    async def upgrade(
        self, *, backups: Path | None = Path("backups"), dry_run: bool = False, confirm: Confirm | None = None
    ) -> Plan:
        """Bring the members to the release of the cluster file, one at a time; a member that fails is rolled back.

        backups: local directory of the snapshot that is taken before; None: none is taken.
        """
        require_managed(self.cluster, "upgrade")
        from tercet.deploy.run.upgrade import upgrade

        async with self._changing(dry_run=dry_run) as (hosts, members):
            work = upgrade(self.cluster, hosts, members, self._on_event, directory=backups)
            return await self._planned(work.plan, hosts, confirm, dry_run)

    async def migrate(
        self, *, backups: Path | None = Path("backups"), dry_run: bool = False, confirm: Confirm | None = None
    ) -> Plan:
        """Replace the members by ones that run the engine of the cluster file, one at a time, the leader last.

        Returns the executed plans as one; with `dry_run` that of the first member. After an interruption, call it again.
        """
        require_managed(self.cluster, "migrate")
        from tercet.deploy.run.member_change import member_change
        from tercet.deploy.run.migrate import Migration

        async with self._changing(dry_run=dry_run) as (hosts, members):
            change = member_change(self.cluster, hosts, members, self._on_event)
            making = Migration(self.cluster, hosts, members, change, backups)
            found = await self._planned(making.plan, hosts, confirm, dry_run)
            step = found
            while not (dry_run or step.is_empty):
                step = await self._carry_out(making.plan, hosts)
                found = replace(found, phases=(*found.phases, *step.phases))
            return found

    async def rollback(self, *, dry_run: bool = False, confirm: Confirm | None = None) -> Plan:
        """Return the members to the release before, one at a time, and pin it."""
        require_managed(self.cluster, "rollback")
        from tercet.deploy.run.upgrade import upgrade

        async with self._changing(dry_run=dry_run) as (hosts, members):
            work = upgrade(self.cluster, hosts, members, self._on_event)
            return await self._planned(work.rollback, hosts, confirm, dry_run)

    async def defrag(
        self, names: Collection[str] = (), *, every: bool = False, dry_run: bool = False, confirm: Confirm | None = None
    ) -> Plan:
        """Defragment members with much free space, or `every` one, one at a time; disarm NOSPACE when there is room."""
        from tercet.deploy.run.space import Space

        self._require_known(names)
        async with self._changing([], dry_run=dry_run) as (hosts, members):
            space = Space(self.cluster, members)
            return await self._planned(lambda: space.defrag(names, every=every), hosts, confirm, dry_run)

    async def compact(self, *, keep: int, dry_run: bool = False, confirm: Confirm | None = None) -> Plan:
        """Compact the cluster up to the last `keep` revisions; disarm NOSPACE when there is room."""
        from tercet.deploy.run.space import Space

        async with self._changing([], dry_run=dry_run) as (hosts, members):
            space = Space(self.cluster, members)
            return await self._planned(lambda: space.compact(keep), hosts, confirm, dry_run)

    async def backup(self, target: str | Path, *, keep: int | None = None, recipient: str = "") -> str:
        """Save a verified snapshot in a local directory or s3://BUCKET/PREFIX. Returns its path or URL.

        keep: remove all but this number of the newest. recipient: age's public key to encrypt it to; "" for a plain file.
        """
        from tercet.deploy.run.backup import backup_of

        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            backup = backup_of(self.cluster, members, target, datetime.now(UTC), keep=keep, recipient=recipient)
            await execute(await backup.plan(), self._on_event)
            return backup.place

    async def restore(
        self,
        snapshot: Path,
        *,
        bump: int = REVISIONS_BUMPED,
        skip_hash_check: bool = False,
        key: Key | None = None,
        backups: Path | None = Path("backups"),
        dry_run: bool = False,
        confirm: Confirm | None = None,
    ) -> Plan:
        """Replace the data of the whole cluster by a snapshot. Continues an interrupted restore of the same snapshot.

        bump: revisions to add, all before them compacted, so that no client sees the revision go back; 0: none.
        skip_hash_check: accept a file without SHA-256, copied from a data directory. key: of an encrypted snapshot.
        backups: local directory for a snapshot of what is there; None: none is taken. With a limit, the others are
        no members of the restored cluster.
        """
        require_managed(self.cluster, "restore")
        from tercet.deploy.run.restore import restore
        from tercet.deploy.run.restore_steps import decrypted, read_source

        with OwnedDirectory("restore") as work:
            plain = await asyncio.to_thread(decrypted, snapshot, work, key)
            source = await asyncio.to_thread(lambda: read_source(plain, snapshot, bump=bump, skip_hash_check=skip_hash_check))
            async with self._changing(self._limit or None, dry_run=dry_run, can_limit=True) as (hosts, members):
                targets = self._targets(hosts)
                others = {name: host for name, host in hosts.items() if name not in targets}
                making = restore(self.cluster, targets, others, members, source, work=Path(work), backups=backups)
                return await self._planned(making.plan, hosts, confirm, dry_run)

    async def recover(
        self,
        *,
        lost: Collection[str] = (),
        force: bool = False,
        dry_run: bool = False,
        confirm: Confirm | None = None,
    ) -> Plan:
        """Restart a cluster without a majority from the survivor with the newest log, then add the other reached hosts.

        lost: hosts that will not come back. force: also while a majority could come back. Returns the executed plans as one;
        after an interruption, call it again. Empty: every reached host has a member, and a majority commits.
        """
        require_managed(self.cluster, "recover")
        from tercet.deploy.run.member_change import member_change
        from tercet.deploy.run.recover import recovery

        self._require_known(lost)
        async with self._changing([], dry_run=dry_run) as (hosts, members):
            making = recovery(self.cluster, hosts, members, lost=lost, forced=force)
            found = await self._planned(making.plan, hosts, confirm, dry_run)
            if dry_run:
                return found
            change = member_change(self.cluster, hosts, members, self._on_event)
            for name in hosts:
                agreed = confirm if found.is_empty else None
                joined = await self._carry_out(partial(change.add, name), hosts, agreed)
                found = replace(found, phases=(*found.phases, *joined.phases))
            return found

    async def restart(self, names: Collection[str] = ()) -> None:
        """Restart these members, or all, one at a time, the leader last; each only while a majority remains without it.

        Hosts that are not among `names` may be unreachable.
        """
        self._require_known(names)
        async with self._changing(names or None) as (hosts, members):
            wanted = set(names) or {spec.name for spec in self.cluster.hosts}
            await self._carry_out(lambda: rolling.restart_plan(self.cluster, hosts, members, wanted), hosts)

    async def destroy_plan(self, keep_data: bool) -> Plan:
        """The steps of `destroy`. Changes nothing."""
        require_managed(self.cluster, "destroy")
        from tercet.deploy.run import destroy as destroying

        async with self._all_connected() as hosts:
            return await destroying.destroy_plan(self.cluster, hosts, keep_data=keep_data)

    async def destroy(self, *, keep_data: bool, confirm: Confirm | None = None) -> Plan:
        """Stop the members and remove what apply has installed; `keep_data` keeps data and backups."""
        require_managed(self.cluster, "destroy")
        from tercet.deploy.run import destroy as destroying

        async with self._changing(self._limit or None, can_limit=True) as (hosts, members):
            targets = self._targets(hosts)
            found = await self._carry_out(
                lambda: destroying.destroy_plan(self.cluster, targets, keep_data=keep_data), hosts, confirm
            )
            for name in () if keep_data else targets:
                members.left_behind.discard(name)
            return found

    async def status(self) -> list[MemberStatus]:
        """Every member, in the order of the file. An unreachable host is an entry with an error."""
        from tercet.deploy.run.space import alarms_of

        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            names = [spec.name for spec in self.cluster.hosts]
            statuses = await asyncio.gather(*(self._status(name, hosts[name], members) for name in names))
            raised = alarms_of(await members.alarms(), {status.name: status.member_id for status in statuses})
            return [replace(status, alarms=raised[status.name]) for status in statuses]

    async def health(self) -> list[MemberHealth]:
        """Every member, in the order of the file: healthy if it answers a linearizable read and has no alarm."""
        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            return await members.health()

    async def logs(
        self, names: Collection[str] = (), *, follow: bool = False, lines: int = 20
    ) -> AsyncIterator[tuple[str, str]]:
        """(member, line) from the journals of these members, or of all; `follow` streams new lines.

        Without `names`, unreachable hosts have one line with the error. Raises DeployError if none is reachable.
        """
        from tercet.deploy.members.logs import follow_logs

        self._require_known(names)
        async with self._connected(names or None) as found:
            failures = {name: host for name, host in found.items() if isinstance(host, HostError)}
            if failures and (names or len(failures) == len(found)):
                raise DeployError(list(failures.values()))
            for name, failure in failures.items():
                yield name, f"-- not reached: {failure.without_host}"
            entries = follow_logs(self.cluster, reached(found), follow=follow, lines=lines)
            async with contextlib.aclosing(entries):
                async for entry in entries:
                    yield entry

    def environment(self, name: str | None = None) -> dict[str, str]:
        """Environment variables for etcdctl and tercetctl, for one member or all."""
        if name is not None:
            self._require_known([name])
        return client_environment(self.cluster, name)

    async def _status(self, name: str, host: Host | HostError, members: Members) -> MemberStatus:
        answer, unit, days = MemberAnswer(name), "", None
        if isinstance(host, HostError):
            error = host.without_host
        else:
            try:
                state, days = await asyncio.gather(
                    unit_state(host, f"{self.cluster.service.unit}.service"), certificate_days(host, self.cluster)
                )
                unit = "not-found" if state.load == "not-found" else state.text
                answer = await members.answer_of(name)
                error = answer.error
            except HostError as failure:
                error = failure.without_host
            except ConfigError as failure:
                error = str(failure)
        return MemberStatus(
            name=name,
            address=self.cluster.host(name).address,
            unit=unit,
            error=error,
            member_id=answer.member_id,
            version=answer.version,
            db_size=answer.db_size,
            is_leader=answer.is_leader,
            is_learner=answer.is_learner,
            raft_term=answer.raft_term,
            raft_index=answer.raft_index,
            certificate_days=days,
            db_size_in_use=answer.db_size_in_use,
            left_behind="" if (left := members.left_behind.of(name)) is None else left.text,
            quota=answer.quota or (self.cluster.quota_backend_bytes if answer.member_id else 0),
        )
