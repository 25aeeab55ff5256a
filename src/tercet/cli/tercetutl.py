"""`tercetutl`: work on the files of members that do not run, with etcdutl's commands, flags, output and exit codes.

Started through a link named `etcdutl`, it calls itself that.
"""

from __future__ import annotations

from collections.abc import Sequence

from tercet.cli.ctl.command import Command, Found
from tercet.cli.ctl.flags import Values
from tercet.cli.ctl.program import run_program
from tercet.cli.utl.context import GLOBAL_FLAGS, Context


def _command(name: str, module: str, summary: str) -> Command:
    return Command(name, summary, module=f"tercet.cli.{module}")


ROOT = Command(
    "tercetutl",
    "Work on snapshots and data directories of members that do not run, etcd's and tercet's.",
    flags=GLOBAL_FLAGS,
    commands=(
        _command("defrag", "utl.defrag:DEFRAG", "Rewrite a database to release unused space"),
        _command("snapshot", "utl.snapshot:SNAPSHOT", "Restore and describe snapshots"),
        _command("hashkv", "utl.hashkv:HASHKV", "Hash the keys and their history in a database"),
        _command("version", "utl.version:VERSION", "Print the version"),
        _command("completion", "ctl.completion:COMPLETION", "Print a completion script for a shell"),
        _command("migrate", "utl.migrate:MIGRATE", "Change the storage version of a database"),
        _command("convert", "utl.convert:CONVERT", "Convert the data directory of an etcd member to one of tercet, or back"),
        Command("help", "Show the page of a command"),
    ),
    examples=(
        "tercetutl snapshot restore backup.db --data-dir n1.etcd",
        "tercetutl convert --data-dir n1.etcd --output-dir n1.new",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns etcdutl's exit code."""
    return run_program(ROOT, "etcdutl", arguments, _execute)


def _execute(found: Found, values: Values, arguments: list[str]) -> None:
    if found.command.run is not None:
        found.command.run(Context(values, found.path[0]), arguments)
