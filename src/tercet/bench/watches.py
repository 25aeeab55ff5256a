"""Compares watches of tercet and etcd (`make bench-watches`).

    python -m tercet.bench.watches              about five minutes
    python -m tercet.bench.watches --quick      one

Each row: a fresh cluster of three, watches at the leader, puts to it at full speed, 32 in flight. Counted is what the watches
receive; a row fails if an event of an acknowledged put does not arrive.
"""

from __future__ import annotations

import asyncio
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median

import click
import uvloop
from rich.console import Console
from rich.table import Table

from tercet.bench import requests
from tercet.bench.arena import Running, System, etcd_system, running, tercet_system, with_log_tail
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.bench.options import comparison_options
from tercet.bench.report import wide_console
from tercet.bench.scale import resident_bytes
from tercet.bench.usage import usage_of
from tercet.bench.watchers import MARKER, Watchers, open_watchers
from tercet.errors import TercetError
from tercet.proto import rpc_pb2

VALUE_BYTES = 256
PUTS_IN_FLIGHT = 32
STREAM_WATCHES = 100
CONNECTION_STREAMS = 10
ARRIVE_SECONDS_MAX = 60.0
_Create = rpc_pb2.WatchCreateRequest


@dataclass(frozen=True)
class WatchLoad:
    """One row. create: the watch with this number; keys: that are put; per_put: events of one put; silent: watches not read."""

    name: str
    watches: int
    create: Callable[[int], _Create]
    keys: int
    per_put: int
    silent: int = 0


@dataclass(frozen=True)
class Outcome:
    """p99_seconds: of a put. cpu_seconds: of the leader, for an event. watch_bytes: memory of the leader for a watch."""

    events_per_second: float
    puts_per_second: float
    p99_seconds: float
    cpu_seconds: float
    watch_bytes: float


def _key(number: int) -> bytes:
    return b"watched/%08d" % number


def _one(_: int) -> _Create:
    return _Create(key=_key(0))


def _distinct(number: int) -> _Create:
    return _Create(key=_key(number))


def _prefix(_: int) -> _Create:
    return _Create(key=b"watched/", range_end=b"watched0")


LOADS = (
    WatchLoad("1,000 watches of one key", 1000, _one, keys=1, per_put=1000),
    WatchLoad("10,000 watches of distinct keys", 10_000, _distinct, keys=10_000, per_put=1),
    WatchLoad("200 watches of one prefix", 200, _prefix, keys=10_000, per_put=200),
    WatchLoad("200 watches of one prefix, 100 more not read", 200, _prefix, keys=10_000, per_put=200, silent=100),
)


def puts(keys: int) -> Iterator[bytes]:
    """Endless PutRequests to random keys; each value holds the marker."""
    chance = random.Random(1)
    pool = [MARKER + chance.randbytes(VALUE_BYTES - len(MARKER)).replace(b"\0", b"0") for _ in range(64)]
    return cycle([requests.put(_key(chance.randrange(keys)), chance.choice(pool)).SerializeToString() for _ in range(20_000)])


async def measure(system: System, load: WatchLoad, directory: Path, extent: Extent) -> Outcome:
    """Raises TercetError."""
    async with running(system, directory) as up:
        before = resident_bytes(up.leader_pid)
        watchers = await _open(up.leader, load, load.watches)
        silent = await _open(up.leader, load, load.silent)
        try:
            await asyncio.sleep(1.0)  # creates are not acknowledged to a client that parses nothing
            watch_bytes = (resident_bytes(up.leader_pid) - before) / (load.watches + load.silent)
            await _probe(up, load, watchers)
            for client in silent:
                client.stop_reading()
            return await _run(up, load, watchers, extent, watch_bytes)
        finally:
            for client in (*watchers, *silent):
                client.close()


async def _open(leader: str, load: WatchLoad, count: int) -> list[Watchers]:
    creates = [load.create(number) for number in range(count)]
    streams = [creates[start : start + STREAM_WATCHES] for start in range(0, count, STREAM_WATCHES)]
    return [
        await open_watchers(leader, streams[start : start + CONNECTION_STREAMS])
        for start in range(0, len(streams), CONNECTION_STREAMS)
    ]


async def _probe(up: Running, load: WatchLoad, watchers: Sequence[Watchers]) -> None:
    """Put each watched key once, until every watch has answered: a put before its creation is none of its events."""
    channels = await open_channels([up.leader], 1, None)
    expected = load.watches * load.keys if load.per_put == load.watches and load.keys > 1 else load.watches
    keys = [_key(number) for number in range(load.keys)]
    batches = [keys[start : start + 100] for start in range(0, len(keys), 100)]
    bodies = [requests.txn([requests.put(key, MARKER) for key in batch]).SerializeToString() for batch in batches]
    try:
        await Load(requests.TXN_PATH, iter(bodies), Extent()).run(channels, 4)
        await _arrived(watchers, expected)
    finally:
        await close_channels(channels)


async def _arrived(watchers: Sequence[Watchers], expected: int) -> None:
    """Wait for this many events in all. Raises LoadFailed."""
    deadline = time.perf_counter() + ARRIVE_SECONDS_MAX
    while (found := _events(watchers)) < expected:
        if time.perf_counter() > deadline:
            raise LoadFailed(f"{found} of {expected} events arrived in {ARRIVE_SECONDS_MAX:.0f} s")
        await asyncio.sleep(0.02)
    if found > expected:
        raise LoadFailed(f"{found} events arrived instead of {expected}")


