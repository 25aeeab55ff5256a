"""From a command line to an exit code: what tercetctl and tercetutl have in common."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence

from tercet.cli.ctl.colours import Colours
from tercet.cli.ctl.command import Command, Found, UnknownCommand, find, similar
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import FlagError, Values, parse
from tercet.cli.ctl.help import help_text
from tercet.cli.streams import Output, discard, open_missing_streams

Execute = Callable[[Found, Values, list[str]], None]
"""Runs a command to its end. Raises CommandError for every failure."""


def run_program(root: Command, alias: str, arguments: Sequence[str] | None, execute: Execute) -> int:
    """Run one line, by default this process's. Returns the exit code.

    alias: etcd's name of the program; started through a link with this name, it calls itself that.
    """
    if arguments is None:
        return _run_process(root, alias, execute)
    return _run_line(root, arguments, execute)


def _run_process(root: Command, alias: str, execute: Execute) -> int:
    if os.path.basename(sys.argv[0]) == alias:
        root = root._replace(name=alias)
    try:
        return _run_line(root, sys.argv[1:], execute)
    finally:
        gc.freeze()  # the interpreter, which exits now, would visit every object three more times


def _run_line(root: Command, line: Sequence[str], execute: Execute) -> int:
    open_missing_streams()
    try:
        return _run(root, list(line), execute)
    except KeyboardInterrupt:
        # Exit by the signal, so that a shell also ends a loop around the command.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        discard(sys.stdout)
        return Exit.ERROR


def _run(root: Command, line: list[str], execute: Execute) -> int:
    out = Output(sys.stdout.buffer, "stdout")
    try:
        code = _run_command(root, line, out, execute)
        out.flush()
        return code
    except CommandError as error:  # stdout cannot be written
        discard(sys.stdout)
        return _fail(error.exit_code, str(error))


def _run_command(root: Command, line: list[str], out: Output, execute: Execute) -> int:
    try:
        found = find(root, line)
        values, positional = parse(found.flags, found.arguments)
    except UnknownCommand as error:
        return _fail(Exit.ERROR, str(error))
    except FlagError as error:
        return _fail(Exit.ERROR, f"{error}\nRun '{find(root, line).title} --help' for usage.")
    if found.wants_help or values.bool("help") or found.command.run is None:
        return _show_help(found, out)
    try:
        execute(found, values, positional)
    except CommandError as error:
        out.flush()
        return _fail(error.exit_code, str(error))
    return Exit.SUCCESS


def _show_help(found: Found, out: Output) -> int:
    """The page of a command. After a word that names none it is shown all the same, with exit code 0, as etcdctl does."""
    if found.unknown and len(found.path) == 1:
        _warn(f"Unknown help topic [`{found.unknown}`]\nRun '{found.title} --help' for usage.")
        return Exit.SUCCESS
    out.write(help_text(found).encode())
    if found.unknown:
        near = similar(found.unknown, [command.name for command in found.command.commands])
        _warn(f'{found.title} has no command "{found.unknown}"' + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return Exit.SUCCESS


def _fail(code: int, text: str) -> int:
    if text:
        first, newline, rest = f"Error: {text}".partition("\n")
        # The whole line, or programs that talk to a terminal, such as expect, would not find "Error: " before its text.
        _warn(Colours(sys.stderr.isatty()).red(first) + newline + rest)
    return code


def _warn(text: str) -> None:
    err = Output(sys.stderr.buffer, "stderr", ignore_errors=True)
    err.write(f"{text}\n".encode("utf-8", "surrogateescape"))
    err.flush()
