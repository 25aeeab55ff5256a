"""A backend in memory, for the simulator and for tests, with the guarantees of `LmdbBackend`.

A commit is instant and happens only on request, so the simulation decides what a crash takes back: all that was put since the
last commit. Callbacks run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from sortedcontainers import SortedDict

from tercet.errors import StorageFailure, require
from tercet.storage.interfaces import Bucket, ReadView, Staged

_META_KEYS = (b"consistent_index", b"term")


def _tables() -> dict[Bucket, SortedDict[bytes, bytes]]:
    return {bucket: SortedDict() for bucket in Bucket}


class MemoryView:
    """See `interfaces.ReadView`."""

    def __init__(self, tables: dict[Bucket, SortedDict[bytes, bytes]], views: set[MemoryView] | None = None) -> None:
        self._tables = tables
        self._views = views
        if views is not None:
            views.add(self)

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        value: bytes | None = self._tables[bucket].get(key)
        return value

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Changes made during the scan are seen if they lie ahead of it."""
        table = self._tables[bucket]
        position = table.bisect_left(start)
        while position < len(table):
            key, value = table.peekitem(position)
            if end is not None and key >= end:
                return
            yield key, value
            position = table.bisect_right(key)

    def close(self) -> None:
        if self._views is not None:
            self._views.discard(self)


class StagedTables:
    """See `interfaces.Staged`."""

    def __init__(self, tables: dict[Bucket, SortedDict[bytes, bytes]], point: tuple[int, int]) -> None:
        self.tables = tables
        self.point = point

    def view(self) -> MemoryView:
        return MemoryView(self.tables)

    def discard(self) -> None:
        """There is no file to delete."""


class MemoryBackend:
    """See `interfaces.Backend`."""

    def __init__(self) -> None:
        self._tables = _tables()
        self._reader = MemoryView(self._tables)
        # What a crash restores: the value before the first change since the last commit, None where there was no key.
        self._undo_closed: dict[tuple[Bucket, bytes], bytes | None] = {}
        self._undo_open: dict[tuple[Bucket, bytes], bytes | None] = {}
        self._point = self._durable = (0, 0)
        self._waiting: list[Callable[[], None]] = []
        self._commit_wanted = False
        self._views: set[MemoryView] = set()
        self._bytes = 0

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        require(bool(key), "a key is empty", bucket)
        table = self._tables[bucket]
        before = table.get(key)
        self._undo_open.setdefault((bucket, key), before)
        table[key] = value
        self._bytes += len(value) - len(before) if before is not None else len(key) + len(value)

    def delete(self, bucket: Bucket, key: bytes) -> None:
        before = self._tables[bucket].pop(key, None)
        if before is not None:
            self._undo_open.setdefault((bucket, key), before)
            self._bytes -= len(key) + len(before)

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        return self._reader.get(bucket, key)

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        return self._reader.scan(bucket, start, end)

    def applied(self, index: int, term: int) -> None:
        for place, before in self._undo_open.items():
            self._undo_closed.setdefault(place, before)
        self._undo_open.clear()
        self._point = (index, term)
        if self._commit_wanted:
            self._commit()

    @property
    def path(self) -> str:
        return "in memory"

    @property
    def applied_index(self) -> int:
        return self._durable[0]

    @property
    def applied_term(self) -> int:
        return self._durable[1]

    def commit(self, then: Callable[[], None] | None = None) -> None:
        if then is not None:
            self._waiting.append(then)
        self._commit_wanted = True
        if not self._undo_open:
            self._commit()

    def commit_now(self) -> None:
        require(not self._undo_open, "commit in the middle of an entry", self._point)
        self._commit()

    def view(self, then: Callable[[ReadView], None]) -> None:
        def open_view() -> None:
            then(MemoryView({bucket: table.copy() for bucket, table in self._tables.items()}, self._views))

        self.commit(open_view)

    def open_view_seconds(self) -> list[float]:
        """Zero for each view: this backend has no clock, and a view pins no pages."""
        return [0.0] * len(self._views)

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        """Memory is never fragmented: only commits."""
        self.commit(then)

    def stage(self, items: Iterable[tuple[Bucket, bytes, bytes]], *, index: int, term: int) -> StagedTables:
        tables = _tables()
        for bucket, key, value in items:
            tables[bucket][key] = value
        meta = tables[Bucket.META]
        own_index, own_term = (int.from_bytes(meta.get(key, b""), "big") for key in _META_KEYS)
        return StagedTables(tables, max((index, term), (own_index, own_term)))

    def install(self, staged: Staged) -> tuple[int, int]:
        require(isinstance(staged, StagedTables), "installs what this backend did not stage", staged)
        assert isinstance(staged, StagedTables)
        tables = self._tables = staged.tables
        self._reader = MemoryView(tables)
        self._undo_open.clear()
        self._undo_closed.clear()
        self._point = staged.point
        self._bytes = sum(len(key) + len(value) for table in tables.values() for key, value in table.items())
        self._commit()
        return self._point

    def size(self) -> int:
        return self._bytes

    def size_in_use(self) -> int:
        return self._bytes

    def close(self) -> None:
        if not self._undo_open:
            self._commit()

    def crash(self) -> None:
        """A power failure: lose all that is not committed, and all callbacks that wait for a commit."""
        for undo in (self._undo_open, self._undo_closed):
            for (bucket, key), before in undo.items():
                if before is None:
                    self._tables[bucket].pop(key, None)
                else:
                    self._tables[bucket][key] = before
            undo.clear()
        self._point = self._durable
        self._waiting.clear()
        self._commit_wanted = False
        self._views.clear()
        self._bytes = sum(len(key) + len(value) for table in self._tables.values() for key, value in table.items())

    def _commit(self) -> None:
        """Callbacks come last: one may commit again."""
        self._commit_wanted = False
        self._undo_closed.clear()
        meta = self._tables[Bucket.META]
        for key, number in zip(_META_KEYS, self._point, strict=True):
            meta[key] = number.to_bytes(8, "big")
        self._durable = self._point
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
