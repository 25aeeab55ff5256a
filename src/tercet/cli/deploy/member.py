"""`tercet deploy member`: add, remove and replace members of a running cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tercet.cli.click_group import SuggestingGroup
from tercet.cli.deploy.agreement import change, change_options
from tercet.cli.deploy.hosts import known_host
from tercet.cli.deploy.options import Options, shared_options

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment, MemberAction
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm

_HEALTH = "`tercet deploy health`"


@click.group(cls=SuggestingGroup)
def member() -> None:
    """Add, remove and replace members, one at a time. The others are not restarted."""


@member.command(
    epilog="""\b
Add the host to cluster.yaml first. It joins as a learner, without a vote, and is promoted when it has caught up.
If it is interrupted, run it again: it continues."""
)
@click.argument("name")
@change_options
@shared_options()
def add(options: Options, name: str, yes: bool, dry_run: bool) -> None:
    """Install and start a member on host NAME of the cluster file, and add it to the running cluster."""
    nothing = f"{name} is a member of the cluster"
    _change(options, "add", name, yes=yes, dry_run=dry_run, done="Added", nothing=nothing, then=_HEALTH)


@member.command(
    epilog="""\b
NAME may be a host that cluster.yaml no longer has, or the id of a member without a name.
The data on its host is kept; `tercet deploy member add` moves it aside."""
)
@click.argument("name")
@change_options
@shared_options()
def remove(options: Options, name: str, yes: bool, dry_run: bool) -> None:
    """Remove member NAME from the cluster and stop its service. Refused if the others would have no majority."""
    nothing = f"the cluster has no member {name}"
    then = f"remove {name} from hosts in the cluster file, if it is there; its data stays on the host"
    _change(options, "remove", name, yes=yes, dry_run=dry_run, done="Removed", nothing=nothing, then=then)


@member.command(
    epilog="""\b
For a member whose host or disk is lost. If the host has another address now, change it in cluster.yaml first."""
)
@click.argument("name")
@change_options
@shared_options()
def replace(options: Options, name: str, yes: bool, dry_run: bool) -> None:
    """Remove member NAME and add it again with empty data, at the address in the cluster file."""
    nothing = f"{name} is a member of the cluster"
    _change(options, "replace", name, yes=yes, dry_run=dry_run, done="Replaced", nothing=nothing, then=_HEALTH)


def _change(
    options: Options, action: MemberAction, name: str, *, yes: bool, dry_run: bool, done: str, nothing: str, then: str
) -> None:
    cluster = options.cluster()
    if action != "remove":
        known_host(cluster, name)

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.change_member(action, name, dry_run=dry_run, confirm=confirm)

    change(options, cluster, work, yes=yes, dry_run=dry_run, done=done, nothing=nothing, then=then)
