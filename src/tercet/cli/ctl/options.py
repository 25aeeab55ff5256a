"""options: the flags of all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.help import flag_lines

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


def _options(session: Session, _: list[str]) -> None:
    session.out.write(f"Every command takes these flags:\n\n{flag_lines(session.root.flags)}\n".encode())


OPTIONS = Command("options", "Show the flags that every command takes", run=_options)
