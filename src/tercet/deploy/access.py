"""Access of one command to the hosts: connections, locks, execution of an agreed plan. `Deployment` has the commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members.members import Members
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.agreed import Confirm, MakePlan, carry_out
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import DeployError, Interrupted, silent
from tercet.deploy.run.fencing import fence
from tercet.deploy.run.file_lock import locked
from tercet.deploy.ssh.connections import connected
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.deploy.ssh.sudo import AskPassword
from tercet.errors import ConfigError


class Access:
    """Connects to the hosts for the duration of a command."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        accept_new: bool = False,
        ask_password: AskPassword | None = None,
        on_event: OnEvent | None = None,
        limit: Collection[str] = (),
    ) -> None:
        self.cluster = cluster
        self._require_known(limit)
        self._limit = frozenset(limit)
        self._accept_new = accept_new
        self._ask_password = ask_password
        self._on_event = on_event or silent

    def _targets(self, hosts: Mapping[str, Host]) -> dict[str, Host]:
        return {name: host for name, host in hosts.items() if not self._limit or name in self._limit}

    def _require_known(self, names: Collection[str]) -> None:
        known = [spec.name for spec in self.cluster.hosts]
        for name in names:
            if name not in known:
                raise ConfigError(f"{self.cluster.path}: no host named {name}; hosts: {', '.join(known)}")

    async def _planned(self, make_plan: MakePlan, hosts: Mapping[str, Host], confirm: Confirm | None, dry_run: bool) -> Plan:
        return await (make_plan() if dry_run else self._carry_out(make_plan, hosts, confirm))

    async def _carry_out(self, make_plan: MakePlan, hosts: Mapping[str, Host], confirm: Confirm | None = None) -> Plan:
        unit = self.cluster.service.unit
        return await carry_out(make_plan, confirm, self._on_event, locked=tuple(hosts.values()), unit=unit)

    @contextlib.asynccontextmanager
    async def _changing(
        self, required: Collection[str] | None = None, *, dry_run: bool = False, can_limit: bool = False
    ) -> AsyncIterator[tuple[Mapping[str, Host], Members]]:
        """The reachable hosts, under the lock of the cluster file; members that were left behind are stopped (`fencing`).

        required: hosts that must be reachable; None: all. At least one must be. dry_run: stop none. can_limit: whether
        the command can work on some hosts only (`--limit`), which the errors then advise.

        Raises DeployError with the required hosts that are not reachable, Interrupted if cancelled before execution.
        """
        try:
            with locked(self.cluster.path):
                async with self._connected() as hosts, Members(self.cluster, hosts) as members:
                    needed = hosts if required is None or not reached(hosts) else required
                    failures = [
                        with_limit(host, hosts) if can_limit else host
                        for name, host in hosts.items()
                        if isinstance(host, HostError) and name in needed
                    ]
                    if failures:
                        raise DeployError(failures)
                    if not dry_run:
                        await fence(self.cluster, reached(hosts), members, self._on_event)
                    yield reached(hosts), members
        except asyncio.CancelledError:
            raise Interrupted.before_changes() from None

    @contextlib.asynccontextmanager
    async def _connected(self, names: Collection[str] | None = None) -> AsyncIterator[Mapping[str, Host | HostError]]:
        async with connected(self.cluster, accept_new=self._accept_new, ask_password=self._ask_password, names=names) as hosts:
            yield hosts if self._ask_password is None else await _as_root(hosts)

    @contextlib.asynccontextmanager
    async def _all_connected(self, names: Collection[str] | None = None) -> AsyncIterator[Mapping[str, Host]]:
        """All hosts. Raises DeployError with the unreachable ones."""
        async with self._connected(names) as hosts:
            failures = [host for host in hosts.values() if isinstance(host, HostError)]
            if failures:
                raise DeployError(failures)
            yield {name: host for name, host in hosts.items() if isinstance(host, Host)}


def reached(hosts: Mapping[str, Host | HostError]) -> dict[str, Host]:
    return {name: host for name, host in hosts.items() if not isinstance(host, HostError)}


def with_limit(error: HostError, hosts: Mapping[str, Host | HostError]) -> HostError:
    """An unreachable host, with the way to continue without it."""
    others = " ".join(f"--limit {name}" for name in reached(hosts))
    remedy = "; ".join(filter(None, [error.remedy, f"to continue without it: {others}" if others else ""]))
    return HostError(error.host, error.step, error.text, remedy=remedy)


async def _as_root(hosts: Mapping[str, Host | HostError]) -> dict[str, Host | HostError]:
    """Become root on each host in the order of the file, so that all password prompts come first."""
    found: dict[str, Host | HostError] = {}
    for name, host in hosts.items():
        found[name] = host
        if isinstance(host, Host):
            try:
                await host.run(":", step="sudo")
            except HostError as error:
                found[name] = error
    return found
