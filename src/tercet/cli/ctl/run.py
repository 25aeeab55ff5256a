"""Running a command: the event loop around it, and the texts and exit codes of its failures."""

from __future__ import annotations

import asyncio

from tercet.cli.ctl.command import Found
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Values
from tercet.cli.ctl.session import Session
from tercet.cli.ctl.status_text import status_text
from tercet.client import AuthenticationError
from tercet.errors import StatusError


def run_to_end(found: Found, values: Values, arguments: list[str]) -> None:
    """Raises CommandError for every failure."""
    try:
        asyncio.run(_run(found, Session(values, found.path[0]), arguments))
    except AuthenticationError as error:
        raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    except StatusError as error:
        raise CommandError(Exit.ERROR, status_text(error)) from error


async def _run(found: Found, session: Session, arguments: list[str]) -> None:
    if found.command.run is not None:
        await found.command.run(session, arguments)
