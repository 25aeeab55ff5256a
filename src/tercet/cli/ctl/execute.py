"""Running the command that `watch` and `lock` are given. Error texts are those of Go's os/exec."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session

_SIGNAL_TEXTS = {signal.SIGHUP: "hangup", signal.SIGABRT: "aborted", signal.SIGALRM: "alarm clock"}


class ExecutionError(Exception):
    """The command did not start, or did not exit with 0. `exit_code`: its exit status; 255 after a signal."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


async def execute(session: Session, words: Sequence[str], variables: Mapping[str, str]) -> None:
    """Run a command with additional environment variables and our standard streams, except stdin. Raises ExecutionError."""
    session.out.flush()
    program = words[0]
    if "/" not in program and shutil.which(program) is None:
        raise ExecutionError(f'exec: "{program}": executable file not found in $PATH', 1)
    try:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, env={**os.environ, **variables}
        )
    except OSError as error:
        raise ExecutionError(f"fork/exec {program}: {(error.strerror or str(error)).lower()}", 1) from error
    code = await process.wait()
    if code < 0:
        raise ExecutionError(f"signal: {_signal_text(-code)}", 255)
    if code:
        raise ExecutionError(f"exit status {code}", code)


def _signal_text(number: int) -> str:
    known = _SIGNAL_TEXTS.get(signal.Signals(number))
    return known or (signal.strsignal(number) or f"signal {number}").lower()
