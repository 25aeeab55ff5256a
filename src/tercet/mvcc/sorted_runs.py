"""Sorting in slices: records are gathered into short runs, each sorted at once, and the runs are merged on demand.

A million records sorted by one call would keep the event loop busy for a second. To merge, the next few records of each run are
taken up to a pivot, the smallest of the last of these, and sorted together: a tenth of the time of a heap. Records are byte
strings that compare in the order wanted (`sortable_int`, `sortable_bytes`), so no key function runs and the garbage collector
has nothing to visit. With `keep`, only the smallest records are held: a query for the first few of many needs no memory for
the rest.

To free a million records takes 50 ms. So a run gives its records away as they are merged, from its end, which is where a list
does so without moving others: runs are in descending order.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from tercet.mvcc.work import Budget

_RUN: Final = 1000
_MERGED: Final = 2000  # records at once, about
_DISCARDED: Final = 16  # records are freed for one unit of work
_COMPLEMENT: Final = bytes(range(255, -1, -1))


class SortedRuns:
    """Add all records, then take them in ascending order."""

    __slots__ = ("_keep", "_merged", "_run", "_runs", "_taken", "size_bytes")

    def __init__(self, keep: int = 0) -> None:
        """keep: how many of the smallest are wanted; 0 for all."""
        self._keep = keep if 0 < keep <= _RUN else 0
        self._run: list[bytes] = []
        self._runs: list[list[bytes]] = []
        self._merged: list[bytes] = []
        self._taken = 0  # of these
        self.size_bytes = 0

    def add(self, record: bytes) -> None:
        self._run.append(record)
        self.size_bytes += len(record)
        if len(self._run) >= 2 * _RUN:
            self._close_run()

    def _close_run(self) -> None:
        run = self._run
        if self._keep:
            run.sort()
            self.size_bytes -= sum([len(record) for record in run[self._keep :]])
            del run[self._keep :]
        else:
            run.sort(reverse=True)
            self._runs.append(run)
            self._run = []

    def next(self) -> bytes:
        """The next record in order; there must be one. No `add` after the first `next` or `next_many`."""
        return self.next_many(1)[0]

    def next_many(self, count: int) -> list[bytes]:
        """At least one record and at most `count`, in order; none at the end."""
        taken = self._taken
        if taken == len(self._merged):
            self._merge()
            taken = 0
        records = self._merged[taken : taken + count]
        self._taken = taken + len(records)
        return records

    def _merge(self) -> None:
        """Fill `_merged` with the next records of all runs."""
        runs = self._runs
        if self._run:  # the last run, not closed yet
            self._run.sort(reverse=True)
            runs.append(self._run)
            self._run = []
        self._merged = merged = []
        if not runs:
            return
        step = max(1, _MERGED // len(runs))
        pivot = min([run[-min(step, len(run))] for run in runs])
        left: list[list[bytes]] = []
        for run in runs:
            smallest = run[-step:]  # as no other record of the run can be up to the pivot: that is one of them, or less
            smallest.reverse()
            count = bisect_right(smallest, pivot)
            if count:
                merged += smallest[:count]
                del run[-count:]
            if run:
                left.append(run)
        merged.sort()
        self._runs = left

    def discard(self, budget: Budget) -> bool:
        """Free some of the records, of which none is wanted any more. Returns whether there are more."""
        while self._runs and budget.left > 0:
            budget.left -= 1 + len(self._runs.pop()) // _DISCARDED
        return bool(self._runs)


def sortable_int(number: int, *, descending: bool) -> bytes:
    """8 bytes that compare as `number` does, 0 <= number < 2**64."""
    return ((1 << 64) - 1 - number if descending else number).to_bytes(8, "big")


def sortable_bytes(value: bytes, *, descending: bool) -> bytes:
    """Bytes that compare as `value` does, whatever follows them: zeros are escaped, and an end is marked."""
    escaped = value.replace(b"\0", b"\0\xff") + b"\0\0"
    return escaped.translate(_COMPLEMENT) if descending else escaped
