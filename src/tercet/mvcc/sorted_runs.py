"""Sorting in slices: records are gathered into short runs, each sorted at once, and the runs are merged on demand.

A million records sorted by one call would keep the event loop busy for a second. Records are byte strings that compare in the
order wanted (`sortable_int`, `sortable_bytes`), so no key function runs and the garbage collector has nothing to visit.
With `keep`, only the smallest records are held: a query for the first few of many needs no memory for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import Final

_RUN: Final = 1000
_COMPLEMENT: Final = bytes(range(255, -1, -1))


class SortedRuns:
    """Add all records, then take them in ascending order."""

    __slots__ = ("_keep", "_merged", "_run", "_runs", "size_bytes")

    def __init__(self, keep: int = 0) -> None:
        """keep: how many of the smallest are wanted; 0 for all."""
        self._keep = keep if 0 < keep <= _RUN else 0
        self._run: list[bytes] = []
        self._runs: list[list[bytes]] = []
        self._merged: Iterator[bytes] | None = None
        self.size_bytes = 0

    def add(self, record: bytes) -> None:
        self._run.append(record)
        self.size_bytes += len(record)
        if len(self._run) >= 2 * _RUN:
            self._close_run()

    def _close_run(self) -> None:
        run = self._run
        run.sort()
        if self._keep:
            self.size_bytes -= sum([len(record) for record in run[self._keep :]])
            del run[self._keep :]
        else:
            self._runs.append(run)
            self._run = []

    def next(self) -> bytes:
        """The next record in order; there must be one. No `add` after the first `next`."""
        if self._merged is None:
            self._run.sort()
            self._merged = merge(self._run, *self._runs)
        return next(self._merged)


def sortable_int(number: int, *, descending: bool) -> bytes:
    """8 bytes that compare as `number` does, 0 <= number < 2**64."""
    return ((1 << 64) - 1 - number if descending else number).to_bytes(8, "big")


def sortable_bytes(value: bytes, *, descending: bool) -> bytes:
    """Bytes that compare as `value` does, whatever follows them: zeros are escaped, and an end is marked."""
    escaped = value.replace(b"\0", b"\0\xff") + b"\0\0"
    return escaped.translate(_COMPLEMENT) if descending else escaped
