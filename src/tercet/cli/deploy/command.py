"""`tercet deploy`: deploy and operate a cluster on hosts with systemd, from one cluster file.

This module has the commands that inspect and change the cluster; `init.py` and `hosts.py` have the others.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tercet.cli.click_group import SuggestingGroup
from tercet.cli.ctl.output import make_printer
from tercet.cli.deploy import view
from tercet.cli.deploy.agreement import change, nothing_to_apply, require_terminal, say_next, say_notes, show
from tercet.cli.deploy.certs import certs
from tercet.cli.deploy.disaster import recover, restore
from tercet.cli.deploy.hosts import env, known_host, limit_option, limit_to, logs, ssh
from tercet.cli.deploy.init import init
from tercet.cli.deploy.member import member
from tercet.cli.deploy.options import Options, run, run_with_progress, run_with_table, shared_options
from tercet.cli.deploy.prompts import confirmed
from tercet.cli.deploy.space import backup, compact, defrag
from tercet.cli.deploy.upgrade import migrate, rollback, upgrade

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm

F = TypeVar("F", bound=Callable[..., Any])
_EXIT_CHANGES = 2
_AFTER_APPLY = '`tercet deploy health`; `eval "$(tercet deploy env)"` sets up tercetctl and etcdctl'


class _Group(SuggestingGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In workflow order, not alphabetical."""
        return list(self.commands)


