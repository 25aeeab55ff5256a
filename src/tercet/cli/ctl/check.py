"""check perf and check datascale: write a defined load, and judge the cluster by it. Loads and limits are etcdctl's."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.load import Statistics, counted, paced, write
from tercet.cli.ctl.progress import Progress
from tercet.cli.ctl.scrape import scrape
from tercet.cli.ctl.status_text import status_text
from tercet.client import ClusterChannel, prefix_end
from tercet.errors import ConfigError
from tercet.gotext.strconv import quote
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_NAMES = {"s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl"}
_SECONDS = 60
_CLEANUP_SECONDS = 30.0
_SLOWEST_SECONDS_MAX = 0.5
_DEVIATION_SECONDS_MAX = 0.1
_RATE_MIN = 0.9  # of the load's
_RESIDENT = "process_resident_memory_bytes"
_SCRAPE_SECONDS = 10


@dataclass(frozen=True)
class _Load:
    """limit: puts a second of perf, puts of datascale."""

    limit: int
    clients: int


_PERF = {"s": _Load(150, 50), "m": _Load(1000, 200), "l": _Load(8000, 500), "xl": _Load(15000, 1000)}
_SCALE = {"s": _Load(10_000, 50), "m": _Load(100_000, 200), "l": _Load(1_000_000, 500), "xl": _Load(3_000_000, 1000)}


def _load(session: Session, loads: dict[str, _Load]) -> _Load:
    name = session.values.string("load")
    if name not in _NAMES:
        raise CommandError(Exit.BAD_FEATURE, f"unknown load option {name}")
    return loads[_NAMES[name]]


async def _perf(session: Session, _: list[str]) -> None:
    load = _load(session, _PERF)
    session.open()
    prefix = session.values.string("prefix")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session.client()) for _ in range(load.clients)]
        await _refuse_keys(clients[0], prefix, "'etcdctl del --prefix {}'")
        progress = Progress("writes", load.limit * _SECONDS)
        requests = paced(os.fsencode(prefix), load.limit, _SECONDS, 256, 1024)
        try:
            statistics = await write(clients, requests, status_text, progress.advance)
        finally:
            progress.finish()
            await _clean_up(session, clients[0], prefix)
        await _defragment(session)
        _judge(session.printer.line, statistics, load)


def _judge(say: Callable[[str], None], found: Statistics, load: _Load) -> None:
    """Print etcdctl's verdicts. Raises CommandError if one is bad."""
    is_good = not found.errors
    if found.errors:
        say("FAIL: too many errors")
        for text, count in found.errors.items():
            say(f"FAIL: ERROR({text}) -> {count}")
    if found.rate / load.limit <= _RATE_MIN:
        say(f"FAIL: Throughput too low: {int(found.rate) + 1} writes/s")
        is_good = False
    else:
        say(f"PASS: Throughput is {int(found.rate) + 1} writes/s")
    for what, text, seconds, limit in (
        ("Slowest request took", "too long: ", found.slowest, _SLOWEST_SECONDS_MAX),
        ("Stddev", "too high: ", found.deviation, _DEVIATION_SECONDS_MAX),
    ):
        if seconds > limit:
            say(f"{what} {text}{seconds:f}s")
            is_good = False
        else:
            say(f"PASS: {what if what != 'Stddev' else 'Stddev is'} {seconds:f}s")
    say("PASS" if is_good else "FAIL")
    if not is_good:
        raise CommandError(Exit.ERROR)


