"""`tercet up`: a cluster with TLS on this host with one command, in the foreground until Ctrl-C.

Makes certificates, starts the members as child processes, waits until all are healthy and says how to talk to them. A member
that dies takes the others down with it, in order, and its last words are shown: a cluster that limps unnoticed helps nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner

from tercet.bench.local_cluster import LocalCluster, Member, MemberDied, NotHealthy, Plan, tercet_program
from tercet.cli.up_plan import Shape, Wish, make_plan, settle
from tercet.client import Health
from tercet.errors import ConfigError
from tercet.gotext.duration import format_duration

_PORT = click.IntRange(1, 65535)


@click.command(
    name="up",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  tercet up                                     three members on 2379, 22379 and 32379, with TLS
  tercet up --base-port 4000                    on 4000/4001, 4010/4011 and 4020/4021 (clients/peers)
  tercet up --client-port 2379 --members 1      one member
  tercet up --no-tls --data-dir /tmp/plain      without certificates

The members' logs are in DIR/NAME/member.log. Started again on the same DIR, the cluster goes on with its data.""",
)
@click.option("--members", type=click.IntRange(1, 9), help="How many members.  [default: 3]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("tercet-data"),
    show_default=True,
    metavar="DIR",
    help="Where data, certificates and logs are kept.",
)
@click.option(
    "--base-port",
    type=_PORT,
    metavar="PORT",
    help="Client port of the first member; its peer port is the next one, the other members follow in steps of ten.  "
    "[default: 2379/2380, 22379/22380, 32379/32380, ...]",
)
@click.option(
    "--client-port",
    "client_ports",
    type=_PORT,
    multiple=True,
    metavar="PORT",
    help="Client port of a member; once for each member.",
)
@click.option(
    "--peer-port",
    "peer_ports",
    type=_PORT,
    multiple=True,
    metavar="PORT",
    help="Peer port of a member; once for each member.  [default: client port + 1]",
)
@click.option("--tls/--no-tls", default=None, help="Whether clients and peers must show certificates.  [default: --tls]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the members may take to become healthy.",
)
@click.option("--program", metavar="COMMAND", help="Run this instead of tercet: any server with etcd's flags.")
def command(
    members: int | None,
    data_dir: Path,
    base_port: int | None,
    client_ports: tuple[int, ...],
    peer_ports: tuple[int, ...],
    tls: bool | None,
    timeout: float,
    program: str | None,
) -> int:
    """Run a cluster on this host, with TLS, until Ctrl-C.

    Certificates are made at the first start and renewed when they are about to expire.
    """
    wish = Wish(members, base_port, client_ports, peer_ports, tls)
    argv = shlex.split(program) if program else tercet_program()
    if shutil.which(argv[0]) is None:
        raise click.BadParameter(f"cannot run {argv[0]}", param_hint="--program")
    try:
        directory = data_dir.absolute()
        plan = _prepare(directory, settle(directory, wish))
    except (ConfigError, OSError) as error:
        raise click.ClickException(str(error)) from error
    return asyncio.run(_serve(LocalCluster(plan, argv), data_dir, timeout))


def _prepare(directory: Path, shape: Shape) -> Plan:
    plan = make_plan(directory, shape)
    busy = plan.ports_in_use()
    if busy:
        ports = ", ".join(f"{port} ({member.name})" for member, port in busy)
        raise ConfigError(
            f"in use on {plan.host}: {ports}. Is this cluster running already? "
            f"Otherwise choose other ports: --base-port PORT with a new --data-dir"
        )
    return plan


async def _serve(cluster: LocalCluster, data_dir: Path, timeout: float) -> int:
    """From start to stop; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupts: list[None] = []

    def interrupted() -> None:
        interrupts.append(None)
        stop.set()
        if len(interrupts) > 1:  # asked twice: no more waiting
            cluster.signal_all(signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)
    try:
        with _progress(f"Starting {len(cluster.plan.members)} members") as say:
            await cluster.start()
            if not await _until_healthy(cluster, timeout, stop, say):
                return 0
        _say_how_to_use(cluster.plan, data_dir)
        return await _until_stopped(cluster, stop)
    except MemberDied as death:
        _say_who_died(death)
        return 1
    except (NotHealthy, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    finally:
        with _progress("Stopping"):
            forced = await cluster.stop()
        if forced:
            click.echo(f"Stopped by force, since they took too long: {', '.join(forced)}", err=True)


async def _until_healthy(cluster: LocalCluster, timeout: float, stop: asyncio.Event, say: Callable[[str], None]) -> bool:
    """Whether all members are; False when asked to stop before."""

    def told(member: Member, health: Health) -> None:
        took = format_duration(health.took_nanoseconds)
        endpoint = cluster.plan.client_url(member)
        say(f"{endpoint} is healthy: successfully committed proposal: took = {took}")

    healthy = asyncio.create_task(cluster.wait_healthy(timeout, told))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((healthy, stopped), return_when=asyncio.FIRST_COMPLETED)
        if healthy.done():
            healthy.result()
            return True
        return False
    finally:
        healthy.cancel()
        stopped.cancel()
        await asyncio.gather(healthy, stopped, return_exceptions=True)


async def _until_stopped(cluster: LocalCluster, stop: asyncio.Event) -> int:
    death = asyncio.create_task(cluster.wait_for_death())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((death, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        death.cancel()
        return 0
    raise await death


def _say_how_to_use(plan: Plan, data_dir: Path) -> None:
    words = [_tercetctl(), f"--endpoints={','.join(plan.client_urls)}"]
    tls = plan.tls
    if tls is not None:
        words += [f"--{flag}={_short(path)}" for flag, path in (("cacert", tls.cacert), ("cert", tls.cert), ("key", tls.key))]
    line = shlex.join([*words, "put", "greeting", "hello"])
    click.echo(f"\nData, certificates and logs are in {data_dir}. Talk to the cluster (etcdctl takes the same flags):\n")
    click.echo(f"  {line}\n\nCtrl-C stops it.")


def _tercetctl() -> str:
    """How this user can call it: by name if it is on the PATH, otherwise the one beside this program."""
    beside = Path(sys.argv[0]).with_name("tercetctl")
    return "tercetctl" if shutil.which("tercetctl") or not beside.exists() else _short(str(beside))


def _short(path: str) -> str:
    with contextlib.suppress(ValueError):
        return str(Path(path).absolute().relative_to(Path.cwd()))
    return path


def _say_who_died(death: MemberDied) -> None:
    click.echo(f"Error: {death}\n\nIts last lines:", err=True)
    for line in death.log_tail.splitlines():
        click.echo(f"  {line}", err=True)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr, for people, nothing for pipes; yields what prints a line to stdout meanwhile."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield click.echo
        return
    # Not redirected: the lines belong to stdout, also when that is a pipe.
    live = Live(Spinner("dots", text), console=console, transient=True, redirect_stdout=False, redirect_stderr=False)

    def say(line: str) -> None:
        live.stop()
        click.echo(line)
        live.start()

    with live:
        yield say
