"""`tercet deploy ssh`, `logs` and `env`: the ways to a host and its member by hand, with what the cluster file knows."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.options import Setting, reported, run, shared_options
from tercet.cli.deploy.prompts import PASSWORD_VARIABLE
from tercet.cli.deploy.view import environment_text

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster, HostSpec

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "bright_red")


@click.command(
    short_help="Run ssh to a host, as the cluster file says.",
    epilog="""\b
Examples:
  tercet deploy ssh kube-node1
  tercet deploy ssh kube-node1 -- journalctl -u etcd -n 50""",
)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[-- COMMAND...]")
@shared_options()
def ssh(setting: Setting, name: str, words: tuple[str, ...]) -> None:
    """Run ssh to a host, with the login, port, key and jump host of the cluster file."""
    spec = known_host(setting.cluster(warn=False), name)
    line = ssh_command(spec, words, accept_new=setting.accept_new)
    if shutil.which(line[0]) is None:
        raise click.ClickException("there is no ssh on this machine; install OpenSSH's client")
    environment = {variable: value for variable, value in os.environ.items() if variable != PASSWORD_VARIABLE}
    os.execvpe(line[0], line, environment)


def ssh_command(spec: HostSpec, words: Sequence[str], *, accept_new: bool) -> list[str]:
    """What one would type. Whatever the cluster file does not say is as ssh's own files have it."""
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
    return [*line, settings.host or spec.address, *words]


@click.command(
    short_help="Print the variables for etcdctl and tercetctl.",
    epilog="""\b
Examples:
  eval "$(tercet deploy env)"                   then: etcdctl member list
  eval "$(tercet deploy env kube-node2)"        only this member""",
)
@click.argument("name", required=False)
@shared_options()
def env(setting: Setting, name: str | None) -> None:
    """Print the variables that etcdctl and tercetctl need, for a shell to eval."""
    cluster = setting.cluster(warn=False)
    if name is not None:
        known_host(cluster, name)
    click.echo(environment_text(reported(lambda: setting.deployment(cluster).environment(name))), nl=False)


@click.command(
    epilog="""\b
Examples:
  tercet deploy logs                            the last lines of every member
  tercet deploy logs -f kube-node2              of one, as they come
  tercet deploy -f other.yaml logs -f           -f before the command names the cluster file""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Lines of each member.")
@shared_options(short_file=False)
def logs(setting: Setting, names: tuple[str, ...], follow: bool, lines: int) -> None:
    """Show the members' journals."""
    cluster = setting.cluster(warn=False)
    for name in names:
        known_host(cluster, name)
    shown = [host.name for host in cluster.hosts if not names or host.name in names]
    width = max(map(len, shown))
    colours = dict(zip(shown, _COLOURS * len(shown), strict=False))

    async def show() -> None:
        entries = setting.deployment(cluster).logs(shown, follow=follow, lines=lines)
        async with contextlib.aclosing(entries):  # type: ignore[type-var]
            async for name, line in entries:
                click.echo(f"{click.style(name.ljust(width), fg=colours[name])}  {line}")

    run(show())


def known_host(cluster: Cluster, name: str) -> HostSpec:
    """Raises ClickException that names those there are."""
    from difflib import get_close_matches

    names = [host.name for host in cluster.hosts]
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise click.UsageError(f"{cluster.path.name} has no host {name!r}; {hint}")
    return cluster.host(name)