async def _data_scale(session: Session, _: list[str]) -> None:
    load = _load(session, _SCALE)
    session.open()
    say = session.printer.line
    prefix = session.values.string("prefix")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(session.client()) for _ in range(load.clients)]
        await _refuse_keys(clients[0], prefix, "etcdctl del --prefix {}")
        before = await _resident_bytes(session, "before")
        sizes = f"{load.limit} key-value pairs, 1024 bytes per key-value, {load.clients} concurrent clients"
        say(f"Start data scale check for work load [{sizes}].")
        session.out.flush()
        progress = Progress("writes", load.limit)
        statistics = await write(clients, counted(os.fsencode(prefix), load.limit, 512, 512), status_text, progress.advance)
        progress.finish()
        after = await _resident_bytes(session, "after")
        await _clean_up(session, clients[0], prefix)
        await _defragment(session)
    if statistics.errors:
        say("FAIL: too many errors")
        for text, count in statistics.errors.items():
            say(f"FAIL: ERROR({text}) -> {count}")
        raise CommandError(Exit.ERROR)
    say(f"PASS: Approximate system memory used : {(after - before) / (1 << 20):.2f} MB.")


async def _refuse_keys(client: ClusterChannel, prefix: str, command: str) -> None:
    """The keys are deleted at the end: do not begin where there are any."""
    key = os.fsencode(prefix)
    found = await client.kv.range(rpc_pb2.RangeRequest(key=key, range_end=prefix_end(key), limit=1))
    if found.kvs:
        text = f"prefix {quote(key)} has keys. Delete with {command.format(prefix)} first"
        raise CommandError(Exit.INVALID_INPUT, text)


async def _clean_up(session: Session, client: ClusterChannel, prefix: str) -> None:
    key = os.fsencode(prefix)
    request = rpc_pb2.DeleteRangeRequest(key=key, range_end=prefix_end(key))
    deleted = await client.kv.delete_range(request, timeout=_CLEANUP_SECONDS)
    if session.values.bool("auto-compact"):
        revision = deleted.header.revision
        session.printer.line(f"Compacting with revision {revision}")
        compaction = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        await client.kv.compact(compaction, timeout=_CLEANUP_SECONDS)
        session.printer.line(f"Compacted with revision {revision}")


async def _defragment(session: Session) -> None:
    for endpoint in session.endpoints() if session.values.bool("auto-defrag") else ():
        session.printer.line(f'Defragmenting "{endpoint}"')
        async with session.client([endpoint]) as client:
            await client.maintenance.defragment(rpc_pb2.DefragmentRequest(), timeout=_CLEANUP_SECONDS)
        session.printer.line(f'Defragmented "{endpoint}"')


async def _resident_bytes(session: Session, when: str) -> float:
    """The memory of the first endpoint's process, from its metrics. Raises CommandError."""
    endpoint = session.endpoints()[0]
    try:
        found = await scrape(endpoint, session.http_tls(endpoint), timeout=_SCRAPE_SECONDS)
        if _RESIDENT in found:
            return found.value(_RESIDENT)
    except (OSError, ValueError, ConfigError) as error:
        session.printer.line(f"fetch error: {error}")
    session.printer.line(f"FAIL: Could not read {_RESIDENT} {when} the put operations.")
    raise CommandError(Exit.ERROR)


def _flags(prefix: str) -> tuple[Flag, ...]:
    return (
        Flag("load", "string", "s", "s, m, l or xl: how much to write", choices=("s", "m", "l", "xl")),
        Flag("prefix", "string", prefix, "where to write; the keys are deleted at the end"),
        Flag("auto-compact", "bool", False, "compact the history at the end"),
        Flag("auto-defrag", "bool", False, "defragment the endpoints at the end"),
    )


CHECK = Command(
    "check",
    "Measure the cluster under load",
    commands=(
        Command(
            "perf",
            "Write for a minute at a fixed rate, and judge throughput and latency",
            "[options]",
            _flags("/etcdctl-check-perf/"),
            _perf,
            description="s: 150 writes/s from 50 clients; m: 1000 from 200; l: 8000 from 500; xl: 15000 from 1000.",
            examples=("tercetctl check perf --load m",),
        ),
        Command(
            "datascale",
            "Write many keys, and measure the memory that the first endpoint needs for them",
            "[options]",
            _flags("/etcdctl-check-datascale/"),
            _data_scale,
            description="s: 10,000 keys from 50 clients; m: 100,000 from 200; l: 1,000,000 from 500; xl: 3,000,000 from 1000.",
        ),
    ),
)
