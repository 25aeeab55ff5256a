"""Compares tercet with etcd: same host, same disk, same load, in short rounds that take turns (`make bench`).

    python -m tercet.bench.compare              about twenty minutes
    python -m tercet.bench.compare --quick      three minutes, rougher
Each round starts a fresh cluster of each system, one after the other, never both: two clusters at once would take each
other's processor time. The table shows medians over the rounds, with the processor time of the members a request.
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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop
from rich.console import Console

from tercet.bench import h2load, report, requests
from tercet.bench.arena import Running, Shape, System, etcd_system, running, tercet_system, with_log_tail
from tercet.bench.auth import enable_auth
from tercet.bench.checksum_cost import checksum_line
from tercet.bench.keepalives import KeepAlives
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.bench.options import comparison_options
from tercet.bench.report import Rate, Rest, Results
from tercet.bench.usage import Usage, usage_of
from tercet.bench.workloads import KEYS, VALUE_BYTES, WORKLOADS, Workload
from tercet.errors import TercetError

_SETTLE_SECONDS = 1.0  # after the first election and publication


@dataclass(frozen=True)
class Settings:
    """How long each measurement takes, how often, where the data goes and which generator makes the load."""

    rounds: int
    extent: Extent
    directory: Path
    generator: str = "tercet"


async def compare(
    systems: Sequence[System], workloads: Sequence[Workload], settings: Settings, report_progress: Callable[[str], None]
) -> Results:
    """Run all rounds; `report_progress` gets a line a measurement. Raises TercetError when a cluster or a load fails."""
    results: Results = {workload.name: {system.name: [] for system in systems} for workload in workloads}
    shapes = list(dict.fromkeys(workload.shape for workload in workloads))
    for number in range(settings.rounds):
        order = systems if number % 2 == 0 else tuple(reversed(systems))  # so that a host that slows down favours neither
        for shape in shapes:
            chosen = [workload for workload in workloads if workload.shape == shape]
            for system in order:
                async with running(system, _directory(settings, system), shape) as up:
                    for workload, rate in await _measure_all(up, chosen, settings):
                        results[workload.name][system.name].append(rate)
                        report_progress(f"round {number + 1}: {system.name}: {workload.name}: {rate.rate_text()}")
    return results


async def at_rest(systems: Sequence[System], settings: Settings) -> dict[str, list[Rest]]:
    """Start-up and idle cost of each system, once a round. Raises TercetError when a cluster fails."""
    rests: dict[str, list[Rest]] = {system.name: [] for system in systems}
    for _ in range(settings.rounds):
        for system in systems:
            rests[system.name].append(await _at_rest(system, settings))
    return rests


async def _at_rest(system: System, settings: Settings) -> Rest:
    began = time.perf_counter()
    async with running(system, _directory(settings, system), Shape(members=1)) as up:
        start_seconds = time.perf_counter() - began
        start_cpu = usage_of(up.leader_pid).cpu_seconds
    async with running(system, _directory(settings, system)) as up:
        await asyncio.sleep(_SETTLE_SECONDS)
        seconds = max(settings.extent.seconds or 0.0, 2.0)
        before = [usage_of(pid) for pid in up.pids]
        await asyncio.sleep(seconds)
        used = [usage_of(pid) - usage for pid, usage in zip(up.pids, before, strict=True)]
    return Rest(
        start_seconds,
        start_cpu,
        max(usage.cpu_seconds for usage in used) / seconds,
        max(usage.wakeups for usage in used) / seconds,
    )


def _directory(settings: Settings, system: System) -> Path:
    return settings.directory / system.name.replace(" ", "-")


async def _measure_all(up: Running, workloads: Sequence[Workload], settings: Settings) -> list[tuple[Workload, Rate]]:
    files = up.cluster.plan.tls
    context = files.context() if files else None
    await _fill(up.leader, context)
    token = await enable_auth(up.leader, context) if workloads[0].shape.auth else ""
    return [(workload, await _measure(up, context, workload, settings, token)) for workload in workloads]


async def _fill(leader: str, context: ssl.SSLContext | None) -> None:
    """Put every key once, so that reads find a value."""
    channels = await open_channels([leader], 1, context)
    try:
        measured = await Load(requests.TXN_PATH, requests.filling(KEYS, VALUE_BYTES), Extent()).run(channels, 4)
    finally:
        await close_channels(channels)
    if measured.errors:
        raise LoadFailed(f"{leader}: {', '.join(measured.errors)}")


async def _measure(up: Running, context: ssl.SSLContext | None, workload: Workload, settings: Settings, token: str) -> Rate:
    prepared = workload.requests()
    if settings.generator == "h2load":
        if token:
            raise LoadFailed(f"h2load does not log in, and so cannot make the load {workload.name!r}")
        message = next(prepared, None)
        if not isinstance(message, bytes):
            raise LoadFailed(f"h2load sends one request again and again, and so cannot make the load {workload.name!r}")
        shot = h2load.Shot(
            url=up.leader + workload.path,
            message=message,
            connections=workload.connections,
            streams=workload.in_flight // workload.connections,
            seconds=settings.extent.seconds or 1.0,
            warmup=settings.extent.warmup,
        )
        return Rate(await h2load.run(shot))
    channels = await open_channels([up.leader], workload.connections, context)
    gc.collect()
    before: dict[int, Usage] = {}

    def note_usage() -> None:
        before.update((pid, usage_of(pid)) for pid in up.pids)

    try:
        renews = workload.path == requests.KEEPALIVE_PATH
        load = KeepAlives(settings.extent) if renews else Load(workload.path, prepared, settings.extent, token)
        measured = await load.run(channels, workload.in_flight, on_begin=note_usage)
        used = {pid: (usage_of(pid) - usage).cpu_seconds / max(measured.requests, 1) for pid, usage in before.items()}
    finally:
        await close_channels(channels)
    if measured.errors:
        raise LoadFailed(f"{workload.name} at {up.leader}: {', '.join(measured.errors)}")
    leader = used.pop(up.leader_pid)
    cpu = (leader, max(used.values(), default=0.0))
    return Rate(measured.per_second, measured.percentile(99), measured.percentile(99.9), cpu)


def conditions(settings: Settings) -> str:
    """What the numbers depend on, in one line."""
    extent = settings.extent
    return (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}; {VALUE_BYTES}-byte values, "
        f"fsync on; medians of {settings.rounds} rounds of {extent.seconds:g} s; load by {settings.generator}, to the leader; "
        "ms: p99 / p99.9; µs: processor time a request, leader + busiest follower"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--quick", is_flag=True, help="One short round.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds per workload.  [default: 3]")
@click.option("--seconds", type=click.FloatRange(min=0.2), help="Length of each measurement.  [default: 4]")
@click.option("--only", multiple=True, metavar="TEXT", help="Only workloads whose name contains this; may be repeated.")
@click.option("--generator", type=click.Choice(["tercet", "h2load"]), default="tercet", show_default=True)
@comparison_options
@click.option("--markdown", is_flag=True, help="The same as --output markdown.")
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
    """Compare tercet with etcd: throughput, latency and processor time of puts and reads, with and without TLS."""
    if generator == "h2load" and shutil.which("h2load") is None:
        raise click.BadParameter("h2load is not installed (Debian: nghttp2-client)", param_hint="--generator")
    workloads = [workload for workload in WORKLOADS if not only or any(text in workload.name for text in only)]
    if not workloads:
        names = "; ".join(workload.name for workload in WORKLOADS)
        raise click.BadParameter(f"no workload contains that; choose among: {names}", param_hint="--only")
    extent = Extent(seconds=seconds or (1.5 if quick else 4.0), warmup=0.5 if quick else 1.0)
    settings = Settings(rounds or (1 if quick else 3), extent, data_dir.absolute(), generator)
    console = Console(stderr=True)
    try:
        baseline = etcd_system(shlex.split(etcd_program or ""))
        ours = tercet_system(shlex.split(tercet_program or ""))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(compare((baseline, ours), workloads, settings, console.print))
            rests = {} if only else runner.run(at_rest((baseline, ours), settings))
    except TercetError as error:
        raise click.ClickException(with_log_tail(error)) from error
    lines = report.summarize(results, workloads, baseline, ours)
    rows = report.rest_rows(rests, baseline, ours) if rests else []
    if output == "json":
        click.echo(json.dumps(report.as_json(lines)))
    elif markdown or output == "markdown":
        click.echo(report.as_markdown(lines, baseline, ours))
        if rows:
            click.echo("\n" + report.markdown_table([["at rest", baseline.name, ours.name], *rows]))
        click.echo(f"\n{conditions(settings)}\n{checksum_line(lines, VALUE_BYTES)}")
    else:
        report.show(lines, rows, baseline, ours, report.wide_console())
        click.echo(conditions(settings))
        click.echo(checksum_line(lines, VALUE_BYTES))
    return 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
