"""Can a client with expensive requests hold up the others, or cost the leader its leadership (`make bench-hostile`)?

    python -m tercet.bench.hostile                      150,000 keys, in tercet and in etcd, one after the other
    make bench-hostile ARGS="--keys 1000000"            a million, compiled
Each system: three fresh members with default timings. While each row of hostile_requests.py runs, another client puts, one put
after the other (put_probe.py). The table shows that client's longest put, leaders lost, and, of tercet, the longest turn of any
member's event loop. Fails where a leader is lost, a turn is longer than 50 ms, or the longest put is over 100 ms and over
etcd's.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import click
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from tercet.bench.arena import Running, System, etcd_system, running, tercet_system, with_log_tail
from tercet.bench.hostile_requests import DELETE_PATH, FEW_KEYS, Row, big_puts, filling, rows
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.bench.options import comparison_options
from tercet.bench.put_probe import PutProbe
from tercet.bench.report import markdown_table, wide_console
from tercet.bench.requests import PUT_PATH, TXN_PATH
from tercet.errors import TercetError
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, RpcError

TURN_SECONDS_MAX: Final = 0.05
PUT_SECONDS_MAX: Final = 0.1
_REQUEST_SECONDS_MAX: Final = 120.0
_ROW_SECONDS_MAX: Final = 300.0
_SETTLE_SECONDS: Final = 1.0
KEYS: Final = 150_000
_BATCHES_IN_FLIGHT: Final = 4


@dataclass(frozen=True)
class Result:
    """One row on one system. seconds: of the whole row.

    longest_turn, processor: upper bounds in seconds, of the longest turn and of the processor time of any turn; 0 for etcd.
    """

    row: str
    longest_put: float
    leaders_lost: int
    longest_turn: float
    processor: float
    seconds: float
    errors: tuple[str, ...] = ()


async def measure(
    system: System, keys: int, directory: Path, chosen: Callable[[str], bool], report: Callable[[str], None]
) -> list[Result]:
    """Fill a fresh cluster, then run the chosen rows. Raises TercetError."""
    async with running(system, directory) as up:
        report(f"{system.name}: filling")
        revision = await _fill(up, keys)
        await asyncio.sleep(_SETTLE_SECONDS)
        endpoints = [up.leader, *(url for url in up.cluster.plan.client_urls if url != up.leader)]
        results = []
        with PutProbe(endpoints) as probe:
            for row in rows(revision):
                if chosen(row.name):
                    result = await _measure_row(up, row, probe, _scale(keys))
                    results.append(result)
                    report(f"{system.name}: {row.name}: {', '.join(_cells(result))} {' '.join(result.errors)}")
        return results


async def _fill(up: Running, keys: int) -> int:
    """Returns a revision at which the keys under `dead/` existed."""
    channels = await open_channels([up.leader], 1, None)
    try:
        for path, bodies in (
            (TXN_PATH, chain(filling(FEW_KEYS, b"few/"), filling(keys, b"k/"), filling(keys, b"dead/"))),
            (PUT_PATH, big_puts()),
        ):
            loaded = await Load(path, bodies, Extent()).run(channels, _BATCHES_IN_FLIGHT)
            if loaded.errors:
                raise LoadFailed(f"loading {up.leader}: {', '.join(loaded.errors)}")
        delete = rpc_pb2.DeleteRangeRequest(key=b"dead/", range_end=b"dead0")
        timeout = _REQUEST_SECONDS_MAX * _scale(keys)
        body = await channels[0].unary(DELETE_PATH, delete.SerializeToString(), timeout=timeout)
        return rpc_pb2.DeleteRangeResponse.FromString(body).header.revision - 1
    finally:
        await close_channels(channels)


def _scale(keys: int) -> float:
    """How much longer than with the default number of keys a request may take."""
    return max(1.0, keys / KEYS)


async def _measure_row(up: Running, row: Row, probe: PutProbe, scale: float) -> Result:
    seconds_max = _ROW_SECONDS_MAX * scale
    loop = asyncio.get_running_loop()
    before = [_metrics(url) for url in up.cluster.plan.client_urls]
    probe.longest_seconds()
    channels = await open_channels([up.leader], row.clients, None)
    began = loop.time()
    errors: list[str] = []
    left = list(range(row.times))
    try:
        async with asyncio.timeout(seconds_max):
            await asyncio.gather(*(_send(channel, row, left, errors, _REQUEST_SECONDS_MAX * scale) for channel in channels))
    except TimeoutError:
        errors.append(f"not done in {seconds_max:.0f} s")
    finally:
        await close_channels(channels)
    seconds = loop.time() - began
    await asyncio.sleep(_SETTLE_SECONDS + row.rest_seconds)
    longest_put = await asyncio.to_thread(probe.longest_seconds)
    after = [_metrics(url) for url in up.cluster.plan.client_urls]
    lost = max(new.leader_changes - old.leader_changes for old, new in zip(before, after, strict=True))
    turn = max(longest(new.turns, old.turns) for old, new in zip(before, after, strict=True))
    processor = max(longest(new.processor, old.processor) for old, new in zip(before, after, strict=True))
    return Result(row.name, longest_put, lost, turn, processor, seconds, tuple(dict.fromkeys(errors)))


async def _send(channel: Channel, row: Row, left: list[int], errors: list[str], timeout: float) -> None:
    while left:
        number = left.pop()
        path, body = row.requests[number % len(row.requests)]
        try:
            await channel.unary(path, body, timeout=timeout)
        except RpcError as error:
            errors.append(error.message)


@dataclass(frozen=True)
class _Metrics:
    """turns, processor: of turns of the event loop and of their processor time, how many by upper bound, cumulative."""

    leader_changes: int
    turns: dict[float, int]
    processor: dict[float, int]


def longest(counts: dict[float, int], before: dict[float, int]) -> float:
    """The bound of the highest bucket that has counted since `before`. Counts are cumulative."""
    longest, previous = 0.0, 0
    for bound in sorted(counts):
        counted = counts[bound] - before.get(bound, 0)
        if counted > previous:
            longest, previous = bound, counted
    return longest


def _metrics(url: str) -> _Metrics:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as page:
        text = page.read().decode()
    changes = 0
    buckets: dict[str, dict[float, int]] = {"tercet_loop_turn_seconds": {}, "tercet_loop_turn_processor_seconds": {}}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "etcd_server_leader_changes_seen_total":
                changes = int(sample.value)
            elif family.name in buckets and sample.name == f"{family.name}_bucket":
                buckets[family.name][float(sample.labels["le"])] = int(sample.value)
    return _Metrics(changes, *buckets.values())


# The report


def _cells(result: Result) -> list[str]:
    turn = f"<= {result.longest_turn * 1e3:.0f} ms" if result.longest_turn else "-"
    processor = f"<= {result.processor * 1e3:.0f} ms" if result.longest_turn else "-"
    return [f"{result.longest_put * 1e3:,.0f} ms", str(result.leaders_lost), turn, processor, f"{result.seconds:.1f} s"]


def failures(results: Sequence[Result], baseline: Sequence[Result]) -> list[str]:
    """What must not happen, by row of tercet's `results`; empty where all is well."""
    theirs = {result.row: result.longest_put for result in baseline}
    found = []
    for result in results:
        if result.leaders_lost:
            found.append(f"{result.row}: {result.leaders_lost} leaders lost")
        if result.longest_turn > TURN_SECONDS_MAX:
            found.append(f"{result.row}: a turn of up to {result.longest_turn * 1e3:.0f} ms")
        if result.longest_put > max(PUT_SECONDS_MAX, theirs.get(result.row, 0.0)):
            found.append(f"{result.row}: a put of {result.longest_put * 1e3:.0f} ms")
        found += [f"{result.row}: {error}" for error in result.errors]
    return found


