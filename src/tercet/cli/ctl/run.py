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
        inherited = {flag.name for group in found.path[1:-1] for flag in group.flags}
        session = Session(values, found.path[0], inherited=inherited)
        waiting = found.command.run(session, arguments)
        if waiting is not None:
            _wait_for(waiting, session)


def _wait_for(command: Coroutine[Any, Any, None], session: Session) -> None:
    import asyncio

    from tercet.client import AuthenticationError

    try:
        asyncio.run(command)
    except AuthenticationError as error:
        raise CommandError(Exit.BAD_CONNECTION, status_text(error)) from error
    except StatusError as error:
        # etcdctl logs in when it creates its client: what fails before that is a failure to connect.
        code = Exit.BAD_CONNECTION if session.awaits_login else Exit.ERROR
        raise CommandError(code, status_text(error)) from error
