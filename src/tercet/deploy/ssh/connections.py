"""Parallel connections to hosts, with the same configuration as `ssh`.

    async with connected(cluster) as hosts:     # name -> Host or HostError
        ...

One connection per host, and one per jump host, shared by the hosts behind it. Logins do not prompt: keys come from the agent or
from files, host keys from known_hosts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from pathlib import Path

import asyncssh

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import SshSettings
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.identities import Identities
from tercet.deploy.ssh.login import STEP, log_in
from tercet.deploy.ssh.remote import Host
from tercet.deploy.ssh.sudo import AskPassword, Root
from tercet.deploy.ssh.target import Target, resolve, resolve_jump


async def connect(spec: HostSpec, *, accept_new: bool = False, ask_password: AskPassword | None = None) -> Host:
    """Connect to one host; close it after use. Raises HostError.

    accept_new: accept an unknown host key and add it to known_hosts. ask_password: called with a prompt if sudo requires a
    password; without it, that is an error.
    """
    dialer = Dialer(accept_new=accept_new, ask_password=ask_password)
    try:
        return await dialer.connect(spec, on_close=True)
    except BaseException:
        await dialer.close()
        raise


@contextlib.asynccontextmanager
async def connected(
    cluster: Cluster,
    *,
    accept_new: bool = False,
    ask_password: AskPassword | None = None,
    names: Collection[str] | None = None,
) -> AsyncIterator[dict[str, Host | HostError]]:
    """The hosts of the cluster, or those of `names`, in the order of the file: connected, or with the error."""
    dialer = Dialer(accept_new=accept_new, ask_password=ask_password)
    specs = [spec for spec in cluster.hosts if names is None or spec.name in names]
    tasks = [asyncio.ensure_future(_attempt(dialer, spec)) for spec in specs]
    try:
        results = await asyncio.gather(*tasks)
        yield dict(zip((spec.name for spec in specs), results, strict=True))
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(host.close() for host in ended if isinstance(host, Host)))
        await dialer.close()


async def _attempt(dialer: Dialer, spec: HostSpec) -> Host | HostError:
    try:
        return await dialer.connect(spec)
    except HostError as error:
        return error


def _one_at_a_time(ask: AskPassword) -> AskPassword:
    """Serialise prompts: several hosts may require a password at the same time."""
    asking = asyncio.Lock()

    async def ask_alone(prompt: str) -> str:
        async with asking:
            return await ask(prompt)

    return ask_alone


class Dialer:
    """Opens connections that share key files and connections to jump hosts."""

    def __init__(self, *, accept_new: bool = False, ask_password: AskPassword | None = None) -> None:
        self._accept_new = accept_new
        self.ask_password = _one_at_a_time(ask_password) if ask_password is not None else None
        self._identities = Identities()
        self._jumps: dict[tuple[tuple[str, ...], Path | None, Path | None], asyncio.Task[asyncssh.SSHClientConnection]] = {}

    async def connect(self, spec: HostSpec, *, on_close: bool = False) -> Host:
        """on_close: closing the host closes this dialer too. Raises HostError."""
        target = resolve(spec.ssh.host or spec.address, spec.ssh, host=spec.name)
        connection = await self._reach(target, spec.ssh, spec.name, via=())
        root = Root(spec.name, target.user, sudo=spec.ssh.sudo, ask_password=self.ask_password)
        return Host(spec, connection, root, on_close=self.close if on_close else None)

    async def close(self) -> None:
        """Close the connections to jump hosts."""
        tasks = list(self._jumps.values())
        self._jumps.clear()
        for task in tasks:
            task.cancel()
        for connection in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(connection, asyncssh.SSHClientConnection):
                connection.close()

    async def _reach(
        self, target: Target, ssh: SshSettings, host: str, *, via: tuple[str, ...]
    ) -> asyncssh.SSHClientConnection:
        """Connect to a target through its jump hosts. host: the member, for errors. via: jump hosts already on the path."""
        tunnel = await self._jump(target.jumps, ssh, host, via=via) if target.jumps else None
        offer = await self._identities.offer(target.key_files, target.agent_path, only_files=target.only_files)
        try:
            return await log_in(target, offer, host=host, tunnel=tunnel, accept_new=self._accept_new)
        finally:
            offer.close()

    async def _jump(
        self, jumps: tuple[str, ...], ssh: SshSettings, host: str, *, via: tuple[str, ...]
    ) -> asyncssh.SSHClientConnection:
        """The shared connection to the last of these jump hosts."""
        last = jumps[-1]
        if last in via:
            raise HostError(host, STEP, f"the jump hosts form a loop: {' -> '.join([*via, last])}", remedy="check ProxyJump")
        place = (jumps, ssh.config, ssh.key)
        if place not in self._jumps:
            target = resolve_jump(last, ssh, host=host)
            # A ProxyJump under `Host *` also matches the jump host itself; it applies only to the hosts behind it.
            before = jumps[:-1] or (() if last in target.jumps else target.jumps)
            target = replace(target, jumps=before)
            self._jumps[place] = asyncio.ensure_future(self._reach(target, ssh, host, via=(*via, last)))
        try:
            return await asyncio.shield(self._jumps[place])
        except HostError as error:
            text = error.text if error.text.startswith(("jump host ", "the jump hosts")) else f"jump host {last}: {error.text}"
            raise HostError(host, STEP, text, remedy=error.remedy) from error
