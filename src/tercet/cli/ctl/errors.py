"""Errors of commands: a text for the user and etcdctl's exit code."""

from __future__ import annotations

from enum import IntEnum

from tercet.errors import TercetError


class Exit(IntEnum):
    """etcdctl's exit codes."""

    SUCCESS = 0
    ERROR = 1
    BAD_CONNECTION = 2
    INVALID_INPUT = 3
    BAD_FEATURE = 4
    INTERRUPTED = 5
    BAD_ARGUMENTS = 128


class CommandError(TercetError):
    """Ends the command with `exit_code` after `Error: <text>` on stderr; an empty text prints nothing.

    exit_code: one of Exit, or the status of the command that `lock` ran.
    """

    def __init__(self, exit_code: int, text: str = "") -> None:
        super().__init__(text)
        self.exit_code = exit_code


def bad_arguments(text: str) -> CommandError:
    return CommandError(Exit.BAD_ARGUMENTS, text)
