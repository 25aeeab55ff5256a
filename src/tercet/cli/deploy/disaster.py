"""`tercet deploy restore` and `recover`: after the loss of the data, or of the majority."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tercet.cli.deploy.agreement import change, change_options
from tercet.cli.deploy.hosts import known_host, limit_to
from tercet.cli.deploy.options import Options, shared_options, with_click_errors

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm

_REVISIONS_BUMPED = 1_000_000_000


@click.command(
    short_help="Replace the data of the cluster by a snapshot.",
    epilog="""\b
The snapshot may come from `tercet deploy backup`, from a host, or from any etcd. A snapshot of what is there is saved first,
and the files of the members are kept. If it is interrupted, also by a reboot, run it again with the same snapshot.
Examples:
  tercet deploy restore backups/etcd-cluster-20260102T030405Z.db --dry-run
  tercet deploy restore backups/etcd-cluster-20260102T030405Z.db""",
)
@click.argument("snapshot", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--bump-revision",
    "bump",
    type=click.IntRange(0, 1 << 60),
    default=_REVISIONS_BUMPED,
    show_default=True,
    help="Raise the revision by this number, and mark all before it as compacted, so that clients notice; 0: do not.",
)
@click.option(
    "--identity",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the secret key of an encrypted snapshot, of age or of `tercet pki age-key`.",
)
@click.option("--skip-hash-check", is_flag=True, help="Accept a file without SHA-256, copied from a data directory.")
@click.option(
    "--backups",
    type=click.Path(path_type=Path),
    default=Path("backups"),
    show_default=True,
    help="Local directory for the snapshot of what is there.",
)
@click.option("--no-backup", is_flag=True, help="Do not save a snapshot before.")
@click.option("--limit", "names", multiple=True, metavar="NAME", help="Restore on this host only; repeatable.")
@change_options
@shared_options()
def restore(
    options: Options,
    snapshot: Path,
    bump: int,
    identity: Path | None,
    skip_hash_check: bool,
    backups: Path,
    no_backup: bool,
    names: tuple[str, ...],
    yes: bool,
    dry_run: bool,
) -> None:
    """Restore SNAPSHOT on all hosts. Every key and value that the cluster has now is replaced."""
    from tercet.pki.age import read_key

    cluster = options.cluster()
    limit_to(options, cluster, names)
    key = None if identity is None else with_click_errors(lambda: read_key(identity.read_text(errors="replace")))

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.restore(
            snapshot,
            bump=bump,
            skip_hash_check=skip_hash_check,
            key=key,
            backups=None if no_backup else backups,
            dry_run=dry_run,
            confirm=confirm,
        )

    then = f"`tercet deploy status`; remove {cluster.paths.data}/replaced-... on the hosts when the data before is not needed"
    change(options, cluster, work, yes=yes, dry_run=dry_run, done="Restored", nothing="", then=then, by_name=True)


@click.command(
    short_help="Continue after the loss of the majority.",
    epilog="""\b
It finds the survivor with the newest log, says what may be lost, keeps a copy of its files, restarts it as the only member,
and adds the other hosts again. If it is interrupted, run it again: it continues.
Examples:
  tercet deploy recover --dry-run
  tercet deploy recover --lost kube-node2 --lost kube-node3""",
)
@click.option("--lost", "lost", multiple=True, metavar="NAME", help="This host will not come back; repeatable.")
@click.option("--force", is_flag=True, help="Recover although a majority could come back.")
@change_options
@shared_options()
def recover(options: Options, lost: tuple[str, ...], force: bool, yes: bool, dry_run: bool) -> None:
    """Recover a cluster that has lost its majority. Acknowledged writes that no survivor has are lost."""
    cluster = options.cluster()
    for name in lost:
        known_host(cluster, name)

    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.recover(lost=lost, force=force, dry_run=dry_run, confirm=confirm)

    nothing = "a majority commits, and every reached host has a member"
    then = "run `tercet deploy recover` again when other hosts are back, or `tercet deploy member remove NAME`"
    change(options, cluster, work, yes=yes, dry_run=dry_run, done="Recovered", nothing=nothing, then=then, by_name=True)
