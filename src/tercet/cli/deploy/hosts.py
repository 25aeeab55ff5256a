"""`tercet deploy ssh`, `logs` and `env`: access to hosts and members with the settings of the cluster file."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.options import Options, run, shared_options
from tercet.cli.deploy.prompts import PASSWORD_VARIABLE
from tercet.cli.deploy.view import environment_text

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster, HostSpec

limit_option = click.option(
    "--limit", "names", multiple=True, metavar="NAME", help="Work on this host only; repeatable. Others may be unreachable."
)
_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red")


@click.command(
    short_help="Open an ssh session to a host, or run a command there.",
    epilog="""\b
Examples:
  tercet deploy ssh kube-node1
  tercet deploy ssh kube-node1 -- journalctl -u etcd -n 50""",
)
@click.argument("name")
@click.argument("command", nargs=-1, metavar="[-- COMMAND...]")
@shared_options()
def ssh(options: Options, name: str, command: tuple[str, ...]) -> None:
    """Run ssh with the user, port, key and jump host of the cluster file."""
    spec = known_host(options.cluster(warn=False), name)
    line = ssh_command(spec, command, accept_new=options.accept_new)
    if shutil.which(line[0]) is None:
        raise click.ClickException("ssh is not installed on this machine; install the OpenSSH client")
    environment = {variable: value for variable, value in os.environ.items() if variable != PASSWORD_VARIABLE}
    os.execvpe(line[0], line, environment)


def ssh_command(spec: HostSpec, command: Sequence[str], *, accept_new: bool) -> list[str]:
    """The ssh command line; settings that the cluster file omits are left to ssh's own configuration."""
    settings = spec.ssh
    line = ["ssh"]
    if settings.config is not None:
        line += ["-F", str(settings.config.expanduser())]
    if settings.user is not None:
        line += ["-l", settings.user]
    if settings.port is not None:
        line += ["-p", str(settings.port)]
    if settings.key is not None:
        line += ["-i", str(settings.key.expanduser())]
    if settings.jump is not None:
        line += ["-J", settings.jump]
    if settings.known_hosts is not None:
        line += ["-o", f"UserKnownHostsFile={settings.known_hosts.expanduser()}"]
    if accept_new:
        line += ["-o", "StrictHostKeyChecking=accept-new"]
    return [*line, settings.host or spec.address, *command]


@click.command(
    short_help="Print environment variables for etcdctl and tercetctl.",
    epilog="""\b
Examples:
  eval "$(tercet deploy env)" && etcdctl member list
  eval "$(tercet deploy env kube-node2)"        endpoint of one member""",
)
@click.argument("name", required=False)
@shared_options()
def env(options: Options, name: str | None) -> None:
    """Print the environment variables that etcdctl and tercetctl need, for a shell to eval."""
    from tercet.deploy.cluster.client_environment import client_environment

    cluster = options.cluster(warn=False)
    if name is not None:
        known_host(cluster, name)
    click.echo(environment_text(client_environment(cluster, name)), nl=False)


@click.command(
    epilog="""\b
Examples:
  tercet deploy logs                            last lines of every member
  tercet deploy logs -f kube-node2              follow one member
  tercet deploy -f other.yaml logs -f           before the command, -f names the cluster file""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-f", "--follow", is_flag=True, help="Follow the journals until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Lines per member.")
@shared_options(short_file=False)
def logs(options: Options, names: tuple[str, ...], follow: bool, lines: int) -> None:
    """Show the systemd journals of the members."""
    cluster = options.cluster(warn=False)
    for name in names:
        known_host(cluster, name)
    shown = [host.name for host in cluster.hosts if not names or host.name in names]
    width = max(map(len, shown))
    colours = dict(zip(shown, _COLOURS * len(shown), strict=False))

    async def show() -> None:
        entries = options.deployment(cluster).logs(names, follow=follow, lines=lines)  # none: all that are reached
        async with contextlib.aclosing(entries):  # type: ignore[type-var]
            async for name, line in entries:
                click.echo(f"{click.style(name.ljust(width), fg=colours[name])}  {line}")

    run(show())


def known_host(cluster: Cluster, name: str) -> HostSpec:
    """Raises UsageError with the closest name or the list of names."""
    from difflib import get_close_matches

    names = [host.name for host in cluster.hosts]
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"hosts: {', '.join(names)}"
        raise click.UsageError(f"{cluster.path.name} has no host named {name!r}; {hint}")
    return cluster.host(name)


def limit_to(options: Options, cluster: Cluster, names: tuple[str, ...]) -> None:
    """Take over the values of --limit. Raises UsageError for an unknown name."""
    for name in names:
        known_host(cluster, name)
    options.limit = names
