"""watch: print the changes of keys, or run a command for each; interactively also several watches on one stream."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.cli.ctl.command import HELP_FLAG, Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.execute import ExecutionError, execute
from tercet.cli.ctl.flags import Flag, FlagError, Values, parse
from tercet.cli.ctl.lines import Lines
from tercet.cli.ctl.txn_text import split_words
from tercet.client import Watch, WatchStream, prefix_end
from tercet.gotext.strconv import quote
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_ARGUMENTS = "bad number of arguments"
_CONFLICT = "bad number of arguments (found conflicting environment key)"
_SEPARATOR = "bad number of arguments (found separator --, but no commands)"
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"
_FUTURE = "etcdserver: mvcc: required revision is a future revision"


@dataclass(frozen=True)
class _Order:
    """What one `watch` line asks for: what to watch, and the command to run for each event."""

    request: rpc_pb2.WatchCreateRequest
    command: list[str]


def _order(session: Session, values: Values, arguments: list[str]) -> _Order:
    """Raises CommandError."""
    keys, command = _words(session, values, arguments)
    return _Order(_request(values, keys), command)


def _words(session: Session, values: Values, arguments: list[str]) -> tuple[list[str], list[str]]:
    """The keys, which are the arguments before `--` or those of the environment, and the command. Raises CommandError."""
    command = values.separated
    if command == []:
        raise bad_arguments(_SEPARATOR)
    keys = arguments[: len(arguments) - len(command or ())]
    from_environment = _environment_keys(session)
    if from_environment and keys:
        raise bad_arguments(_CONFLICT)
    return [*from_environment, *keys], command or []


def _environment_keys(session: Session) -> list[str]:
    key, range_end = session.variable("ETCDCTL_WATCH_KEY"), session.variable("ETCDCTL_WATCH_RANGE_END")
    if range_end and not key:
        raise bad_arguments(f"ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={quote(os.fsencode(range_end))}")
    return [word for word in (key, range_end) if word]


def _request(values: Values, keys: list[str]) -> rpc_pb2.WatchCreateRequest:
    if not keys:
        raise bad_arguments(_ARGUMENTS)
    key = os.fsencode(keys[0])
    range_end = os.fsencode(keys[1]) if len(keys) == 2 else b""  # etcdctl ignores a range_end that is followed by more
    if values.bool("prefix"):
        if len(keys) == 2:
            raise bad_arguments("`range_end` and `--prefix` are mutually exclusive")
        range_end = prefix_end(key)
        key = key or b"\0"
    return rpc_pb2.WatchCreateRequest(
        key=key,
        range_end=range_end,
        start_revision=values.int("rev"),
        prev_kv=values.bool("prev-kv"),
        progress_notify=values.bool("progress-notify"),
    )


async def _watch(session: Session, arguments: list[str]) -> None:
    if session.values.bool("interactive"):
        await _watch_lines(session)
        return
    keys, command = _words(session, session.values, arguments)
    session.open()
    async with session.client(timeout=math.inf) as client, WatchStream(client) as stream:
        await _print(session, await stream.watch(_request(session.values, keys)), command)
    raise CommandError(Exit.INTERRUPTED, "watch is canceled by the server")


async def _print(session: Session, watch: Watch, command: Sequence[str]) -> None:
    """Print responses, and run the command for each event, until the watch is cancelled."""
    async for response in watch:
        if response.canceled:
            session.warn(f"watch was canceled ({_reason(response)})")
        elif not response.events and response.header.revision:
            session.printer.line(f"progress notify: {response.header.revision}")
        session.printer.watch(response)
        session.out.flush()
        for event in response.events if command else ():
            await _execute(session, command, response.header.revision, event)


def _reason(response: rpc_pb2.WatchResponse) -> str:
    if response.compact_revision:
        return _COMPACTED
    return response.cancel_reason or _FUTURE


async def _execute(session: Session, command: Sequence[str], revision: int, event: kv_pb2.Event) -> None:
    variables = {
        "ETCD_WATCH_REVISION": str(revision),
        "ETCD_WATCH_EVENT_TYPE": f'"{kv_pb2.Event.EventType.Name(event.type)}"',
        "ETCD_WATCH_KEY": quote(event.kv.key),
        "ETCD_WATCH_VALUE": quote(event.kv.value),
    }
    try:
        await execute(session, command, variables)
    except ExecutionError as error:
        shown = " ".join(quote(os.fsencode(word)) for word in command)
        session.warn(f"command [{shown}] error ({error})")
        raise CommandError(Exit.ERROR) from error


async def _watch_lines(session: Session) -> None:
    """Interactive: lines `watch [options] key [range_end] [-- command]` and `progress`, until the input ends."""
    _environment_keys(session)
    session.open()
    lines = Lines(session.stdin)
    async with session.client(timeout=math.inf) as client, WatchStream(client) as stream:
        printing: set[asyncio.Task[None]] = set()
        try:
            while True:
                line = await _next_line(lines, printing)
                watch = await _follow_line(session, stream, line)
                if watch is not None:
                    printing.add(asyncio.create_task(_print(session, *watch)))
        finally:
            for task in printing:
                task.cancel()


async def _next_line(lines: Lines, printing: set[asyncio.Task[None]]) -> str:
    """The next line. Raises CommandError at the end of the input, or when the command of a watch fails."""
    reading = asyncio.ensure_future(lines.next())
    while not reading.done():
        await asyncio.wait((reading, *printing), return_when=asyncio.FIRST_COMPLETED)
        for task in [task for task in printing if task.done()]:
            printing.discard(task)
            try:
                task.result()
            except CommandError:
                reading.cancel()
                raise
    line = reading.result()
    if line is None:
        raise CommandError(Exit.INVALID_INPUT, "error reading watch request line: EOF")
    return line


async def _follow_line(session: Session, stream: WatchStream, line: str) -> tuple[Watch, list[str]] | None:
    words = split_words(line)
    if not words:
        session.warn(f"Invalid command: {line} (watch and progress supported)")
    elif words[0] == "progress":
        await stream.request_progress()
    elif words[0] != "watch":
        session.warn(f"Invalid command {line} (only support watch)")
    elif len(words) < 2 and not session.variable("ETCDCTL_WATCH_KEY"):
        session.warn(f"Invalid command {line} (command type or key is not provided)")
    else:
        try:
            order = _order(session, *_parse_line(words[1:]))
        except _InvalidLine as error:
            session.warn(f"Invalid command {line} ({error})")
            return None
        return await stream.watch(order.request), order.command
    return None


class _InvalidLine(Exception):
    """A line that is reported and skipped."""


def _parse_line(words: list[str]) -> tuple[Values, list[str]]:
    try:
        values, arguments = parse([HELP_FLAG, *WATCH.flags], words)
    except FlagError as error:
        raise bad_arguments(str(error)) from error
    if values.bool("help"):
        raise bad_arguments("pflag: help requested")
    if values.bool("prefix") and len(arguments) - len(values.separated or ()) == 2:
        raise _InvalidLine("`range_end` and `--prefix` are mutually exclusive")
    return values, arguments


WATCH = Command(
    "watch",
    "Print the changes of keys as they happen",
    "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    (
        Flag("interactive", "bool", False, "read watch commands from stdin", short="i"),
        Flag("prefix", "bool", False, "all keys that begin with the key"),
        Flag("rev", "int", 0, "start with the changes of this revision"),
        Flag("prev-kv", "bool", False, "also print what each change replaces"),
        Flag("progress-notify", "bool", False, "have the member report its revision while nothing changes"),
    ),
    _watch,
    description=(
        "The command after -- runs for each event, with ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and\n"
        "ETCD_WATCH_VALUE in its environment. Without a key, ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END name the keys.\n"
        "In interactive mode each line of stdin is a command: `watch [options] key [range_end] [-- command]` or `progress`."
    ),
    examples=("tercetctl watch --prefix config/", "tercetctl watch greeting -- sh -c 'echo $ETCD_WATCH_VALUE'"),
)
