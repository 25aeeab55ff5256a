"""Prompts on the terminal: the sudo password, and confirmations.

The event loop reads the terminal, so that Ctrl-C cancels the wait and restores echo. A password is kept in memory only; it may
also come from a file, from stdin or from $TERCET_SUDO_PASSWORD, never from the command line.
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
"""Suspends live output while a prompt is open."""


def has_terminal() -> bool:
    """Whether stdin is a terminal."""
    return sys.stdin.isatty()


def password_source(file: str | None, pause: Pause) -> AskPassword | None:
    """Source of the sudo password; None if there is none. Raises UsageError for an unreadable file."""
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
    """The first line of a file, or of stdin for `-`, without its newline."""
    try:
        text = sys.stdin.readline() if file == "-" else Path(file).read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise click.BadParameter(f"{file}: {reason}", param_hint="--sudo-password-file") from error
    return text.rstrip("\r\n")


async def confirmed(question: str, expected: tuple[str, ...]) -> bool:
    """Whether the answer is among `expected`; False without a terminal."""
    return has_terminal() and (await read_line(question, echo=True)).strip().lower() in expected


async def read_line(prompt: str, *, echo: bool) -> str:
    """Read one line from the terminal on stdin. Raises click.Abort at end of file."""
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    with _silent(descriptor) if not echo else contextlib.nullcontext():
        sys.stderr.write(prompt)  # after echo is off, so that input typed right after the prompt is neither shown nor lost
        sys.stderr.flush()
        loop.add_reader(descriptor, readable.set)
        try:
            await readable.wait()  # a terminal delivers whole lines
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
    """Turn off echo."""
    before = termios.tcgetattr(descriptor)
    silent = [*before]
    silent[3] = int(before[3]) & ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
