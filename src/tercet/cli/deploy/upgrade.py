"""`tercet deploy upgrade`, `rollback` and `migrate`: another release or engine, one member at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.agreement import change, change_options
from tercet.cli.deploy.options import Options, shared_options

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm


@click.command(
    short_help="Bring the members to another release, one at a time.",
    epilog="""\b
The release is that of engine.source in cluster.yaml (tercet: of the local installation), or --to.
A snapshot is saved first. A member that does not start or commit again is rolled back, and the upgrade stops.
Examples:
  tercet deploy upgrade --dry-run
  tercet deploy upgrade --to etcd-v3.6.16-linux-amd64.tar.gz""",
)
@click.option("--to", "source", metavar="SOURCE", help="Path or URL of the release, instead of engine.source.")
@click.option("--sha256", help="Expected SHA-256 of --to.")
@click.option(
    "--backups",
    type=click.Path(path_type=Path),
    default=Path("backups"),
    show_default=True,
    help="Local directory of snapshots.",
)
@click.option("--no-backup", is_flag=True, help="Do not save a snapshot before.")
@change_options
@shared_options()
def upgrade(
    options: Options, source: str | None, sha256: str | None, backups: Path, no_backup: bool, yes: bool, dry_run: bool
) -> None:
    """Install a release on every host, then activate it member by member, the leader last."""
    if sha256 and not source:
        raise click.UsageError("--sha256 needs --to; for engine.source, set engine.sha256")
    cluster = options.cluster()
    if source:
        cluster = replace(cluster, engine=replace(cluster.engine, source=source, sha256=sha256, version=None))

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.upgrade(backups=None if no_backup else backups, dry_run=dry_run, confirm=confirm)

    nothing = "every member has this release"
    then = "`tercet deploy health`; `tercet deploy rollback` returns to the release before"
    change(options, cluster, work, yes=yes, dry_run=dry_run, done="Upgraded", nothing=nothing, then=then)
    if source and not dry_run:
        click.secho(
            f"Set engine.source: {source} in {cluster.path.name}: apply brings the members to the file's release.", fg="yellow"
        )


@click.command(
    short_help="Roll the members back to the previous release.",
    epilog="""\b
The release is pinned: apply keeps it until `tercet deploy upgrade`. Between minor versions of etcd there is a way
back only until every member runs the new one.""",
)
@change_options
@shared_options()
def rollback(options: Options, yes: bool, dry_run: bool) -> None:
    """Activate the previous release of each host, one member at a time, the leader last."""

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.rollback(dry_run=dry_run, confirm=confirm)

    then = "apply keeps this release; `tercet deploy upgrade` goes forward again"
    nothing = "every member was rolled back; `tercet deploy upgrade` goes forward again"
    change(options, options.cluster(), work, yes=yes, dry_run=dry_run, done="Rolled back", nothing=nothing, then=then)


@click.command(
    short_help="Switch the members to the other engine, one at a time.",
    epilog="""\b
Set engine in cluster.yaml first: {kind: tercet}, or {kind: etcd, source: ...}. Each member is removed, and added again as a
learner that runs the other engine; it copies the data from the others. The leader comes last. The old data is moved aside.
If it is interrupted, run it again: it continues.""",
)
@click.option(
    "--backups",
    type=click.Path(path_type=Path),
    default=Path("backups"),
    show_default=True,
    help="Local directory of snapshots.",
)
@click.option("--no-backup", is_flag=True, help="Do not save a snapshot before.")
@change_options
@shared_options()
def migrate(options: Options, backups: Path, no_backup: bool, yes: bool, dry_run: bool) -> None:
    """Replace etcd by tercet on a running cluster, or tercet by etcd, while it serves."""
    cluster = options.cluster()

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.migrate(backups=None if no_backup else backups, dry_run=dry_run, confirm=confirm)

    nothing = f"every member runs {cluster.engine.kind}"
    then = f"`tercet deploy status`; remove {cluster.paths.data}/replaced-... on the hosts when the data before is not needed"
    change(options, cluster, work, yes=yes, dry_run=dry_run, done="Migrated", nothing=nothing, then=then)
