"""The journals of several hosts as one: lines in the order in which they come.

Without `follow`, hosts one after the other; with it, all side by side until whoever listens has heard enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator, Mapping
from typing import cast

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host

_WAITING_MAX = 1000  # lines read ahead of a slow listener
Heard = tuple[str, str] | HostError | None


async def follow_logs(
    cluster: Cluster, hosts: Mapping[str, Host], *, follow: bool, lines: int
) -> AsyncGenerator[tuple[str, str], None]:
    """(host, line). Close it to stop following. Raises HostError."""
    unit = shlex.quote(f"{cluster.service.unit}.service")
    command = f"exec journalctl -u {unit} -n {lines} -o short-iso --no-pager -q" + (" -f" if follow else "")
    if not follow:
        for name, host in hosts.items():
            async with _lines(host, command) as entries:
                async for line in entries:
                    yield name, line
        return
    heard: asyncio.Queue[Heard] = asyncio.Queue(_WAITING_MAX)
    tasks = [asyncio.ensure_future(_listen(name, host, command, heard)) for name, host in hosts.items()]
    try:
        for _ in tasks:
            while (entry := await heard.get()) is not None:
                if isinstance(entry, HostError):
                    raise entry
                yield entry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(name: str, host: Host, command: str, heard: asyncio.Queue[Heard]) -> None:
    try:
        async with _lines(host, command) as entries:
            async for line in entries:
                await heard.put((name, line))
        await heard.put(None)
    except HostError as error:
        await heard.put(error)


def _lines(host: Host, command: str) -> contextlib.aclosing[AsyncGenerator[str, None]]:
    """Hangs up when it is left, however early."""
    return contextlib.aclosing(cast(AsyncGenerator[str, None], host.lines(command, step="logs")))
