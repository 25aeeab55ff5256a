"""Buckets as sorted dictionaries: the content of the two backends in memory (storage/memory_backend.py, sim/backend.py).

A backend records in an `Undo` the value that each key had before its first change; `revert` restores those values, as a crash
does with changes that no commit has made durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sortedcontainers import SortedDict

from tercet.storage.interfaces import Bucket

Tables = dict[Bucket, SortedDict[bytes, bytes]]
Undo = dict[tuple[Bucket, bytes], bytes | None]
"""Values before the first change, None for a key that did not exist."""
Point = tuple[int, int]
"""Index and term of an applied entry."""

_META_KEYS: Final = (b"consistent_index", b"term")


def new_tables() -> Tables:
    return {bucket: SortedDict() for bucket in Bucket}


def size_bytes(tables: Tables) -> int:
    return sum(len(key) + len(value) for table in tables.values() for key, value in table.items())


def revert(tables: Tables, undo: Undo) -> None:
    for (bucket, key), before in undo.items():
        if before is None:
            tables[bucket].pop(key, None)
        else:
            tables[bucket][key] = before


def write_point(tables: Tables, point: Point) -> None:
    """Store the point in the META bucket, under etcd's keys."""
    meta = tables[Bucket.META]
    for key, number in zip(_META_KEYS, point, strict=True):
        meta[key] = number.to_bytes(8, "big")


class TablesView:
    """See `interfaces.ReadView`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        value: bytes | None = self._tables[bucket].get(key)
        return value

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """A scan sees changes made during it if they lie ahead of its position."""
        table = self._tables[bucket]
        position = table.bisect_left(start)
        while position < len(table):
            key, value = table.peekitem(position)
            if end is not None and key >= end:
                return
            yield key, value
            position = table.bisect_right(key)

    def close(self) -> None:
        """There is nothing to release."""


class StagedTables:
    """See `interfaces.Staged`. Its point is the given one or that of the items, whichever is later."""

    def __init__(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> None:
        self.tables = new_tables()
        for bucket, key, value in items:
            self.tables[bucket][key] = value
        meta = self.tables[Bucket.META]
        own_index, own_term = (int.from_bytes(meta.get(key, b""), "big") for key in _META_KEYS)
        self.point = max((index, term), (own_index, own_term))
        self.is_spent = False

    def view(self) -> TablesView:
        return TablesView(self.tables)

    def discard(self) -> None:
        self.is_spent = True
