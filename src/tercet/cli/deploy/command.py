"""`tercet deploy`: from one cluster file to a running cluster on real hosts, and what is done with it from then on.

Here are the commands that look at the cluster and those that change it; `deploy_init` and `deploy_hosts` have the others.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tercet.cli.ctl.output import make_printer
from tercet.cli.deploy import view
from tercet.cli.deploy.hosts import env, known_host, logs, ssh
from tercet.cli.deploy.init import init
from tercet.cli.deploy.options import Setting, looked, run, shared_options, watched
from tercet.cli.deploy.prompts import confirmed, has_terminal

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan

_YES = ("y", "yes")
F = TypeVar("F", bound=Callable[..., Any])


class _Group(click.Group):
    """A command that is not there is answered with the one that may be meant."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            near = get_close_matches(args[0], self.commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.commands)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are needed."""
        return list(self.commands)


@click.group(
    name="deploy",
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
From a tutorial's environment.sh to a cluster:
  tercet deploy init --from environment.sh      writes cluster.yaml
  tercet deploy preflight                       what stands in the way, on every host
  tercet deploy plan                            what would be done, as a diff; nothing is touched
  tercet deploy apply                           does it; a second time there is nothing to do
  tercet deploy health                          as `etcdctl endpoint health` on every host
  eval "$(tercet deploy env)" && etcdctl member list

docs/deploy.md walks through it, docs/cluster-file.md has every field of the file.""",
)
@shared_options()
def command(setting: Setting) -> None:
    """Put a cluster of tercet or etcd on hosts with systemd, over SSH, from one file."""
    if "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        click.get_current_context().color = False


def _write_out(default: str, *formats: str) -> Callable[[F], F]:
    return click.option(
        "-w", "--write-out", type=click.Choice(formats), default=default, show_default=True, help="Format of the output."
    )


@command.command()
@_write_out("simple", "simple", "json")
@shared_options()
def preflight(setting: Setting, write_out: str) -> None:
    """Check all hosts for what stands in the way; changes nothing."""
    findings = run(setting.deployment(setting.cluster()).preflight())
    if write_out == "json":
        click.echo(view.json_text(findings), nl=False)
    else:
        click.echo(view.findings_text(findings), nl=False)
        click.echo(view.findings_summary(findings))
    _succeed_if(all(finding.level != "error" for finding in findings))


@command.command(short_help="Show what apply would do, as a diff; changes nothing.")
@_write_out("simple", "simple", "json")
@shared_options()
def plan(setting: Setting, write_out: str) -> None:
    """Show what apply would do, on which host, as a diff; changes nothing."""
    cluster = setting.cluster(warn=False)  # the plan's notes tell it
    found = looked(setting, cluster, lambda deployment: deployment.plan(), draws=write_out != "json")
    if write_out == "json":
        click.echo(view.json_text(view.plan_facts(found)), nl=False)
    else:
        _show(found)
        if not found.is_empty:
            click.echo(f"{view.plan_summary(found)}. `tercet deploy apply` does this.")


@command.command(
    epilog="""\b
Run it again whenever cluster.yaml has changed or something went wrong on the way: what is as it should be is left alone.
Members that run are changed one at a time, the leader last, each only while the others are healthy."""
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@shared_options()
def apply(setting: Setting, yes: bool) -> None:
    """Make the hosts as the cluster file says."""
    cluster = setting.cluster(warn=False)  # the plan's notes tell it, beside the question
    began = time.monotonic()
    seconds_asked = 0.0

    async def confirm(found: Plan) -> bool:
        nonlocal seconds_asked
        if yes:
            click.echo(f"{view.plan_summary(found)}:")
            _say_notes(found.notes)
            return True
        _show(found)
        asked = time.monotonic()
        agreed = await _agreed(f"{view.plan_summary(found)}. Go ahead? [y/N] ", _YES)
        seconds_asked = time.monotonic() - asked
        return agreed

    done = watched(setting, cluster, lambda deployment: deployment.apply(confirm))
    if done.is_empty:
        _show(done)
    else:
        took = time.monotonic() - began - seconds_asked
        click.secho(f"Applied: {view.plan_summary(done)} in {took:.1f} s.", fg="green")


@command.command(short_help="Show every member: unit, leader, raft, size, certificates.")
@_write_out("table", "simple", "table", "json")
@shared_options()
def status(setting: Setting, write_out: str) -> None:
    """Show every member: its unit, leader, raft term and index, size, version, and how long its certificates last."""
    cluster = setting.cluster()
    members = run(setting.deployment(cluster).status())
    if write_out == "json":
        click.echo(view.json_text(members), nl=False)
    else:
        click.echo(view.status_table(members) if write_out == "table" else view.status_lines(members), nl=False)
        for remark in view.status_remarks(members, cluster.tls.renewal_days):
            click.secho(f"Warning: {remark}", fg="yellow", err=True)
    _succeed_if(all(member.member_id for member in members))


@command.command(short_help="Ask every member for a read that needs a majority.")
@_write_out("simple", "simple", "table", "json")
@shared_options()
def health(setting: Setting, write_out: str) -> None:
    """Ask every member for a read that needs a majority, as `etcdctl endpoint health` does; exit code 1 if one fails."""
    members = run(setting.deployment(setting.cluster(warn=False)).health())
    printer = make_printer(write_out, sys.stdout.buffer, sys.stderr.buffer, is_hex=False)
    printer.endpoint_health([view.endpoint_health(member) for member in members])
    sys.stdout.flush()
    is_healthy = all(member.is_healthy for member in members)
    if not is_healthy:
        click.echo("Error: unhealthy cluster", err=True)
    _succeed_if(is_healthy)


command.add_command(logs)


@command.command(
    short_help="Restart members one at a time, health-gated.",
    epilog="""\b
Examples:
  tercet deploy restart                         all members, one at a time, the leader last
  tercet deploy restart kube-node2              one member""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@shared_options()
def restart(setting: Setting, names: tuple[str, ...]) -> None:
    """Restart members one at a time, each only while all others are healthy; stops at the first failure."""
    from tercet.deploy.run.rolling import pauses

    cluster = setting.cluster()
    for name in names:
        known_host(cluster, name)
    _say_notes(pauses(cluster))
    watched(setting, cluster, lambda deployment: deployment.restart(names))
    click.secho(f"Restarted {', '.join(names) or 'all members'}.", fg="green")


@command.command(short_help="Stop the members and remove all of it from the hosts.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@click.option("--keep-data", is_flag=True, help="Leave the members' data and backups on the hosts.")
@shared_options()
def destroy(setting: Setting, yes: bool, keep_data: bool) -> None:
    """Stop the members and remove from the hosts what apply has put there, the data included."""
    cluster = setting.cluster()

    async def confirm(found: Plan) -> bool:
        if not yes:
            _show(found, diffs=False)
        lost = "The data stays on the hosts." if keep_data else "All data of the cluster will be lost."
        return yes or await _agreed(f"{lost} Type the cluster's name, {cluster.name}, to go ahead: ", (cluster.name.lower(),))

    async def work(deployment: Deployment) -> Plan:
        return await deployment.destroy(keep_data=keep_data, confirm=confirm)

    done = watched(setting, cluster, work)
    click.echo("Nothing to do: nothing of this cluster is on the hosts." if done.is_empty else f"Destroyed {cluster.name}.")


command.add_command(ssh)
command.add_command(env)
command.add_command(init)
# The order of the help page: the way from a file to a cluster, then what is done with one.
command.commands = {name: command.commands[name] for name in ("init", *command.commands)}


def _succeed_if(is_well: bool) -> None:
    if not is_well:
        raise click.exceptions.Exit(1)


def _show(found: Plan, *, diffs: bool = True) -> None:
    """A plan, with what the operator should know of it."""
    click.echo(view.plan_text(found, diffs=diffs), nl=False)
    _say_notes(found.notes)
    if found.is_empty:
        click.echo("Nothing to do: the hosts are as the cluster file says.")


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.secho(f"Warning: {note}", fg="yellow")


async def _agreed(question: str, answers: tuple[str, ...]) -> bool:
    """Raises ClickException where nobody can be asked, which is no yes."""
    if not has_terminal():
        raise click.ClickException("there is no terminal to ask on; --yes goes ahead without asking")
    return await confirmed(question, answers)
