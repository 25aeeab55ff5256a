"""What has been handed to the disk, and which words wait until it is durable?

A vote or an acknowledgement that a power cut can take back may be given twice, and two votes in a term make two leaders. So a
message that promises something stays here from the turn that made it until the disk has confirmed the last write of that turn
or before:
    turn 1: entries 5..7, "I hold 7"    -> Ready 1 carries the entries, the word is kept
    turn 2: nothing to write, "I hold 7" -> kept too, behind Ready 1
    persisted(1)                         -> both words are free

Several writes may be under way; they become durable in order. If a later leader replaces entries that are under way, the
earlier writes no longer prove that these indexes are stored: their marks are lowered, not compared by term (a term can come
back).
"""

from __future__ import annotations

from collections import deque

from tercet.errors import require
from tercet.raft.types import Message


class Write:
    """One Ready on its way to the disk: what will hold once it is durable."""

    __slots__ = ("last_index", "messages", "number", "snapshot_index", "term")

    def __init__(self, number: int, *, term: int, last_index: int, snapshot_index: int, messages: list[Message]) -> None:
        self.number = number
        self.term = term
        self.last_index = last_index  # the log is durable up to here
        self.snapshot_index = snapshot_index  # 0: the Ready held no snapshot
        self.messages = messages


class PendingWrites:
    """Writes under way, in order, and the words behind each."""

    __slots__ = ("_kept", "_under_way", "stable_index", "stable_term")

    def __init__(self, *, stable_index: int, stable_term: int) -> None:
        self.stable_index = stable_index  # the log is durable up to here, whatever is under way
        self.stable_term = stable_term  # the newest term that is durable
        self._kept: list[Message] = []  # made since the last Ready
        self._under_way: deque[Write] = deque()

    @property
    def has_kept(self) -> bool:
        return bool(self._kept)

    @property
    def is_installing(self) -> bool:
        """Is a snapshot under way?"""
        return any(write.snapshot_index for write in self._under_way)

    def keep(self, message: Message) -> None:
        """Hold `message` back until all that this turn decided is durable."""
        self._kept.append(message)

    def begin(self, number: int, *, term: int, last_index: int, snapshot_index: int) -> None:
        """Ready `number` goes to the disk, and with it the words of its turn."""
        self._under_way.append(
            Write(number, term=term, last_index=last_index, snapshot_index=snapshot_index, messages=self._kept)
        )
        self._kept = []

    def idle(self) -> list[Message]:
        """A turn without a write: its words are free now, or with the last write under way."""
        kept, self._kept = self._kept, []
        if self._under_way:
            self._under_way[-1].messages += kept
            return []
        return kept

    def truncated(self, last_index: int) -> None:
        """The log was cut behind `last_index`: what lies behind it on the disk is not ours any more."""
        self.stable_index = min(self.stable_index, last_index)
        for write in self._under_way:
            write.last_index = min(write.last_index, last_index)

    def finish(self, number: int) -> list[Write]:
        """All writes up to `number` are durable."""
        done: list[Write] = []
        while self._under_way and self._under_way[0].number <= number:
            write = self._under_way.popleft()
            require(write.term >= self.stable_term, "a durable term went back", write.term, self.stable_term)
            self.stable_index = max(self.stable_index, write.last_index)
            self.stable_term = write.term
            done.append(write)
        return done
