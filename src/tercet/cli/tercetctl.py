"""`tercetctl`: a client for tercet and etcd with etcdctl's commands, flags, output and exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from tercet.cli.ctl.alarm import ALARM
from tercet.cli.ctl.auth import AUTH
from tercet.cli.ctl.command import Command, Found, UnknownCommand, find, help_text
from tercet.cli.ctl.downgrade import DOWNGRADE
from tercet.cli.ctl.elect import ELECT
from tercet.cli.ctl.endpoint import ENDPOINT
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import FlagError, parse
from tercet.cli.ctl.keys import DELETE, GET, PUT
from tercet.cli.ctl.lease import LEASE
from tercet.cli.ctl.lock import LOCK
from tercet.cli.ctl.maintenance import COMPACTION, DEFRAG, MOVE_LEADER
from tercet.cli.ctl.member import MEMBER
from tercet.cli.ctl.role import ROLE
from tercet.cli.ctl.session import GLOBAL_FLAGS, Session
from tercet.cli.ctl.snapshot import SNAPSHOT
from tercet.cli.ctl.status_text import status_text
from tercet.cli.ctl.txn import TXN
from tercet.cli.ctl.user import USER
from tercet.cli.ctl.version import VERSION
from tercet.cli.ctl.watch import WATCH
from tercet.cli.streams import Output, discard, open_missing_streams
from tercet.client import AuthenticationError
from tercet.errors import StatusError

ROOT = Command(
    "tercetctl",
    "a command line client for tercet and etcd, with etcdctl's commands",
    flags=GLOBAL_FLAGS,
    commands=(
        *(ALARM, AUTH, COMPACTION, DEFRAG, DELETE, DOWNGRADE, ELECT, ENDPOINT, GET, LEASE, LOCK, MEMBER, MOVE_LEADER, PUT),
        *(ROLE, SNAPSHOT, TXN, USER, VERSION, WATCH),
    ),
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
    open_missing_streams()
    try:
        return _run(line)
    except KeyboardInterrupt:
        # Exit by the signal, so that a shell also ends a loop around the command.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        discard(sys.stdout)
        return Exit.ERROR


def _run(line: list[str]) -> int:
    out = Output(sys.stdout.buffer, "stdout")
    try:
        code = _run_command(line, out)
        out.flush()
        return code
    except CommandError as error:  # stdout cannot be written
        discard(sys.stdout)
        return _fail(error.exit_code, str(error))


def _run_command(line: list[str], out: Output) -> int:
    try:
        found = find(ROOT, line)
        values, positional = parse(found.flags, found.arguments)
    except UnknownCommand as error:
        return _fail(Exit.ERROR, str(error))
    except FlagError as error:
        return _fail(Exit.ERROR, f"{error}\nRun '{_title(line)} --help' for usage.")
    if found.wants_help or values.bool("help") or found.command.run is None:
        out.write(help_text(found).encode())
        return Exit.SUCCESS
    session = Session(values)
    try:
        asyncio.run(_execute(found, session, positional))
    except CommandError as error:
        out.flush()
        return _fail(error.exit_code, str(error))
    except AuthenticationError as error:
        return _fail(Exit.BAD_CONNECTION, status_text(error))
    except StatusError as error:
        return _fail(Exit.ERROR, status_text(error))
    return Exit.SUCCESS


async def _execute(found: Found, session: Session, positional: list[str]) -> None:
    if found.command.run is not None:
        await found.command.run(session, positional)


def _title(line: list[str]) -> str:
    return find(ROOT, line).title


def _fail(code: int, text: str) -> int:
    if text:
        err = Output(sys.stderr.buffer, "stderr", ignore_errors=True)
        err.write(f"Error: {text}\n".encode("utf-8", "surrogateescape"))
        err.flush()
    return code