def table(measured: Sequence[tuple[System, Sequence[Result]]], keys: int) -> list[list[str]]:
    """The header, then a line for each row."""
    columns = ("longest put", "leaders lost", "longest turn", "on a processor", "time")
    header = [f"{keys:,} keys", *(f"{system.short}: {column}" for system, _ in measured for column in columns)]
    names = list(dict.fromkeys(result.row for _, results in measured for result in results))
    lines = []
    for name in names:
        cells = [name]
        for _, results in measured:
            found = next((result for result in results if result.row == name), None)
            cells += _cells(found) if found is not None else ["-"] * len(columns)
        lines.append(cells)
    return [header, *lines]


def _show(lines: Sequence[Sequence[str]], console: Console) -> None:
    shown = Table(*lines[0])
    for column in shown.columns[1:]:
        column.justify = "right"
    for line in lines[1:]:
        shown.add_row(*line)
    console.print(shown)


def _is_chosen(texts: Sequence[str], name: str) -> bool:
    return not texts or any(text in name for text in texts)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--keys", type=click.IntRange(min=1), default=KEYS, show_default=True, help="How many keys.")
@click.option("--rows", "texts", multiple=True, metavar="TEXT", help="Only the rows whose name contains TEXT. Repeatable.")
@click.option("--systems", type=click.Choice(["both", "tercet", "etcd"]), default="both", show_default=True)
@comparison_options
def command(
    keys: int,
    texts: tuple[str, ...],
    systems: str,
    output: str,
    data_dir: Path,
    tercet_program: str | None,
    etcd_program: str | None,
) -> int:
    """Compare tercet with etcd under requests that are expensive to answer."""
    measured: list[tuple[System, list[Result]]] = []
    console = Console(stderr=True)
    try:
        chosen = []
        if systems != "tercet":
            chosen.append(etcd_system(shlex.split(etcd_program or "")))
        if systems != "etcd":
            chosen.append(tercet_system(shlex.split(tercet_program or "")))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for system in chosen:
                place = data_dir.absolute() / f"hostile-{system.name.replace(' ', '-')}"
                results = runner.run(measure(system, keys, place, partial(_is_chosen, texts), console.print))
                measured.append((system, results))
    except TercetError as error:
        raise click.ClickException(with_log_tail(error)) from error
    if output == "json":
        click.echo(json.dumps({system.name: [asdict(result) for result in results] for system, results in measured}))
    elif output == "markdown":
        click.echo(markdown_table(table(measured, keys)))
    else:
        _show(table(measured, keys), wide_console())
    ours = next((results for system, results in measured if system.short == "tercet"), [])
    theirs = next((results for system, results in measured if system.short == "etcd"), [])
    wrong = failures(ours, theirs)
    for line in wrong:
        console.print(f"[red]{line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
