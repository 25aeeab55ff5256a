"""`tercet bench`: load on any server that speaks etcd's API, with throughput and latencies."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tercet.bench import requests
from tercet.bench.latency import Measurement
from tercet.bench.leader import find_leader
from tercet.bench.load import Extent, Load, LoadFailed, close_channels, open_channels
from tercet.bench.load import Progress as ReportProgress
from tercet.cli.click_group import SuggestingGroup
from tercet.client import TLSFiles
from tercet.errors import TercetError

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
_SIZE = click.IntRange(min=0)
_COUNT = click.IntRange(min=1)


@dataclass(frozen=True)
class Target:
    """Endpoints of the load, and its amount."""

    endpoints: tuple[str, ...]
    to_leader: bool
    tls: TLSFiles | None
    clients: int
    connections: int
    extent: Extent
    keys: requests.Keys
    write_out: str

    def context(self) -> ssl.SSLContext | None:
        if self.tls is not None:
            return self.tls.context()
        uses_tls = any(endpoint.startswith("https://") for endpoint in self.endpoints)
        return TLSFiles().context() if uses_tls else None


def _file_option(name: str, variable: str, text: str) -> Callable[[CommandT], CommandT]:
    return click.option(name, default="", metavar="FILE", envvar=variable, show_envvar=True, help=text)


_OPTIONS = (
    click.option(
        "--endpoints",
        "--target",
        default="127.0.0.1:2379",
        show_default=True,
        envvar="ETCDCTL_ENDPOINTS",
        show_envvar=True,
        metavar="LIST",
        help="Members, separated by commas; connections are spread over them.",
    ),
    click.option("--target-leader", is_flag=True, help="Send all load to the leader (found among --endpoints)."),
    click.option("--clients", type=_COUNT, default=1, show_default=True, help="Requests in flight."),
    click.option("--connections", "--conns", type=_COUNT, help="Connections.  [default: 1 for every 64 clients]"),
    click.option("--total", type=_COUNT, help="Number of requests.  [default: 10000, without --duration]"),
    click.option("--duration", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Length of the run."),
    click.option(
        "--warmup",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        metavar="SECONDS",
        help="Time before the measured part.",
    ),
    click.option("--key-space", type=_COUNT, default=10_000, show_default=True, help="Number of distinct keys."),
    click.option("--key-size", type=click.IntRange(1, 4096), default=16, show_default=True, metavar="BYTES"),
    _file_option("--cacert", "ETCDCTL_CACERT", "Trust servers by this CA bundle."),
    _file_option("--cert", "ETCDCTL_CERT", "Client certificate."),
    _file_option("--key", "ETCDCTL_KEY", "Key of the client certificate."),
    click.option("--insecure-skip-tls-verify", is_flag=True, help="Trust any server (for tests)."),
    click.option("-w", "--write-out", type=click.Choice(["simple", "json"]), default="simple", show_default=True),
)
_VALUE_SIZE = click.option("--value-size", "--val-size", type=_SIZE, default=256, show_default=True, metavar="BYTES")


def _load_options(function: CommandT) -> CommandT:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _target(options: dict[str, Any]) -> Target:
    endpoints = tuple(part.strip() for part in options["endpoints"].split(",") if part.strip())
    if not endpoints:
        raise click.BadParameter("no endpoints given", param_hint="--endpoints")
    if options["total"] and options["duration"]:
        raise click.UsageError("--total and --duration cannot be given together, choose one")
    tls = TLSFiles(options["cacert"], options["cert"], options["key"], options["insecure_skip_tls_verify"])
    total = options["total"] or (None if options["duration"] else 10_000)
    return Target(
        endpoints,
        options["target_leader"],
        None if tls == TLSFiles() else tls,
        options["clients"],
        options["connections"] or -(-options["clients"] // 64),
        Extent(total, options["duration"], options["warmup"]),
        requests.Keys(options["key_space"], options["key_size"]),
        options["write_out"],
    )


@click.group(
    name="bench",
    cls=SuggestingGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  tercet bench put --clients 256 --duration 10
  tercet bench range --clients 64 --consistency s --endpoints 127.0.0.1:2379,127.0.0.1:22379
  source tercet-data/env.sh && tercet bench put --clients 256          (the cluster of `tercet up`)
  tercet bench put --endpoints https://127.0.0.1:2379 --cacert ca.crt --cert client.crt --key client.key -w json""",
)
def command() -> None:
    """Generate load on a cluster of tercet or etcd, and show throughput and latencies."""


@command.command()
@_load_options
@_VALUE_SIZE
def put(value_size: int, **options: Any) -> int:
    """Put random values to random keys."""
    return _run("put", options, requests.PUT_PATH, lambda target: requests.puts(target.keys, value_size))


@command.command(name="range")
@_load_options
@_VALUE_SIZE
@click.option(
    "--consistency", type=click.Choice(["l", "s"]), default="l", show_default=True, help="l: linearizable, s: serializable."
)
@click.option("--prefill/--no-prefill", default=True, show_default=True, help="Put all keys before the run.")
def range_(value_size: int, consistency: str, prefill: bool, **options: Any) -> int:
    """Get random keys, one at a time."""
    return _run(
        "range",
        options,
        requests.RANGE_PATH,
        lambda target: requests.ranges(target.keys, serializable=consistency == "s"),
        prefill_value_size=value_size if prefill else None,
    )


@command.command()
@_load_options
@_VALUE_SIZE
@click.option("--operations", type=click.IntRange(1, 128), default=1, show_default=True, help="Puts in one transaction.")
def txn(value_size: int, operations: int, **options: Any) -> int:
    """Put several keys in one transaction."""
    return _run("txn", options, requests.TXN_PATH, lambda target: requests.txns(target.keys, value_size, operations))


def _run(
    name: str,
    options: dict[str, Any],
    path: str,
    make: Callable[[Target], Iterator[bytes]],
    prefill_value_size: int | None = None,
) -> int:
    try:
        target = _target(options)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            measured = runner.run(_measure(name, target, path, make(target), prefill_value_size))
    except TercetError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(measured.as_json()) if target.write_out == "json" else f"{name}: {measured.as_text()}")
    return 1 if measured.errors else 0


async def _measure(
    name: str, target: Target, path: str, prepared: Iterator[bytes], prefill_value_size: int | None
) -> Measurement:
    context = target.context()
    endpoints = [await find_leader(target.endpoints, context)] if target.to_leader else target.endpoints
    channels = await open_channels(endpoints, target.connections, context)
    gc.freeze()  # keeps the prepared requests out of garbage collections
    try:
        if prefill_value_size is not None:
            filling = requests.filling(target.keys, prefill_value_size)
            filled = await Load(requests.TXN_PATH, filling, Extent()).run(channels, 8)
            if filled.errors:
                raise LoadFailed(f"cannot put the keys: {', '.join(filled.errors)}")
        with _progress_bar(name, target.extent) as report_progress:
            return await Load(path, prepared, target.extent).run(channels, target.clients, report_progress)
    finally:
        await close_channels(channels)


@contextmanager
def _progress_bar(name: str, extent: Extent) -> Iterator[ReportProgress | None]:
    """A progress bar on stderr; None if that is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(name, total=extent.seconds or extent.total, rate="")

        def report_progress(done: int, seconds: float) -> None:
            rate = f"{done / seconds:.0f}/s" if seconds > 0 else ""
            bar.update(task, completed=seconds if extent.seconds else done, rate=rate, refresh=True)

        yield report_progress