def _events(watchers: Sequence[Watchers]) -> int:
    for client in watchers:
        if client.lost is not None:
            raise LoadFailed(f"a watching connection was lost: {client.lost}")
    return sum(client.events for client in watchers)


async def _run(up: Running, load: WatchLoad, watchers: Sequence[Watchers], extent: Extent, watch_bytes: float) -> Outcome:
    first = _events(watchers)
    channels = await open_channels([up.leader], 1, None)
    started: list[tuple[int, float, float]] = []

    def begin() -> None:
        started.append((_events(watchers), time.perf_counter(), usage_of(up.leader_pid).cpu_seconds))

    try:
        counted = _Counted(puts(load.keys))
        measured = await Load(requests.PUT_PATH, counted, extent).run(channels, PUTS_IN_FLIGHT, on_begin=begin)
        events, seconds, cpu = started[0]
        delivered, took = _events(watchers) - events, time.perf_counter() - seconds
        used = usage_of(up.leader_pid).cpu_seconds - cpu
        if measured.errors:
            raise LoadFailed(f"{load.name} at {up.leader}: {', '.join(measured.errors)}")
        await _arrived(watchers, first + counted.taken * load.per_put)
    finally:
        await close_channels(channels)
    return Outcome(delivered / took, measured.per_second, measured.percentile(99), used / max(delivered, 1), watch_bytes)


class _Counted:
    """An iterator that knows how many requests were taken from it."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self.taken = 0

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> bytes:
        self.taken += 1
        return next(self._source)


def rows(load: WatchLoad, theirs: Sequence[Outcome], ours: Sequence[Outcome]) -> list[list[str]]:
    """The lines of the table for one load."""

    def line(name: str, value: Callable[[Outcome], float], unit: str, *, less_is_better: bool) -> list[str]:
        baseline, own = (median(map(value, outcomes)) for outcomes in (theirs, ours))
        ratio = (baseline / own if own else 0.0) if less_is_better else (own / baseline if baseline else 0.0)
        return [name, f"{baseline:,.1f}{unit}", f"{own:,.1f}{unit}", f"{ratio:.2f}"]

    return [
        line(f"{load.name}: events", lambda outcome: outcome.events_per_second, "/s", less_is_better=False),
        line(f"{load.name}: puts", lambda outcome: outcome.puts_per_second, "/s", less_is_better=False),
        line(f"{load.name}: p99 of a put", lambda outcome: outcome.p99_seconds * 1e3, " ms", less_is_better=True),
        line(f"{load.name}: leader's processor time", lambda outcome: outcome.cpu_seconds * 1e6, " µs", less_is_better=True),
        line(f"{load.name}: leader's memory a watch", lambda outcome: outcome.watch_bytes / 1024, " KiB", less_is_better=True),
    ]


async def compare(
    systems: Sequence[System], loads: Sequence[WatchLoad], rounds: int, extent: Extent, directory: Path, report: Console
) -> list[list[str]]:
    """All rows of the table. Raises TercetError."""
    table: list[list[str]] = []
    for load in loads:
        outcomes: dict[str, list[Outcome]] = {system.name: [] for system in systems}
        for _ in range(rounds):
            for system in systems:
                outcome = await measure(system, load, directory / system.name.replace(" ", "-"), extent)
                outcomes[system.name].append(outcome)
                report.print(f"{system.name}: {load.name}: {outcome.events_per_second:,.0f} events/s")
        table += rows(load, *(outcomes[system.name] for system in systems))
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="One short round.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds per row.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(min=0.2), help="Length of each measurement.  [default: 4]")
@click.option("--only", multiple=True, metavar="TEXT", help="Only rows whose name contains this; may be repeated.")
@comparison_options
def command(
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    output: str,
    data_dir: Path,
    tercet_program: str | None,
    etcd_program: str | None,
) -> int:
    """Compare tercet with etcd: events delivered to watches, puts over them, memory a watch."""
    loads = [load for load in LOADS if not only or any(text in load.name for text in only)]
    if not loads:
        raise click.BadParameter(f"choose among: {'; '.join(load.name for load in LOADS)}", param_hint="--only")
    extent = Extent(seconds=seconds or (1.5 if quick else 4.0), warmup=0.5)
    try:
        systems = (etcd_system(shlex.split(etcd_program or "")), tercet_system(shlex.split(tercet_program or "")))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = Console(stderr=True)
            lines = runner.run(compare(systems, loads, rounds or (1 if quick else 3), extent, data_dir.absolute(), report))
    except TercetError as error:
        raise click.ClickException(with_log_tail(error)) from error
    header = ["watches", *(system.name for system in systems), "times better"]
    if output == "json":
        click.echo(json.dumps([dict(zip(("row", "baseline", "ours", "ratio"), line, strict=True)) for line in lines]))
    elif output == "markdown":
        click.echo("\n".join(f"| {' | '.join(row)} |" for row in (header, ["---", "--:", "--:", "--:"], *lines)))
    else:
        table = Table(*header)
        for line in lines:
            table.add_row(*line)
        wide_console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
