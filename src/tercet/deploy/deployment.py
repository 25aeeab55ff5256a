"""A cluster on its hosts, as an object: what `tercet deploy` does, for whoever would rather do it from Python.

    deployment = Deployment(load(Path("cluster.yaml")))
    plan = await deployment.plan()          # reads only
    await deployment.apply()                # does what the plan says; again: nothing
    for health in await deployment.health(): ...

Each call connects to the hosts and hangs up when it is done. A host that cannot be reached is one clear error before anything
is changed anywhere; `status` and `health` report it instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.preflight import Finding, preflight
from tercet.deploy.members.logs import follow_logs
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members, MemberStatus, client_files
from tercet.deploy.members.service import certificate_days, unit_state
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run import apply as applying
from tercet.deploy.run import destroy as destroying
from tercet.deploy.run import rolling
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import DeployError, Interrupted, execute, silent
from tercet.deploy.run.file_lock import locked
from tercet.deploy.run.host_lock import locked_hosts
from tercet.deploy.ssh.connections import connected
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.deploy.ssh.sudo import AskPassword
from tercet.errors import ConfigError

__all__ = ["Confirm", "DeployError", "Deployment", "MemberHealth", "MemberStatus"]

Confirm = Callable[[Plan], Awaitable[bool]]
"""Shown what will be done; False: nothing is."""


class Deployment:
    """accept_new: accept and remember host keys that are not known yet. ask_password: asked for sudo's password where one is
    wanted. on_event: told of every step's states while something is carried out; never a secret.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        accept_new: bool = False,
        ask_password: AskPassword | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self.cluster = cluster
        self._accept_new = accept_new
        self._ask_password = ask_password
        self._on_event = on_event or silent

    async def preflight(self) -> list[Finding]:
        """Everything that stands in the way of a deployment, and what is well, on every host."""
        async with self._connected() as hosts:
            return await preflight(self.cluster, hosts)

    async def plan(self) -> Plan:
        """What `apply` would do. Touches nothing. Raises HostError, ConfigError, DeployError."""
        async with self._all_connected() as hosts, Members(self.cluster, hosts) as members:
            return await applying.draft(self.cluster, hosts, members, self._on_event)

    async def apply(self, confirm: Confirm | None = None) -> Plan:
        """Make the hosts as the cluster file says. Returns what was done: an empty plan if there was nothing to do.

        confirm: asked before anything is changed, unless there is nothing to do; a no raises Declined.
        Raises HostError, ConfigError, PreflightFailed, DeployError with all that failed, Interrupted.
        """
        async with self._changing() as (hosts, members):
            return await applying.apply(self.cluster, hosts, members, confirm, self._on_event)

    async def restart(self, names: Collection[str] = ()) -> None:
        """Restart these members, or all, one at a time, the leader last; each only while all others are healthy."""
        self._must_know(names)
        async with self._changing() as (hosts, members):
            wanted = set(names) or {spec.name for spec in self.cluster.hosts}
            plan = await rolling.restart_plan(self.cluster, hosts, members, wanted)
            await self._execute(plan, hosts)

    async def destroy_plan(self, keep_data: bool) -> Plan:
        """What `destroy` would do. Touches nothing."""
        async with self._all_connected() as hosts:
            return await destroying.destroy_plan(self.cluster, hosts, keep_data=keep_data)

    async def destroy(self, *, keep_data: bool, confirm: Confirm | None = None) -> Plan:
        """Stop the members and remove what apply has put on the hosts; with `keep_data`, all but data and backups."""
        async with self._changing() as (hosts, _):
            plan = await destroying.destroy_plan(self.cluster, hosts, keep_data=keep_data)
            if not plan.is_empty:
                if confirm is not None and not await confirm(plan):
                    raise applying.Declined
                await self._execute(plan, hosts)
            return plan

    async def status(self) -> list[MemberStatus]:
        """Every member, in the file's order. A host that is not reached is an entry with an error."""
        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            names = [spec.name for spec in self.cluster.hosts]
            return list(await asyncio.gather(*(self._status(name, hosts[name], members) for name in names)))

    async def health(self) -> list[MemberHealth]:
        """Every member, in the file's order: can it answer a linearizable read, and is no alarm raised?"""
        async with self._connected() as hosts, Members(self.cluster, hosts) as members:
            return await members.health()

    async def logs(
        self, names: Collection[str] = (), *, follow: bool = False, lines: int = 20
    ) -> AsyncIterator[tuple[str, str]]:
        """(member, line) of the journals of these members' units, or of all; as they come, with `follow`."""
        self._must_know(names)
        async with self._all_connected(names or None) as hosts:
            entries = follow_logs(self.cluster, hosts, follow=follow, lines=lines)
            async with contextlib.aclosing(entries):
                async for entry in entries:
                    yield entry

    def environment(self, name: str | None = None) -> dict[str, str]:
        """The variables with which etcdctl and tercetctl talk to one member, or to all."""
        if name is not None:
            self._must_know([name])
        endpoints = self.cluster.endpoints() if name is None else [self.cluster.client_url(self.cluster.host(name))]
        environment = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ",".join(endpoints)}
        if self.cluster.tls.enabled:
            files = client_files(self.cluster)
            environment |= {"ETCDCTL_CACERT": files.cacert, "ETCDCTL_CERT": files.cert, "ETCDCTL_KEY": files.key}
        return environment

    async def _status(self, name: str, host: Host | HostError, members: Members) -> MemberStatus:
        answer, unit, days = MemberAnswer(name), "", None
        if isinstance(host, HostError):
            error = str(host)
        else:
            try:
                state, days = await asyncio.gather(
                    unit_state(host, f"{self.cluster.service.unit}.service"), certificate_days(host, self.cluster)
                )
                unit = "not-found" if state.load == "not-found" else state.text
                answer = await members.answer_of(name)
                error = answer.error
            except (HostError, ConfigError) as failure:
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
        )

    def _must_know(self, names: Collection[str]) -> None:
        known = [spec.name for spec in self.cluster.hosts]
        for name in names:
            if name not in known:
                raise ConfigError(f"{self.cluster.path}: there is no host named {name}; there are {', '.join(known)}")

    async def _execute(self, plan: Plan, hosts: Mapping[str, Host]) -> None:
        async with locked_hosts(hosts.values(), unit=self.cluster.service.unit):
            await execute(plan, self._on_event)

    @contextlib.asynccontextmanager
    async def _changing(self) -> AsyncIterator[tuple[Mapping[str, Host], Members]]:
        """All hosts, and nobody else who changes them from this file. Raises Interrupted where it was only looked so far."""
        try:
            with locked(self.cluster.path):
                async with self._all_connected() as hosts, Members(self.cluster, hosts) as members:
                    yield hosts, members
        except asyncio.CancelledError:
            raise Interrupted(()) from None

    @contextlib.asynccontextmanager
    async def _connected(self, names: Collection[str] | None = None) -> AsyncIterator[Mapping[str, Host | HostError]]:
        async with connected(self.cluster, accept_new=self._accept_new, ask_password=self._ask_password, names=names) as hosts:
            yield hosts if self._ask_password is None else await _as_root(hosts)

    @contextlib.asynccontextmanager
    async def _all_connected(self, names: Collection[str] | None = None) -> AsyncIterator[Mapping[str, Host]]:
        """All of them, or an error that names those which are not."""
        async with self._connected(names) as hosts:
            failures = [host for host in hosts.values() if isinstance(host, HostError)]
            if failures:
                raise DeployError(failures)
            yield {name: host for name, host in hosts.items() if isinstance(host, Host)}


async def _as_root(hosts: Mapping[str, Host | HostError]) -> dict[str, Host | HostError]:
    """Each host once it lets us be root: where passwords are asked for, in the file's order, before anything else is shown."""
    found: dict[str, Host | HostError] = {}
    for name, host in hosts.items():
        found[name] = host
        if isinstance(host, Host):
            try:
                await host.run(":", step="sudo")
            except HostError as error:
                found[name] = error
    return found
