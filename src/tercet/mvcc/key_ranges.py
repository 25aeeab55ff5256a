"""A set of key ranges, joined where they meet, so that a lookup is one bisection."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class KeyRanges:
    """Half-open ranges [start, end); end None: to the end of all keys."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[bytes] = []
        self._ends: list[bytes | None] = []

    def __len__(self) -> int:
        return len(self._starts)

    def __contains__(self, key: bytes) -> bool:
        position = bisect_right(self._starts, key) - 1
        if position < 0:
            return False
        end = self._ends[position]
        return end is None or key < end

    def update(self, other: KeyRanges) -> None:
        for start, end in zip(other._starts, other._ends, strict=True):
            self.add(start, end)

    def add(self, start: bytes, end: bytes | None) -> None:
        """An empty range adds nothing."""
        if end is not None and end <= start:
            return
        first = bisect_left(self._starts, start)
        if first:
            before = self._ends[first - 1]
            if before is None or before >= start:
                first -= 1
                start = self._starts[first]
        last = first
        while last < len(self._starts) and (end is None or self._starts[last] <= end):
            other = self._ends[last]
            end = None if end is None or other is None else max(end, other)
            last += 1
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]
