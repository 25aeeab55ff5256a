"""Trace of a run for a person to read, a line an event: time in seconds, member, event.

    1.2043    2  is CANDIDATE in term 3
Off by default: callers check `is_on` before they format an expensive line.
"""

from __future__ import annotations

from collections.abc import Callable

from tercet.raft.types import Message, MessageType
from tercet.sim.clock import MICROSECONDS, Clock


class Trace:
    """Writes lines to `write`; None: off."""

    __slots__ = ("_clock", "_write", "is_on")

    def __init__(self, clock: Clock, write: Callable[[str], None] | None = None) -> None:
        self.is_on = write is not None
        self._clock = clock
        self._write = write

    def __call__(self, who: object, what: str) -> None:
        if self._write is not None:
            self._write(f"{self._clock.now / MICROSECONDS:9.4f}  {who!s:>3}  {what}")


def describe(message: Message) -> str:
    """A message in a few words."""
    text = f"{MessageType(message.type).name}({message.from_}>{message.to}) term {message.term}"
    if message.index or message.log_term:
        text += f" at {message.index}/{message.log_term}"
    if message.entries:
        text += f" +{len(message.entries)} entries to {message.entries[-1].index}"
    if message.commit:
        text += f" commit {message.commit}"
    if message.snapshot is not None:
        text += f" snapshot {message.snapshot.index}/{message.snapshot.term}"
    if message.reject:
        text += f" rejects, hint {message.reject_hint}"
    if message.context:
        text += f" context {message.context.hex()}"
    return text
