"""Cost of a million keys: memory of the members, time to restart, time of a large range (`make bench-scale`).

    python -m tercet.bench.scale                      1,000,000 keys of 100 bytes, in tercet and in etcd, one after the other
    python -m tercet.bench.scale --keys 100000        a tenth of that
Each system: three fresh members, loaded through the leader with transactions of 100 puts; then the resident memory of each
member, a range of 10,000 keys, and all members killed at once and started again, until all are healthy.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import uvloop
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from tercet.bench import requests
from tercet.bench.arena import Running, System, etcd_system, running, tercet_system, with_log_tail
from tercet.bench.leader import find_leader
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.bench.options import comparison_options
from tercet.bench.report import wide_console
from tercet.errors import TercetError
from tercet.proto import rpc_pb2

RESTART_SECONDS_MAX = 600.0
_BATCH = 100
_BATCHES_IN_FLIGHT = 16
_RANGE_KEYS = 10_000
_RANGE_TIMES = 5
_SETTLE_SECONDS = 2.0

ReportStep = Callable[[str, float], None]
"""Called with the current step and the part of it that is done, from 0 to 1."""


@dataclass(frozen=True)
class Scale:
    """How much data: `keys` keys with values of `value_size` bytes."""

    keys: int
    value_size: int
    key_size: int = 16


@dataclass(frozen=True)
class Cost:
    """Cost of one system. Memory in bytes, resident as the kernel counts it (mapped files included); times in seconds."""

    load_seconds: float
    leader_memory: int
    memory_max: int
    range_seconds: float
    restart_seconds: float


class KeysLost(TercetError):
    """A system has lost acknowledged keys in the restart: a fault of `system`, not of the measurement."""

    def __init__(self, system: System, found: int, put: int) -> None:
        super().__init__(f"{system.name} has lost acknowledged keys: {found} of {put} are there after the restart")
        self.system = system


async def measure(system: System, scale: Scale, directory: Path, report_step: ReportStep) -> Cost:
    """Load, measure, restart. Raises TercetError, KeysLost among them."""
    async with running(system, directory) as up:
        load_seconds = await _load(up.leader, scale, report_step)
        report_step("settle", 0.0)
        await asyncio.sleep(_SETTLE_SECONDS)
        plan = up.cluster.plan
        memory = {member.name: resident_bytes(up.cluster.pid(member)) for member in plan.members}
        report_step("range", 0.0)
        range_seconds = await _range(up.leader, scale)
        report_step("restart", 0.0)
        restart_seconds = await _restart(up)
        await _check(await find_leader(plan.client_urls, None), system, scale)
        return Cost(load_seconds, memory[up.leading_member.name], max(memory.values()), range_seconds, restart_seconds)


async def _load(leader: str, scale: Scale, report_step: ReportStep) -> float:
    keys = requests.Keys(scale.keys, scale.key_size)
    batches = -(-scale.keys // _BATCH)
    channels = await open_channels([leader], 1, None)
    try:
        measured = await Load(requests.TXN_PATH, requests.filling(keys, scale.value_size, _BATCH), Extent()).run(
            channels, _BATCHES_IN_FLIGHT, lambda done, _: report_step("load", done / batches)
        )
    finally:
        await close_channels(channels)
    if measured.errors:
        raise LoadFailed(f"loading {leader}: {', '.join(measured.errors)}")
    return measured.seconds


async def _range(leader: str, scale: Scale) -> float:
    """Median time of a linearizable range over the first keys."""
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", limit=_RANGE_KEYS).SerializeToString()
    channels = await open_channels([leader], 1, None)
    times = []
    try:
        for _ in range(_RANGE_TIMES):
            began = time.perf_counter()
            body = await channels[0].unary(requests.RANGE_PATH, request, timeout=60)
            times.append(time.perf_counter() - began)
            found = len(rpc_pb2.RangeResponse.FromString(body).kvs)
            if found != min(_RANGE_KEYS, scale.keys):
                raise LoadFailed(f"{leader}: a range found {found} keys of {min(_RANGE_KEYS, scale.keys)}")
    finally:
        await close_channels(channels)
    return median(times)


async def _restart(up: Running) -> float:
    await up.cluster.kill()
    began = time.perf_counter()
    await up.cluster.start()
    await up.cluster.wait_healthy(RESTART_SECONDS_MAX)
    return time.perf_counter() - began


async def _check(leader: str, system: System, scale: Scale) -> None:
    """Raises KeysLost unless every key is there after the restart."""
    request = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True).SerializeToString()
    channels = await open_channels([leader], 1, None)
    try:
        count = rpc_pb2.RangeResponse.FromString(await channels[0].unary(requests.RANGE_PATH, request, timeout=60)).count
    finally:
        await close_channels(channels)
    if count != scale.keys:
        raise KeysLost(system, count, scale.keys)


def resident_bytes(pid: int) -> int:
    """VmRSS of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True)
