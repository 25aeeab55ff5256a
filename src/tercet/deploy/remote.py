"""One host, as the rest of the room sees it: run a command, put a file there, follow a log, reach a port.

Whatever goes wrong on the way is a `HostError`, which names host and step and says what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tercet.errors import TercetError


class HostError(TercetError):
    """A step on a host failed: which host, which step, what happened, and what to do about it.

    str() is one text of "host: step: what happened", with further lines where there is output to show, and the remedy last.
    """

    def __init__(self, host: str, step: str, text: str, *, remedy: str = "") -> None:
        self.host = host
        self.step = step
        self.text = text
        self.remedy = remedy
        separator = "\n" if "\n" in text else "; "
        super().__init__(f"{host}: {step}: {text}" + (separator + remedy if remedy else ""))


@dataclass(frozen=True)
class Completed:
    """How a command ended. exit_code: 128 + N if it was ended by signal N."""

    exit_code: int
    stdout: bytes
    stderr: bytes
