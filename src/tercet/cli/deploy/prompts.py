"""What a person is asked for, on the terminal: sudo's password, and whether to go ahead.

The terminal is read by the event loop, so that Ctrl-C ends the waiting and the terminal echoes again afterwards. A password is
kept in memory only; it may also come from a file, from stdin or from $TERCET_SUDO_PASSWORD, never from a command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tercet.deploy.ssh.sudo import AskPassword

PASSWORD_VARIABLE = "TERCET_SUDO_PASSWORD"
Pause = Callable[[], AbstractContextManager[None]]
"""Keeps what is drawn from the terminal while somebody types."""


def has_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()


def password_source(file: str | None, pause: Pause) -> AskPassword | None:
    """How to get sudo's password; None where there is none to be had. Raises UsageError for a file that cannot be read."""
    given = _first_line(file) if file is not None else os.environ.pop(PASSWORD_VARIABLE, None)
    if given is not None:
        password = given

        async def known(prompt: str) -> str:
            return password

        return known
    if not has_terminal():
        return None

    async def ask(prompt: str) -> str:
        with pause():
            return await read_line(prompt, echo=False)

    return ask


def _first_line(file: str) -> str:
    """Of a file, or of stdin for `-`, without its end of line."""
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise click.BadParameter(f"{file}: {reason}", param_hint="--sudo-password-file") from error
    return text.rstrip("\r\n")


async def confirmed(question: str, expected: tuple[str, ...]) -> bool:
    """Whether the answer is one of those expected; with no terminal there is no answer."""
    return has_terminal() and (await read_line(question, echo=True)).strip().lower() in expected


async def read_line(prompt: str, *, echo: bool) -> str:
    """One line typed on stdin's terminal. Raises click.Abort where it ends before a line does."""
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    with _silent(descriptor) if not echo else contextlib.nullcontext():
        sys.stderr.write(prompt)  # once nothing is echoed: what is typed the moment it appears is seen by nobody, and not lost
        sys.stderr.flush()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()  # a terminal gives whole lines
            line = os.read(descriptor, 4096)
        finally:
            loop.remove_reader(descriptor)
            if not echo:
                sys.stderr.write("\n")
    if not line:
        raise click.Abort
    return line.decode(errors="surrogateescape").rstrip("\r\n")


@contextlib.contextmanager
def _silent(descriptor: int) -> Iterator[None]:
    """What is typed is not shown."""
    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[3] = int(before[3]) & ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
