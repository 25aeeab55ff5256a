"""`tercet deploy certs`: renewal and rotation of the certificates and CAs of a running cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from tercet.cli.click_group import SuggestingGroup
from tercet.cli.deploy.agreement import change, change_options
from tercet.cli.deploy.hosts import limit_option, limit_to
from tercet.cli.deploy.options import Options, shared_options

if TYPE_CHECKING:
    from tercet.deploy.deployment import Deployment
    from tercet.deploy.plan.certificates import Renewal
    from tercet.deploy.plan.plan import Plan
    from tercet.deploy.run.agreed import Confirm
    from tercet.deploy.run.certificates import Stage


@click.group(cls=SuggestingGroup)
def certs() -> None:
    """Renew and rotate certificates, one member at a time. `tercet deploy status` shows the days that are left."""


@certs.command(
    epilog="""\b
Examples:
  tercet deploy certs renew --due --dry-run     what would be renewed
  tercet deploy certs renew --due --yes         from a timer: does nothing until certificates are due"""
)
@click.option("--due", is_flag=True, help="The certificates in the last 30 days (or the last third) of their lifetime.")
@limit_option
@change_options
@shared_options()
def renew(options: Options, due: bool, names: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Renew the certificates that are about to expire, and restart their members one at a time."""
    if not due:
        raise click.UsageError("give --due; `tercet deploy certs rotate` replaces every certificate")
    then = "`tercet deploy status` shows the days that are left"
    _renew(options, "due", names, yes=yes, dry_run=dry_run, done="Renewed", nothing="no certificate is due", then=then)


@certs.command(
    short_help="Replace every certificate, or the CAs.",
    epilog="""\b
A CA is rotated in three stages, each with a rolling restart: every member trusts both CAs (trust); every certificate
is signed by the new one (certificates); the old one is no longer trusted. Clients need the new ca.pem of tls.directory,
which has both CAs, before the second stage, and certificates of the new CA before the third:
  tercet deploy certs rotate --ca --until trust          then copy ca.pem to the clients
  tercet deploy certs rotate --ca --until certificates   then replace the certificates of the clients
  tercet deploy certs rotate --ca                        the rest; also continues what was interrupted""",
)
@click.option("--ca", is_flag=True, help="Replace the CAs of clients and peers as well.")
@click.option("--until", type=click.Choice(("trust", "certificates")), help="With --ca: stop after this stage.")
@limit_option
@change_options
@shared_options()
def rotate(options: Options, ca: bool, until: Stage | None, names: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Replace every certificate, whatever its age, and restart the members one at a time."""
    if until and not ca:
        raise click.UsageError("--until needs --ca")
    if names and ca:
        raise click.UsageError("--limit: a CA is rotated on all hosts, not on some")
    _renew(
        options,
        "replaced CA" if ca else "all",
        names,
        yes=yes,
        dry_run=dry_run,
        done="Rotated",
        nothing="no stage is left",
        then=_NEXT[until] if ca else "`tercet deploy status` shows the days that are left",
        until=until or "all",
    )


_NEXT: Mapping[Stage | None, str] = {
    "trust": "copy ca.pem of tls.directory to the clients, then run `tercet deploy certs rotate --ca --until certificates`",
    "certificates": "replace the certificates of the clients, then run `tercet deploy certs rotate --ca`",
    None: 'clients that trust the replaced CA only no longer connect; `eval "$(tercet deploy env)"` uses the new one',
}


def _renew(
    options: Options,
    renewal: Renewal,
    limit: tuple[str, ...],
    *,
    yes: bool,
    dry_run: bool,
    done: str,
    nothing: str,
    then: str,
    until: Stage = "all",
) -> None:
    async def work(deployment: Deployment, *, dry_run: bool, confirm: Confirm | None) -> Plan:
        return await deployment.renew_certificates(renewal=renewal, until=until, dry_run=dry_run, confirm=confirm)

    cluster = options.cluster()
    limit_to(options, cluster, limit)
    change(options, cluster, work, yes=yes, dry_run=dry_run, done=done, nothing=nothing, then=then)
