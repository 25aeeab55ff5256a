"""`tercet metrics`: print Prometheus rules or a Grafana dashboard."""

from __future__ import annotations

import json

import click

from tercet.cli.click_group import SuggestingGroup
from tercet.cli.metrics.dashboard import dashboard
from tercet.cli.metrics.rules import rules

_job = click.option(
    "--job", default=".*(etcd|tercet).*", show_default=True, help="Regular expression of the job label of the members' series."
)


@click.group(cls=SuggestingGroup, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Print alert rules and a dashboard for the members' metrics.

    The names are those of etcd, so both also work for members of etcd.
    """


@command.command("rules")
@_job
def print_rules(job: str) -> None:
    """Print a rules file for Prometheus.

    The conditions of etcd's own alerts, and two for tercet. Check it with `promtool check rules FILE`; `tercetctl doctor`
    judges the same conditions without Prometheus.
    """
    click.echo(rules(_matcher(job)), nl=False)


@command.command("dashboard")
@_job
def print_dashboard(job: str) -> None:
    """Print a dashboard for Grafana, as JSON to import."""
    click.echo(dashboard(_matcher(job)), nl=False)


def _matcher(job: str) -> str:
    return f"job=~{json.dumps(job)}"
