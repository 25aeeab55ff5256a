"""`tercetctl`: a client for tercet and etcd with etcdctl's commands, flags, output and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from tercet.cli.ctl.alarm import ALARM
from tercet.cli.ctl.command import Command, Found, UnknownCommand, find, help_text
from tercet.cli.ctl.endpoint import ENDPOINT
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import FlagError, parse
from tercet.cli.ctl.keys import DELETE, GET, PUT
from tercet.cli.ctl.maintenance import COMPACTION, DEFRAG, MOVE_LEADER
from tercet.cli.ctl.member import MEMBER
from tercet.cli.ctl.session import GLOBAL_FLAGS, Session
from tercet.cli.ctl.snapshot import SNAPSHOT
from tercet.cli.ctl.status_text import status_text
from tercet.cli.ctl.txn import TXN
from tercet.cli.ctl.version import VERSION
from tercet.client import AuthenticationError
from tercet.errors import StatusError

ROOT = Command(
    "tercetctl",
    "a command line client for tercet and etcd, with etcdctl's commands",
    flags=GLOBAL_FLAGS,
    commands=(ALARM, COMPACTION, DEFRAG, DELETE, ENDPOINT, GET, MEMBER, MOVE_LEADER, PUT, SNAPSHOT, TXN, VERSION),
    description=(
        "Every global flag has an environment variable: ETCDCTL_ENDPOINTS for --endpoints, ETCDCTL_CACERT for --cacert, ...\n"
        "Commands can be abbreviated to an unambiguous prefix: `tercetctl mem li`."
    ),
    examples=(
        "tercetctl put greeting hello",
        "tercetctl get --prefix greet",
        "tercetctl --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert me.crt --key me.key endpoint health --cluster",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Returns etcdctl's exit code."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(line)
    except KeyboardInterrupt:
        # Exit by the signal, so that a shell also ends a loop around the command.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the interpreter's flush at exit succeeds
        return Exit.ERROR


def _run(line: list[str]) -> int:
    wants_help = line[:1] == ["help"]
    try:
        found = find(ROOT, line[1:] if wants_help else line)
        values, positional = parse(found.flags, found.arguments)
    except UnknownCommand as error:
        return _fail(Exit.ERROR, str(error))
    except FlagError as error:
        return _fail(Exit.ERROR, f"{error}\nRun '{_title(line)} --help' for usage.")
    if wants_help or values.bool("help") or found.command.run is None:
        sys.stdout.write(help_text(found))
        return Exit.SUCCESS
    session = Session(values)
    try:
        asyncio.run(_execute(found, session, positional))
    except CommandError as error:
        return _fail(error.exit_code, str(error))
    except AuthenticationError as error:
        return _fail(Exit.BAD_CONNECTION, status_text(error))
    except StatusError as error:
        return _fail(Exit.ERROR, status_text(error))
    sys.stdout.flush()
    return Exit.SUCCESS


async def _execute(found: Found, session: Session, positional: list[str]) -> None:
    if found.command.run is not None:
        await found.command.run(session, positional)


def _title(line: list[str]) -> str:
    return find(ROOT, line).title


def _fail(code: Exit, text: str) -> Exit:
    sys.stdout.flush()
    if text:
        sys.stderr.write(f"Error: {text}\n")
    return code
