"""Which entries has this member, and do they agree with what another one says about its own?

All entries since the last compaction, in memory, behind the position (index, term) that stands for what was compacted:
    snapshot 4/2, entries [5/2 6/2 7/3]   has first_index 5, last_index 7, term(4) = 2, term(3) = None

The log knows nothing of commits or disks: those are cursors into it, kept by the core.

Invariants: indexes are consecutive; terms never fall. The second makes "the last entry of a term up to t" a binary search.
Source: etcd raft log.go, log_unstable.go. Departs in: one list instead of a stable and an unstable part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from tercet.errors import require
from tercet.raft.types import Entry

_term_of = attrgetter("term")
_WINDOW = 256  # entries looked at in one step when a slice is bounded in bytes: a long backlog is never copied whole


class RaftLog:
    """The entries after `snapshot_index`, by index."""

    __slots__ = ("_entries", "size_bytes", "snapshot_index", "snapshot_term")

    def __init__(self, snapshot_index: int = 0, snapshot_term: int = 0, entries: Sequence[Entry] = ()) -> None:
        self.snapshot_index = snapshot_index
        self.snapshot_term = snapshot_term
        self._entries = list(entries)
        self.size_bytes = _size(self._entries)  # of all entries' wire form
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
        """The term at `index`; None where it is compacted away or not there yet."""
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
        """The entries low <= index < high; cut at `max_bytes` of wire form, but at least one of them.

        low: first_index <= low; the part of the range behind the end of the log is empty.
        """
        require(low > self.snapshot_index, "the entries asked for are compacted", low, self)
        start = low - self.snapshot_index - 1
        stop = max(start, min(high - self.snapshot_index - 1, len(self._entries)))
        if max_bytes is None:
            return self._entries[start:stop]
        taken: list[Entry] = []
        room = max_bytes
        while start < stop:
            window = self._entries[start : min(start + _WINDOW, stop)]
            size = _size(window)
            if size > room:
                return taken + _fitting(window, room, at_least_one=not taken)
            if not taken and start + len(window) == stop:
                return window
            taken += window
            room -= size
            start += len(window)
        return taken

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries whose indexes follow the last one; the caller has looked at each of them."""
        require(not entries or entries[0].index == self.last_index + 1, "an append leaves a gap", self, entries[:1])
        self._entries += entries
        self.size_bytes += _size(entries)

    def truncate(self, last: int) -> None:
        """Forget all entries behind `last`."""
        require(self.snapshot_index <= last <= self.last_index, "cannot cut the log there", last, self)
        self.size_bytes -= _size(self._entries[last - self.snapshot_index :])
        del self._entries[last - self.snapshot_index :]

    def compact(self, index: int) -> None:
        """Forget the entries up to and including `index`; its term stays known."""
        if index <= self.snapshot_index:
            return
        term = self.term(index)
        require(term is not None, "cannot compact behind the end of the log", index, self)
        self.size_bytes -= _size(self._entries[: index - self.snapshot_index])
        del self._entries[: index - self.snapshot_index]
        self.snapshot_index, self.snapshot_term = index, term or 0

    def restore(self, index: int, term: int) -> None:
        """Replace everything by a snapshot at that position."""
        self._entries = []
        self.size_bytes = 0
        self.snapshot_index, self.snapshot_term = index, term

    def last_beyond(self, size_bytes: int) -> int:
        """The last index that has to go for the rest to take at most `size_bytes`; `snapshot_index` if nothing has to."""
        excess = self.size_bytes - size_bytes
        index = self.snapshot_index
        for entry in self._entries:
            if excess <= 0:
                break
            excess -= len(entry.wire)
            index = entry.index
        return index

    def is_up_to_date(self, *, index: int, term: int) -> bool:
        """May a candidate whose log ends there be voted for? Its last term is higher, or equal and its log not shorter
        (§5.4.1).
        """
        last_term = self.last_term
        return term > last_term or (term == last_term and index >= self.last_index)

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """The index of the first of `entries` that this log lacks or holds in another term; behind the last one if there is
        none.
        """
        for entry in entries:
            if self.term(entry.index) != entry.term:
                return entry.index
        return entries[-1].index + 1

    def last_position_up_to(self, *, index: int, term: int) -> tuple[int, int]:
        """The last position at or before `index` whose term is at most `term`, as (index, its term).

        Term 0 where that position is compacted away: it may be right, but we can no longer say. Both ends of a failed append
        use this to skip whole terms that cannot match (paper §5.3, end).
        """
        stop = min(index - self.snapshot_index, len(self._entries))
        position = bisect_right(self._entries, term, 0, max(stop, 0), key=_term_of)
        if position > 0:
            return self.snapshot_index + position, self._entries[position - 1].term
        if index >= self.snapshot_index and self.snapshot_term <= term:
            return self.snapshot_index, self.snapshot_term
        return max(0, min(index, self.snapshot_index - 1)), 0


def _size(entries: Sequence[Entry]) -> int:
    return sum([len(entry.wire) for entry in entries])


def _fitting(entries: list[Entry], room: int, *, at_least_one: bool) -> list[Entry]:
    """The longest head of `entries` within `room` bytes."""
    for count, entry in enumerate(entries):
        room -= len(entry.wire)
        if room < 0:
            return entries[: max(count, 1) if at_least_one else count]
    return entries
