"""`tercet up`: run a cluster with TLS on this host, in the foreground until Ctrl-C.

It creates certificates, starts the members as child processes, waits until all are healthy, writes DIR/env.sh and prints what
to type next. A member that exits while the cluster starts ends the command; later the other members go on (supervisor.py).
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

from tercet.bench.local_cluster import LocalCluster, Member, MemberExited, NotHealthy, Plan, tercet_program
from tercet.cli.streams import discard
from tercet.cli.up.env_file import ENV_FILE, write_env_file
from tercet.cli.up.plan import Choice, Shape, load_or_create_shape, make_plan
from tercet.cli.up.supervisor import AlreadyRunning, Supervisor, lock_directory, on_hangup, request_restart, short_path
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
  tercet up --restart                           restart the members that have exited

`source DIR/env.sh` sets up tercetctl and etcdctl for the cluster. Each member's log is DIR/NAME/member.log.
Run again on the same DIR, the cluster starts with the data it has.""",
)
@click.option("--members", type=click.IntRange(1, 9), help="Number of members.  [default: 3]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path("tercet-data"),
    show_default=True,
    metavar="DIR",
    help="Directory of data, certificates and logs.",
)
@click.option(
    "--base-port",
    type=_PORT,
    metavar="PORT",
    help="Client port of the first member. Its peer port is PORT+1; further members add 10 each.  "
    "[default: 2379/2380, 22379/22380, 32379/32380, ...]",
)
@click.option(
    "--client-port",
    "client_ports",
    type=_PORT,
    multiple=True,
    metavar="PORT",
    help="Client port of a member; repeat it for each member.",
)
@click.option(
    "--peer-port",
    "peer_ports",
    type=_PORT,
    multiple=True,
    metavar="PORT",
    help="Peer port of a member; repeat it for each member.  [default: client port + 1]",
)
@click.option("--tls/--no-tls", default=None, help="Use mutual TLS between clients, members and peers.  [default: --tls]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the members to become healthy.",
)
@click.option("--program", metavar="COMMAND", help="Run COMMAND instead of tercet: any server that takes etcd's flags.")
@click.option("--restart", is_flag=True, help="Restart the exited members of the cluster that runs in DIR, and return.")
def command(
    members: int | None,
    data_dir: Path,
    base_port: int | None,
    client_ports: tuple[int, ...],
    peer_ports: tuple[int, ...],
    tls: bool | None,
    timeout: float,
    program: str | None,
    restart: bool,
) -> int:
    """Run a cluster with TLS on this host until Ctrl-C.

    Certificates are created at the first start and renewed before they expire.
    """
    directory = data_dir.absolute()
    argv = shlex.split(program) if program else tercet_program()
    if shutil.which(argv[0]) is None:
        raise click.BadParameter(f"cannot run {argv[0]}", param_hint="--program")
    try:
        if restart:
            click.echo(f"Sent the request to `tercet up` (pid {request_restart(directory)}).")
            return 0
        with lock_directory(directory):
            plan = _prepare(
                directory, load_or_create_shape(directory, Choice(members, base_port, client_ports, peer_ports, tls))
            )
            return asyncio.run(_serve(LocalCluster(plan, argv), data_dir, timeout))
    except (ConfigError, AlreadyRunning) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _prepare(directory: Path, shape: Shape) -> Plan:
    plan = make_plan(directory, shape)
    busy = plan.ports_in_use()
    if busy:
        ports = ", ".join(f"{port} ({member.name})" for member, port in busy)
        raise ConfigError(
            f"in use on {plan.host}: {ports}. Choose other ports with --base-port PORT and a new --data-dir, "
            f"or stop the process that listens there"
        )
    write_env_file(directory / ENV_FILE, plan)
    return plan


async def _serve(cluster: LocalCluster, data_dir: Path, timeout: float) -> int:
    """Run the cluster from start to stop; returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupts: list[None] = []

    def interrupted() -> None:
        interrupts.append(None)
        stop.set()
        if len(interrupts) > 1:  # the second Ctrl-C: kill the members instead of waiting for them
            cluster.signal_all(signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupted)

    def hung_up() -> None:
        discard(sys.stdout)
        stop.set()

    on_hangup(loop, hung_up)
    supervisor = Supervisor(cluster, data_dir, stop, echo=click.echo)
    try:
        with _progress(f"Starting {len(cluster.plan.members)} members") as say:
            await supervisor.start()
            if not await _until_healthy(cluster, timeout, stop, say):
                return 0
        click.echo(next_steps(cluster.plan, data_dir))
        return await supervisor.run()
    except MemberExited as exited:
        _print_exit(exited)
        return 1
    except BrokenPipeError:  # `tercet up | head`: the reader has enough, so the cluster stops
        discard(sys.stdout)
        return 0
    except (NotHealthy, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        return 1
    finally:
        with _progress("Stopping"):
            forced = await cluster.stop()
        supervisor.remove_pid_files()
        if forced:
            click.echo(f"Killed, since they did not stop in time: {', '.join(forced)}", err=True)


async def _until_healthy(cluster: LocalCluster, timeout: float, stop: asyncio.Event, say: Callable[[str], None]) -> bool:
    """Whether all members became healthy; False if asked to stop first."""

    def on_healthy(member: Member, health: Health) -> None:
        took = format_duration(health.took_nanoseconds)
        endpoint = cluster.plan.client_url(member)
        say(f"{endpoint} is healthy: successfully committed proposal: took = {took}")

    healthy = asyncio.create_task(cluster.wait_healthy(timeout, on_healthy))
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


def next_steps(plan: Plan, data_dir: Path) -> str:
    """What to type next, word for word as README.md shows it."""
    directory = short_path(str(data_dir))

    def inside(name: str) -> str:
        return shlex.quote(f"{directory}/{name}")

    steps = [
        f"source {inside(ENV_FILE)}",
        "tercetctl put greeting hello",
        "tercetctl get greeting",
        "tercetctl endpoint status -w table",
    ]
    if len(plan.members) > 2:
        steps.append(f"kill -9 $(cat {inside(f'{plan.members[1].name}/pid')})")
    text = "".join(f"  {step}\n" for step in steps)
    return (
        f"\nThe cluster is running. In another terminal:\n\n{text}\n"
        f"Ctrl-C stops it. Data, certificates and logs are in {directory}."
    )


def _print_exit(exited: MemberExited) -> None:
    click.echo(f"Error: {exited}", err=True)
    if exited.log_tail:
        click.echo("\nThe last lines of its log:", err=True)
    for line in exited.log_tail.splitlines():
        click.echo(f"  {line}", err=True)


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr if that is a terminal. Yields a function that prints a line to stdout above it."""
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
