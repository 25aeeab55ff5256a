"""Connections to hosts, made as `ssh` would make them, all at once.

    async with connected(cluster) as hosts:     # name -> Host, or the HostError that says why not
        ...

One connection a host, and one to each jump host, whatever the number of hosts behind it. Nothing is asked during a login: keys
come from the agent or from files, host keys from known_hosts.
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
    """A host that is ready for commands; close it. Raises HostError.

    accept_new: a host key that is not known yet is accepted and added to known_hosts. ask_password: asked for sudo's password,
    given a prompt; without it, a sudo that wants one is an error.
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
    """The cluster's hosts, or those of `names`, in the file's order: each connected, or why it is not."""
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
    """Several hosts may want a password at the same moment; a terminal has one line to ask on."""
    asking = asyncio.Lock()

    async def ask_alone(prompt: str) -> str:
        async with asking:
            return await ask(prompt)

    return ask_alone


class Dialer:
    """Makes connections that share what they can: keys read from files, and connections to jump hosts."""

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
        """Hang up on the jump hosts."""
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
        """A connection to a target, through its jump hosts. host: the member it is for. via: jump hosts on the way already."""
        tunnel = await self._jump(target.jumps, ssh, host, via=via) if target.jumps else None
        offer = await self._identities.offer(target.key_files, target.agent_path, only_files=target.only_files)
        try:
            return await log_in(target, offer, host=host, tunnel=tunnel, accept_new=self._accept_new)
        finally:
            offer.close()

    async def _jump(
        self, jumps: tuple[str, ...], ssh: SshSettings, host: str, *, via: tuple[str, ...]
    ) -> asyncssh.SSHClientConnection:
        """The connection to the last of some jump hosts; made once for all who come this way."""
        last = jumps[-1]
        if last in via:
            raise HostError(host, STEP, f"the jump hosts lead in a circle: {' to '.join([*via, last])}", remedy="see ProxyJump")
        place = (jumps, ssh.config, ssh.key)
        if place not in self._jumps:
            target = resolve_jump(last, ssh, host=host)
            # `Host *` with a ProxyJump is meant for the hosts behind the jump host, not for itself.
            before = jumps[:-1] or (() if last in target.jumps else target.jumps)
            target = replace(target, jumps=before)
            self._jumps[place] = asyncio.ensure_future(self._reach(target, ssh, host, via=(*via, last)))
        try:
            return await asyncio.shield(self._jumps[place])
        except HostError as error:
            text = error.text if error.text.startswith(("jump host ", "the jump hosts")) else f"jump host {last}: {error.text}"
            raise HostError(host, STEP, text, remedy=error.remedy) from error
