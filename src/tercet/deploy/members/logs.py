"""The journals of several hosts as one stream, in order of time.

    2026-01-02T03:04:05.000123+0000 kube-node1 etcd[17]: {"level":"info","ts":...,"msg":"ready to serve"}
    2026-01-02T03:04:05.000123 info ready to serve                                  as it is yielded

Without `follow` all lines are read, then sorted. With it, lines that arrive within a moment of each other are sorted; the
iterator runs until it is closed. Times are those of the hosts' clocks, in UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, cast

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host

_QUEUED_LINES_MAX = 1000  # read ahead of a slow reader
_GATHER_SECONDS = 0.2  # with `follow`: how long a line waits for earlier ones of other hosts
_EARLIEST = datetime.min.replace(tzinfo=UTC)


class Entry(NamedTuple):
    """A line. time: of the last line with a time, if this one has none."""

    time: datetime
    host: str
    text: str


async def follow_logs(
    cluster: Cluster, hosts: Mapping[str, Host], *, follow: bool, lines: int
) -> AsyncGenerator[tuple[str, str], None]:
    """(host, line). Close it to stop following. Raises HostError."""
    unit = shlex.quote(f"{cluster.service.unit}.service")
    command = f"exec journalctl -u {unit} -n {lines} -o short-iso-precise --no-pager -q" + (" -f" if follow else "")
    queue: asyncio.Queue[Entry | HostError | None] = asyncio.Queue(_QUEUED_LINES_MAX if follow else 0)
    tasks = [asyncio.ensure_future(_read(name, host, command, queue)) for name, host in hosts.items()]
    try:
        left = len(tasks)
        while left:
            entries, ended = await _batch(queue, left, everything=not follow)
            left -= ended
            for entry in sorted(entries, key=lambda one: one.time):  # stable: lines of one host keep their order
                yield entry.host, entry.text
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _batch(queue: asyncio.Queue[Entry | HostError | None], streams: int, *, everything: bool) -> tuple[list[Entry], int]:
    """Lines to sort, and the number of streams that ended. everything: until all have ended. Raises HostError."""
    entries: list[Entry] = []
    ended = 0
    deadline = None
    while ended < streams:
        try:
            async with asyncio.timeout_at(deadline):
                item = await queue.get()
        except TimeoutError:
            break
        if isinstance(item, HostError):
            raise item
        if item is None:
            ended += 1
        else:
            entries.append(item)
        if not everything and deadline is None:
            deadline = asyncio.get_running_loop().time() + _GATHER_SECONDS
    return entries, ended


async def _read(name: str, host: Host, command: str, queue: asyncio.Queue[Entry | HostError | None]) -> None:
    time = _EARLIEST
    lines = contextlib.aclosing(cast(AsyncGenerator[str, None], host.lines(command, step="logs")))
    try:
        async with lines as found:
            async for line in found:
                entry = parse(name, line, time)
                time = entry.time
                await queue.put(entry)
        await queue.put(None)
    except HostError as error:
        await queue.put(error)


def parse(host: str, line: str, previous: datetime) -> Entry:
    """A line of journalctl, without the host's name, which the caller shows; other lines as they are."""
    stamp, _, rest = line.partition(" ")
    _, _, rest = rest.partition(" ")  # the host's own name
    source, colon, message = rest.partition(": ")
    try:
        time = datetime.fromisoformat(stamp).astimezone(UTC)
    except ValueError:
        return Entry(previous, host, line)
    if not colon:
        return Entry(time, host, line)
    shown = _readable(message) if message.startswith("{") else message
    if source.partition("[")[0] == "systemd":
        shown = f"systemd: {shown}"
    return Entry(time, host, f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond:06d} {shown}")


def _readable(message: str) -> str:
    """A line of the members' JSON logs as level, message and fields; their own time and caller are left out."""
    try:
        fields = json.loads(message)
        level, text = fields.pop("level"), fields.pop("msg")
    except (ValueError, KeyError, TypeError, AttributeError):
        return message
    others = [f"{name}={_value(value)}" for name, value in fields.items() if name not in ("ts", "caller")]
    return " ".join([f"{level} {text}", *others])


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return json.dumps(text) if " " in text and isinstance(value, str) else text