@click.group(
    name="deploy",
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
From the environment.sh of a tutorial to a running cluster:
  tercet deploy init --from environment.sh      write cluster.yaml
  tercet deploy preflight                       check every host
  tercet deploy plan                            show the changes as a diff; change nothing
  tercet deploy apply                           make the changes; safe to rerun
  tercet deploy health                          like `etcdctl endpoint health`, for every member
  eval "$(tercet deploy env)" && etcdctl member list

docs/deploy.md is the tutorial, docs/cluster-file.md the reference of the cluster file.""",
)
@shared_options()
def command(options: Options) -> None:
    """Deploy a cluster of tercet or etcd to hosts with systemd, over SSH, from one file."""
    if "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb":
        click.get_current_context().color = False


def _write_out(default: str, *formats: str) -> Callable[[F], F]:
    return click.option(
        "-w", "--write-out", type=click.Choice(formats), default=default, show_default=True, help="Output format."
    )


@command.command()
@_write_out("simple", "simple", "json")
@limit_option
@shared_options()
def preflight(options: Options, write_out: str, names: tuple[str, ...]) -> None:
    """Check whether every host is ready for a deployment. Changes nothing."""
    cluster = options.cluster()
    limit_to(options, cluster, names)
    findings = run(options.deployment(cluster).preflight())
    if write_out == "json":
        click.echo(view.json_text(findings), nl=False)
    else:
        click.echo(view.findings_text(findings), nl=False)
        click.echo(view.findings_summary(findings))
    _exit_unless(all(finding.level != "error" for finding in findings))


@command.command(
    short_help="Show the changes that apply would make, as a diff.",
    epilog="""\b
With --detailed-exitcode the exit code is 0 if there is nothing to do, 2 if there are changes, 1 for errors.""",
)
@_write_out("simple", "simple", "json")
@click.option("--detailed-exitcode", is_flag=True, help="Exit code 2 if there are changes.")
@limit_option
@shared_options()
def plan(options: Options, write_out: str, detailed_exitcode: bool, names: tuple[str, ...]) -> None:
    """Show the changes that apply would make on each host, as a diff. Changes nothing."""
    cluster = options.cluster(warn=False)  # the plan's notes contain the warnings
    limit_to(options, cluster, names)
    found = run_with_table(options, cluster, lambda deployment: deployment.plan(), draws=write_out != "json")
    if write_out == "json":
        click.echo(view.json_text(view.plan_facts(found)), nl=False)
    else:
        show(found, cluster)
        if found.blockers:
            click.echo(f"{view.plan_summary(found)}. `tercet deploy apply` would stop at these errors:")
            for blocker in found.blockers:
                click.secho(f"Error: {blocker}", fg="red")
        elif not found.is_empty:
            click.echo(f"{view.plan_summary(found)}. Run `tercet deploy apply` to make these changes.")
    _exit_unless(not found.blockers)
    if detailed_exitcode and not found.is_empty:
        raise click.exceptions.Exit(_EXIT_CHANGES)


@command.command(
    epilog="""\b
Rerun it after changing cluster.yaml or after a failure; completed steps are skipped.
Running members are restarted one at a time, the leader last, each only while a majority remains without it."""
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finished step; needs --yes.")
@limit_option
@shared_options()
def apply(options: Options, yes: bool, as_json: bool, names: tuple[str, ...]) -> None:
    """Change the hosts to match the cluster file."""
    if as_json and not yes:
        raise click.UsageError("--json needs --yes")
    cluster = options.cluster(warn=False)  # the plan's notes contain the warnings
    limit_to(options, cluster, names)

    if as_json:
        from tercet.cli.deploy.progress import JsonLines

        found = run_with_progress(options, cluster, lambda deployment: deployment.apply(), progress=JsonLines())
        click.echo(json.dumps({"steps": len(found.steps), "notes": list(found.notes)}))
        return

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await (deployment.plan() if dry_run else deployment.apply(confirm))

    change(options, cluster, work, yes=yes, dry_run=False, done="Applied", nothing=nothing_to_apply(cluster), then=_AFTER_APPLY)


@command.command(short_help="Show the state of every member and its certificates.")
@_write_out("table", "simple", "table", "json")
@shared_options()
def status(options: Options, write_out: str) -> None:
    """Show the unit, version, size, leader, raft term and index of every member, and the days its certificates have left."""
    cluster = options.cluster()
    members = run(options.deployment(cluster).status())
    if write_out == "json":
        click.echo(view.json_text(members), nl=False)
    else:
        click.echo(view.status_table(members) if write_out == "table" else view.status_lines(members), nl=False)
        from tercet.deploy.members.members import operator_certificate_days

        own = operator_certificate_days(cluster)
        for remark in view.status_remarks(members, cluster.tls.renewal_days, operator_days=own):
            click.secho(f"Warning: {remark}", fg="yellow", err=True)
    _exit_unless(all(member.member_id for member in members))


@command.command(short_help="Check the health of every member.")
@_write_out("simple", "simple", "table", "json")
@shared_options()
def health(options: Options, write_out: str) -> None:
    """Check the health of every member as `etcdctl endpoint health` does, by a linearizable read. Exit code 1 on failure."""
    members = run(options.deployment(options.cluster(warn=False)).health())
    printer = make_printer(write_out, sys.stdout.buffer, sys.stderr.buffer, is_hex=False)
    printer.endpoint_health([view.endpoint_health(member) for member in members])
    sys.stdout.flush()
    is_healthy = all(member.is_healthy for member in members)
    if not is_healthy:
        click.echo("Error: unhealthy cluster", err=True)
    _exit_unless(is_healthy)


command.add_command(logs)


@command.command(
    short_help="Restart members one at a time.",
    epilog="""\b
Examples:
  tercet deploy restart                         all members, the leader last
  tercet deploy restart kube-node2              one member""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@shared_options()
def restart(options: Options, names: tuple[str, ...]) -> None:
    """Restart members one at a time, each only while a majority remains without it. Stops at the first failure."""
    from tercet.deploy.run.rolling import pauses

    cluster = options.cluster()
    for name in names:
        known_host(cluster, name)
    say_notes(pauses(cluster))
    run_with_progress(options, cluster, lambda deployment: deployment.restart(names))
    click.secho(f"Restarted {', '.join(names) or 'all members'}.", fg="green")
    say_next("`tercet deploy health`")


@command.command(short_help="Stop the members and remove the deployment from the hosts.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal.")
@click.option("--keep-data", is_flag=True, help="Keep the data and the backups on the hosts.")
@limit_option
@shared_options()
def destroy(options: Options, yes: bool, keep_data: bool, names: tuple[str, ...]) -> None:
    """Stop the members and remove everything that apply has installed, including the data."""
    require_terminal(yes)
    cluster = options.cluster()
    limit_to(options, cluster, names)

    async def confirm(found: Plan) -> bool:
        if not yes:
            show(found, cluster, diffs=False)
        whose = f"on {', '.join(names)}" if names else "of the cluster"
        effect = "The data is kept." if keep_data else f"All data {whose} will be deleted."
        question = f"{effect} Type the name of the cluster ({cluster.name}) to confirm: "
        return yes or await confirmed(question, (cluster.name.lower(),))

    async def work(deployment: Deployment) -> Plan:
        return await deployment.destroy(keep_data=keep_data, confirm=confirm)

    done = run_with_progress(options, cluster, work)
    what = f"{cluster.name} on {', '.join(names)}" if names else cluster.name
    if done.is_empty:
        click.echo("Nothing to do: the hosts have nothing of this cluster.")
    else:
        click.echo(f"Destroyed {what}.")
        say_next(f"`tercet deploy apply` deploys it again; the certificates in {cluster.tls.directory.name} are kept")


command.add_command(certs)
command.add_command(member)
for each in (upgrade, rollback, migrate, defrag, compact, backup, restore, recover):
    command.add_command(each)
command.add_command(ssh)
command.add_command(env)
command.add_command(init)
# The order of the help page: first deployment, then operation.
command.commands = {name: command.commands[name] for name in ("init", *command.commands)}


def _exit_unless(condition: bool) -> None:
    if not condition:
        raise click.exceptions.Exit(1)
