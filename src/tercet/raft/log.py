"""The log in memory: all entries since the last compaction.

The compacted part is represented by its last position (index, term):
    snapshot 4/2, entries [5/2 6/2 7/3]   has first_index 5, last_index 7, term(4) = 2, term(3) = None

Commit, applied and stable index are cursors into the log; RaftState keeps them.

Invariants: indexes are consecutive; terms never fall. The second allows a binary search by term.
Source: etcd raft log.go, log_unstable.go. Departs in: one list instead of a stable and an unstable part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from tercet.errors import require
from tercet.raft.types import Entry

_term_of = attrgetter("term")
_WINDOW = 256  # entries measured per step of a slice bounded in bytes, so that a long backlog is not copied whole


class RaftLog:
    """The entries after `snapshot_index`, by index."""

    __slots__ = ("_entries", "size_bytes", "snapshot_index", "snapshot_term")

    def __init__(self, snapshot_index: int = 0, snapshot_term: int = 0, entries: Sequence[Entry] = ()) -> None:
        self.snapshot_index = snapshot_index
        self.snapshot_term = snapshot_term
        self._entries = list(entries)
        self.size_bytes = _size(self._entries)  # of all entries in wire form
        term = snapshot_term
        for position, entry in enumerate(self._entries, snapshot_index + 1):
            require(entry.index == position and entry.term >= term, "the log has a gap or a falling term", position, entry)
            term = entry.term

    def __repr__(self) -> str:
        return f"RaftLog({self.snapshot_index}/{self.snapshot_term} + {len(self._entries)})"

    @property
    def first_index(self) -> int:
        return self.snapshot_index + 1

    @property
    def last_index(self) -> int:
        return self.snapshot_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.snapshot_term

    def term(self, index: int) -> int | None:
        """The term at `index`; None if it is compacted or after the end."""
        position = index - self.snapshot_index
        if position == 0:
            return self.snapshot_term
        if 0 < position <= len(self._entries):
            return self._entries[position - 1].term
        return None

    def entry(self, index: int) -> Entry:
        """The entry at `index`, first_index <= index <= last_index."""
        require(self.snapshot_index < index <= self.last_index, "no such entry", index, self)
        return self._entries[index - self.snapshot_index - 1]

    def entries(self, low: int, high: int, max_bytes: int | None = None) -> list[Entry]:
        """The entries low <= index < high, up to `max_bytes` of wire form, but at least one.

        low: first_index <= low. The range may extend beyond the end of the log.
        """
        require(low > self.snapshot_index, "reads compacted entries", low, self)
        start = low - self.snapshot_index - 1
        stop = max(start, min(high - self.snapshot_index - 1, len(self._entries)))
        if max_bytes is None:
            return self._entries[start:stop]
        taken: list[Entry] = []
        left = max_bytes
        while start < stop:
            window = self._entries[start : min(start + _WINDOW, stop)]
            size = _size(window)
            if size > left:
                return taken + _fitting(window, left, at_least_one=not taken)
            if not taken and start + len(window) == stop:
                return window
            taken += window
            left -= size
            start += len(window)
        return taken

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries that follow the last one; the caller has checked each of them."""
        require(not entries or entries[0].index == self.last_index + 1, "an append leaves a gap", self, entries[:1])
        self._entries += entries
        self.size_bytes += _size(entries)

    def truncate(self, last: int) -> None:
        """Remove all entries after `last`."""
        require(self.snapshot_index <= last <= self.last_index, "truncates outside of the log", last, self)
        self.size_bytes -= _size(self._entries[last - self.snapshot_index :])
        del self._entries[last - self.snapshot_index :]

    def compact(self, index: int) -> None:
        """Remove the entries up to and including `index`; its term is kept."""
        if index <= self.snapshot_index:
            return
        term = self.term(index)
        require(term is not None, "compacts beyond the end of the log", index, self)
        self.size_bytes -= _size(self._entries[: index - self.snapshot_index])
        del self._entries[: index - self.snapshot_index]
        self.snapshot_index, self.snapshot_term = index, term or 0

    def restore(self, index: int, term: int) -> None:
        """Replace all entries by a snapshot at this position."""
        self._entries = []
        self.size_bytes = 0
        self.snapshot_index, self.snapshot_term = index, term

    def last_beyond(self, size_bytes: int) -> int:
        """The index to compact to so that the rest takes at most `size_bytes`; `snapshot_index` if it does already."""
        excess = self.size_bytes - size_bytes
        index = self.snapshot_index
        for entry in self._entries:
            if excess <= 0:
                break
            excess -= len(entry.wire)
            index = entry.index
        return index

    def is_up_to_date(self, *, index: int, term: int) -> bool:
        """Is a candidate's log that ends there at least as up to date: a higher last term, or the same and no shorter
        (§5.4.1)?
        """
        last_term = self.last_term
        return term > last_term or (term == last_term and index >= self.last_index)

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """The index of the first of `entries` that this log lacks or has in another term; if none, the index after the last."""
        for entry in entries:
            if self.term(entry.index) != entry.term:
                return entry.index
        return entries[-1].index + 1

    def last_position_up_to(self, *, index: int, term: int) -> tuple[int, int]:
        """The last position at or before `index` whose term is at most `term`, as (index, its term).

        Term 0 if that position is compacted, so that its term is unknown. Both ends of a rejected append use this to skip whole
        terms that cannot match (paper §5.3, end).
        """
        stop = min(index - self.snapshot_index, len(self._entries))
        position = bisect_right(self._entries, term, 0, max(stop, 0), key=_term_of)
        if position > 0:
            return self.snapshot_index + position, self._entries[position - 1].term
        if index >= self.snapshot_index and self.snapshot_term <= term:
            return self.snapshot_index, self.snapshot_term
        return max(0, min(index, self.snapshot_index - 1)), 0


def _size(entries: Sequence[Entry]) -> int:
    size = 0
    for entry in entries:
        size += len(entry.wire)
    return size


def _fitting(entries: list[Entry], size_bytes: int, *, at_least_one: bool) -> list[Entry]:
    """The longest prefix of `entries` within `size_bytes`."""
    for count, entry in enumerate(entries):
        size_bytes -= len(entry.wire)
        if size_bytes < 0:
            return entries[: max(count, 1) if at_least_one else count]
    return entries
