"""Plans on the terminal: shown, agreed on, executed with progress, and summed up. For every command that changes hosts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from tercet.cli.deploy import view
from tercet.cli.deploy.options import Options, run_with_progress, run_with_table
from tercet.cli.deploy.prompts import confirmed, has_terminal

if TYPE_CHECKING:
    from tercet.deploy.cluster.cluster import Cluster
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan

_YES = ("y", "yes")
F = TypeVar("F", bound=Callable[..., Any])


class Change(Protocol):
    """Makes a plan and carries it out after `confirm`, unless `dry_run`. Returns it."""

    def __call__(
        self, deployment: Deployment, *, dry_run: bool, confirm: Callable[[Plan], Awaitable[bool]] | None
    ) -> Awaitable[Plan]: ...


def change_options(command: F) -> F:
    """--yes and --dry-run."""
    decorators = (
        click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation; required without a terminal."),
        click.option("--dry-run", is_flag=True, help="Show the steps; change nothing."),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def change(
    options: Options,
    cluster: Cluster,
    work: Change,
    *,
    yes: bool,
    dry_run: bool,
    done: str,
    nothing: str,
    then: str = "",
    by_name: bool = False,
) -> None:
    """Run a command that changes hosts. done, nothing: the last line. then: what to do next, if something was done.

    by_name: confirmed by typing the cluster's name.
    """
    if dry_run:
        found = run_with_table(options, cluster, lambda deployment: work(deployment, dry_run=True, confirm=None))
        show(found, cluster, nothing=nothing)
        if not found.is_empty:
            click.echo(f"{view.plan_summary(found)}. Nothing was changed (--dry-run).")
        return
    require_terminal(yes)
    agreement = Agreement(cluster, yes=yes, by_name=by_name)
    began = time.monotonic()
    found = run_with_progress(options, cluster, lambda deployment: work(deployment, dry_run=False, confirm=agreement.confirm))
    if found.is_empty:
        show(found, cluster, nothing=nothing)
    else:
        took = time.monotonic() - began - agreement.seconds_waited
        click.secho(f"{done}: {view.plan_summary(found)} in {took:.1f} s.", fg="green")
        say_next(then)


def say_next(text: str) -> None:
    """Print what to do after a command. "": nothing."""
    if text:
        click.echo(f"Next: {text}")


class Agreement:
    """The confirmation of a plan, by "y" or by the name of the cluster. seconds_waited: for the answer."""

    def __init__(self, cluster: Cluster, *, yes: bool, by_name: bool = False) -> None:
        self._cluster = cluster
        self._yes = yes
        self._by_name = by_name
        self.seconds_waited = 0.0

    async def confirm(self, found: Plan) -> bool:
        if self._yes:
            click.echo(f"{view.plan_summary(found)}:")
            say_notes(found.notes)
            return True
        show(found, self._cluster)
        asked = time.monotonic()
        name = self._cluster.name
        question = f"Type the name of the cluster ({name}) to confirm: " if self._by_name else "Proceed? [y/N] "
        agreed = await confirmed(f"{view.plan_summary(found)}. {question}", (name.lower(),) if self._by_name else _YES)
        self.seconds_waited = time.monotonic() - asked
        return agreed


def show(found: Plan, cluster: Cluster, *, diffs: bool = True, nothing: str = "") -> None:
    """Print a plan and its notes."""
    click.echo(view.plan_text(found, diffs=diffs, hosts={spec.name: spec.address for spec in cluster.hosts}), nl=False)
    say_notes(found.notes)
    if found.is_empty:
        click.echo(f"Nothing to do: {nothing or nothing_to_apply(cluster)}.")


def nothing_to_apply(cluster: Cluster) -> str:
    if cluster.adopted:
        return "adopted hosts stay as they are; `adopted: false` in the cluster file lets apply manage them"
    return "the hosts match the cluster file"


def say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.secho(f"Warning: {note}", fg="yellow")


def require_terminal(yes: bool) -> None:
    """Before any work, since there will be no answer. Raises ClickException."""
    if not (yes or has_terminal()):
        raise click.ClickException("no terminal to confirm on; pass --yes to proceed without confirmation")
