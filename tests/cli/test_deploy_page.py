"""docs/deploy.md is valid: its commands parse, its cluster files load."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tercet.cli.deploy.command import command
from tercet.deploy.cluster.cluster_file import parse

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
MEMBERS = """
name: etcd-cluster
hosts: [{name: kube-node1, address: 172.27.129.105}, {name: kube-node2, address: 172.27.129.111},
        {name: kube-node3, address: 172.27.129.112}]
"""


def commands() -> Iterator[str]:
    """Commands after a prompt or in backticks."""
    text = PAGE.read_text()
    for found in re.finditer(r"\$ (tercet deploy [^\n]*)|`(tercet deploy [^`\n]*)`", text):
        yield (found[1] or found[2]).rstrip()


def blocks(kind: str) -> Iterator[str]:
    for found in re.finditer(rf"^```{kind}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        yield found[1]


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_commands_parse(line: str, tmp_path: Path) -> None:
    (tmp_path / "snapshot").touch()
    words = [
        str(tmp_path / "snapshot") if word == "SNAPSHOT" or word.endswith(".db") else word
        for word in shlex.split(line, comments=True)[2:]
    ]
    is_name = len(words) == 1  # of a command, within a sentence
    assert isinstance(command, click.Group)
    context = click.Context(command, info_name="tercet deploy")
    command.parse_args(context, words)
    found: click.Command = command
    while isinstance(found, click.Group):  # certs and member have commands of their own
        name, inner, arguments = found.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        found = inner
        context = found.make_context(name, list(arguments), parent=context, resilient_parsing=is_name)
    assert not context.args


def test_every_command_is_documented() -> None:
    assert isinstance(command, click.Group)
    documented = {word for line in commands() for word in shlex.split(line, comments=True)[2:]}
    assert set(command.commands) <= documented


@pytest.mark.parametrize("block", list(blocks("yaml")))
def test_settings_are_valid(block: str) -> None:
    text = block if "hosts:" in block else MEMBERS + block
    assert parse(text, Path("cluster.yaml")).hosts


def test_the_page_has_no_secret() -> None:
    assert "PRIVATE KEY" not in PAGE.read_text()
