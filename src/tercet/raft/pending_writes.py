"""Writes in flight to the disk, and the messages that wait for them.

A vote or an acknowledgement that a power cut can revoke may be given twice, and two votes in one term elect two leaders. A
message that acknowledges something is therefore held from the turn that made it until the disk has confirmed the last write of
that turn or before (etcd: msgsAfterAppend):
    turn 1: entries 5..7, ack 7      -> Ready 1 carries the entries, the ack is held
    turn 2: nothing to write, ack 7  -> held too, for Ready 1
    persisted(1)                     -> both acks are released

Several writes may be in flight; they become durable in order. If a later leader replaces entries in flight, earlier writes no
longer prove those indexes stored: their marks are lowered, rather than compared by term (a term can come back).
"""

from __future__ import annotations

from collections import deque

from tercet.errors import require
from tercet.raft.types import Message


class Write:
    """One Ready on its way to the disk: what holds once it is durable."""

    __slots__ = ("last_index", "messages", "number", "snapshot_index", "term")

    def __init__(self, number: int, *, term: int, last_index: int, snapshot_index: int, messages: list[Message]) -> None:
        self.number = number
        self.term = term
        self.last_index = last_index  # the log is durable up to here
        self.snapshot_index = snapshot_index  # 0: no snapshot
        self.messages = messages


class PendingWrites:
    """The writes in flight, in order, each with its messages."""

    __slots__ = ("_held", "_in_flight", "stable_index", "stable_term")

    def __init__(self, *, stable_index: int, stable_term: int) -> None:
        self.stable_index = stable_index  # the log is durable up to here, not counting writes in flight
        self.stable_term = stable_term  # the newest durable term
        self._held: list[Message] = []  # since the last Ready
        self._in_flight: deque[Write] = deque()

    @property
    def has_held_messages(self) -> bool:
        return bool(self._held)

    @property
    def is_installing(self) -> bool:
        """Is a snapshot in flight?"""
        return any(write.snapshot_index for write in self._in_flight)

    def hold(self, message: Message) -> None:
        """Hold `message` back until everything this turn decided is durable."""
        self._held.append(message)

    def begin(self, number: int, *, term: int, last_index: int, snapshot_index: int) -> None:
        """Ready `number` goes to the disk; the messages of its turn wait for it."""
        self._in_flight.append(
            Write(number, term=term, last_index=last_index, snapshot_index=snapshot_index, messages=self._held)
        )
        self._held = []

    def no_write(self) -> list[Message]:
        """This turn writes nothing: its messages wait for the last write in flight. Without one, they are returned."""
        held, self._held = self._held, []
        if self._in_flight:
            self._in_flight[-1].messages += held
            return []
        return held

    def truncated(self, last_index: int) -> None:
        """The log was truncated after `last_index`; what the disk holds beyond is no longer part of it."""
        self.stable_index = min(self.stable_index, last_index)
        for write in self._in_flight:
            write.last_index = min(write.last_index, last_index)

    def finish(self, number: int) -> list[Write]:
        """Remove and return all writes up to `number`, which are durable."""
        done: list[Write] = []
        while self._in_flight and self._in_flight[0].number <= number:
            write = self._in_flight.popleft()
            require(write.term >= self.stable_term, "the durable term went back", write.term, self.stable_term)
            self.stable_index = max(self.stable_index, write.last_index)
            self.stable_term = write.term
            done.append(write)
        return done
