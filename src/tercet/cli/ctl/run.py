"""Running a command: the event loop around it if it waits for something, and the texts and exit codes of its failures."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from tercet.cli.ctl.command import Found
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Values
from tercet.cli.ctl.session import Session
from tercet.cli.ctl.status_text import status_text
from tercet.errors import StatusError


def run_to_end(found: Found, values: Values, arguments: list[str]) -> None:
    """Raises CommandError for every failure."""
    if found.command.run is not None:
        waiting = found.command.run(Session(values, found.path[0]), arguments)
        if waiting is not None:
            _wait_for(waiting)


def _wait_for(command: Coroutine[Any, Any, None]) -> None:
    import asyncio

    from tercet.client import AuthenticationError

    try:
        asyncio.run(command)
    except AuthenticationError as error:
        raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    except StatusError as error:
        raise CommandError(Exit.ERROR, status_text(error)) from error
