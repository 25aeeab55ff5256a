"""The journals of several hosts in one stream: host after host, or with `follow` in parallel until the iterator is closed."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncGenerator, Mapping
from typing import cast

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host

_QUEUED_LINES_MAX = 1000  # read ahead of a slow reader
Entry = tuple[str, str] | HostError | None


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
    queue: asyncio.Queue[Entry] = asyncio.Queue(_QUEUED_LINES_MAX)
    tasks = [asyncio.ensure_future(_read(name, host, command, queue)) for name, host in hosts.items()]
    try:
        for _ in tasks:
            while (entry := await queue.get()) is not None:
                if isinstance(entry, HostError):
                    raise entry
                yield entry
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(name: str, host: Host, command: str, queue: asyncio.Queue[Entry]) -> None:
    try:
        async with _lines(host, command) as entries:
            async for line in entries:
                await queue.put((name, line))
        await queue.put(None)
    except HostError as error:
        await queue.put(error)


def _lines(host: Host, command: str) -> contextlib.aclosing[AsyncGenerator[str, None]]:
    """Ends the remote command when the block exits."""
    return contextlib.aclosing(cast(AsyncGenerator[str, None], host.lines(command, step="logs")))
