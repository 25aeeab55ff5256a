"""Passwords, from the terminal or from stdin."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from tercet.cli.ctl.errors import bad_arguments

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


def ask_password(session: Session, prompt: str) -> str:
    """Prompt on the terminal without echo; without a terminal, read a line from stdin, as etcdctl does."""
    if session.stdin.isatty():
        return getpass.getpass(prompt)
    session.err.write(prompt.encode("utf-8", "surrogateescape"))
    line = session.stdin.readline().decode("utf-8", "surrogateescape").rstrip("\r\n")
    session.warn("")
    return line


def ask_new_password(session: Session, user: str) -> str:
    """Ask twice. Raises CommandError for an empty password and for two different ones."""
    password = ask_password(session, f"Password of {user}: ")
    if not password:
        raise bad_arguments("empty password")
    if password != ask_password(session, f"Type password of {user} again for confirmation: "):
        raise bad_arguments("given passwords are different")
    return password


def read_word(session: Session) -> str:
    """The first word of the first line of stdin: `--interactive=false`."""
    words = session.stdin.readline().decode("utf-8", "surrogateescape").split()
    return words[0] if words else ""