class Line:
    """One line of the table; a ratio above 1 is in tercet's favour."""

    name: str
    unit: str
    baseline: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.baseline / self.ours if self.ours else 0.0


def summarize(baseline: Cost, ours: Cost, scale: Scale) -> list[Line]:
    mebibyte = 1 << 20
    return [
        Line("resident memory, leader", "MiB", baseline.leader_memory / mebibyte, ours.leader_memory / mebibyte),
        Line("resident memory, largest member", "MiB", baseline.memory_max / mebibyte, ours.memory_max / mebibyte),
        Line("restart of all members until healthy", "s", baseline.restart_seconds, ours.restart_seconds),
        Line(f"range of {min(_RANGE_KEYS, scale.keys):,} keys", "ms", baseline.range_seconds * 1e3, ours.range_seconds * 1e3),
        Line(f"loading, {_BATCH} puts a transaction", "s", baseline.load_seconds, ours.load_seconds),
    ]


def _cells(line: Line) -> list[str]:
    return [line.name, f"{line.baseline:,.1f} {line.unit}", f"{line.ours:,.1f} {line.unit}", f"{line.ratio:.2f}"]


def as_markdown(lines: Sequence[Line], scale: Scale, systems: Sequence[System]) -> str:
    rows = [_header(scale, systems), ["---", "--:", "--:", "--:"], *(_cells(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _header(scale: Scale, systems: Sequence[System]) -> list[str]:
    return [f"{scale.keys:,} keys, {scale.value_size}-byte values", *(system.name for system in systems), "times better"]


def _show(lines: Sequence[Line], scale: Scale, systems: Sequence[System], console: Console) -> None:
    table = Table(*_header(scale, systems))
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*_cells(line))
    console.print(table)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], ReportStep]]:
    """A progress bar on a terminal, else a line for each step."""
    if not console.is_terminal:
        steps: list[tuple[str, str]] = []

        def plain(system: str) -> ReportStep:
            def report_step(step: str, _: float) -> None:
                if (system, step) not in steps:
                    steps.append((system, step))
                    console.print(f"{system}: {step}")

            return report_step

        yield plain
        return
    with Progress(console=console, transient=True) as bar:
        task: TaskID = bar.add_task("", total=1.0)

        def drawn(system: str) -> ReportStep:
            return lambda step, done: bar.update(task, description=f"{system}: {step}", completed=done)

        yield drawn


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--keys", type=click.IntRange(min=1), default=1_000_000, show_default=True, help="How many keys.")
@click.option("--value-size", type=click.IntRange(min=1), default=100, show_default=True, metavar="BYTES")
@comparison_options
def command(
    keys: int, value_size: int, output: str, data_dir: Path, tercet_program: str | None, etcd_program: str | None
) -> int:
    """Compare tercet with etcd at many keys: memory, restart, a large range."""
    scale = Scale(keys, value_size)
    costs: list[Cost] = []
    try:
        systems = (etcd_system(shlex.split(etcd_program or "")), tercet_system(shlex.split(tercet_program or "")))
        with _progress(Console(stderr=True)) as report_step, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for system in systems:
                place = data_dir.absolute() / f"scale-{system.name.replace(' ', '-')}"
                costs.append(runner.run(measure(system, scale, place, report_step(system.name))))
    except TercetError as error:
        raise click.ClickException(with_log_tail(error)) from error
    lines = summarize(costs[0], costs[1], scale)
    if output == "json":
        click.echo(json.dumps([{**line.__dict__, "ratio": line.ratio} for line in lines]))
    elif output == "markdown":
        click.echo(as_markdown(lines, scale, systems))
    else:
        _show(lines, scale, systems, wide_console())
    return 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
