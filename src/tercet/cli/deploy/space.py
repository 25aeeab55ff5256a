"""`tercet deploy defrag`, `compact` and `backup`: space in the databases, and snapshots of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.agreement import change, change_options, say_next
from tercet.cli.deploy.hosts import known_host
from tercet.cli.deploy.options import Options, run_with_progress, shared_options

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm


@click.command(
    short_help="Shrink the databases, one member at a time.",
    epilog="""\b
Examples:
  tercet deploy defrag                          members whose file is at least a quarter free
  tercet deploy defrag --all kube-node2         one member, whatever its free space""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="Also members with little free space.")
@change_options
@shared_options()
def defrag(options: Options, names: tuple[str, ...], every: bool, yes: bool, dry_run: bool) -> None:
    """Defragment members one at a time, the leader last, and disarm NOSPACE when there is room."""
    cluster = options.cluster()
    for name in names:
        known_host(cluster, name)

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.defrag(names, every=every, dry_run=dry_run, confirm=confirm)

    nothing, then = "no member has much free space", "`tercet deploy status` shows the share of the quota that is used"
    change(options, cluster, work, yes=yes, dry_run=dry_run, done="Defragmented", nothing=nothing, then=then)


@click.command(short_help="Compact old revisions of the keys.")
@click.option("--keep", type=click.IntRange(0), default=1000, show_default=True, help="Number of newest revisions to keep.")
@change_options
@shared_options()
def compact(options: Options, keep: int, yes: bool, dry_run: bool) -> None:
    """Compact the cluster: superseded versions before the newest revisions can no longer be read or watched."""

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.compact(keep=keep, dry_run=dry_run, confirm=confirm)

    nothing = f"the cluster has no more than {keep} revisions"
    then = "`tercet deploy defrag` gives the free space back to the disks"
    change(options, options.cluster(), work, yes=yes, dry_run=dry_run, done="Compacted", nothing=nothing, then=then)


@click.command(
    short_help="Save a verified snapshot on this machine or in a bucket.",
    epilog="""\b
Each host takes snapshots of its own by a timer (section `backups` of the cluster file); this one survives all hosts.
The file has every key and value; it is readable only by you. For s3://, region, endpoint and keys are taken from the
AWS_... variables, and tercet[backup] must be installed.
Examples:
  tercet deploy backup --keep 30
  tercet deploy backup --to s3://bucket/etcd --keep 30
  tercet pki age-key -o backup.key              prints the recipient, age1...
  tercet deploy backup --encrypt-to age1...     restored with --identity backup.key, or decrypted by age""",
)
@click.option("--to", "target", default="backups", show_default=True, help="Local directory, or s3://BUCKET/PREFIX.")
@click.option("--keep", type=click.IntRange(1), help="Remove all but this number of the newest snapshots.")
@click.option("--encrypt-to", "recipient", metavar="RECIPIENT", default="", help="Encrypt the file to this public key of age.")
@shared_options()
def backup(options: Options, target: str, keep: int | None, recipient: str) -> None:
    """Save a snapshot of the cluster, and verify it: restored into a scratch member, it has the hash of the cluster's data."""
    cluster = options.cluster()
    saved = run_with_progress(options, cluster, lambda deployment: deployment.backup(target, keep=keep, recipient=recipient))
    click.secho(f"Saved {saved}.", fg="green")
    restoring = f"tercet deploy restore {saved.rpartition('/')[2] if saved.startswith('s3://') else saved}"
    say_next(f"`{restoring}{' --identity FILE' if recipient else ''}` brings this state back")
