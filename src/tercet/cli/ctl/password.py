"""Passwords, from the terminal or from stdin."""

from __future__ import annotations

import getpass
import os
import termios
from typing import BinaryIO

from tercet.cli.ctl.blocking import interruptible
from tercet.cli.ctl.errors import bad_arguments
from tercet.cli.streams import Output

_LINE_BYTES_MAX = 4096  # of a terminal's line


def ask_password(stdin: BinaryIO, out: Output, prompt: str) -> str:
    """Prompt on the terminal without echo; without one, prompt on stdout and read a line from stdin, as etcdctl does.

    The end of the input is an empty password.
    """
    if stdin.isatty():
        with interruptible(restores=True):  # the terminal's echo
            return _without_echo(prompt)
    with interruptible():
        out.write(prompt.encode("utf-8", "surrogateescape"))
        line = stdin.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")
    out.write(b"\n")
    out.flush()
    return line


def _without_echo(prompt: str) -> str:
    """Like getpass, which drops what was typed before the prompt: both lines of a new password may be pasted at once."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return _by_getpass(prompt)
    try:
        settings = termios.tcgetattr(terminal)
        silent = [*settings]
        silent[3] &= ~termios.ECHO
        try:
            termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
            os.write(terminal, prompt.encode("utf-8", "surrogateescape"))
            line = os.read(terminal, _LINE_BYTES_MAX)  # one line: the terminal edits it
        finally:
            termios.tcsetattr(terminal, termios.TCSADRAIN, settings)
            os.write(terminal, b"\n")
    finally:
        os.close(terminal)
    return line.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _by_getpass(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""


def ask_new_password(stdin: BinaryIO, out: Output, user: str) -> str:
    """Ask twice. Raises CommandError for an empty password and for two different ones."""
    password = ask_password(stdin, out, f"Password of {user}: ")
    if not password:
        raise bad_arguments("empty password")
    if password != ask_password(stdin, out, f"Type password of {user} again for confirmation: "):
        raise bad_arguments("given passwords are different")
    return password


def read_word(stdin: BinaryIO) -> str:
    """The first word of the first line of stdin: `--interactive=false`."""
    with interruptible():
        words = stdin.readline().decode("utf-8", "surrogateescape").split()
    return words[0] if words else ""
