"""A backend in memory, for tests, with the guarantees of `LmdbBackend`.

A commit is instant and happens only on request: a crash loses all changes since the last one. Callbacks run at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tercet.errors import StorageFailure, require
from tercet.storage.interfaces import Bucket, ReadView, Staged
from tercet.storage.memory_tables import (
    StagedTables,
    Tables,
    TablesView,
    Undo,
    new_tables,
    revert,
    size_bytes,
    write_point,
)


class MemoryView(TablesView):
    """A view that its backend counts as open."""

    def __init__(self, tables: Tables, views: set[MemoryView]) -> None:
        super().__init__(tables)
        self._views = views
        views.add(self)

    def close(self) -> None:
        self._views.discard(self)


class MemoryBackend:
    """See `interfaces.Backend`."""

    def __init__(self) -> None:
        self._tables = new_tables()
        self._reader = TablesView(self._tables)
        self._undo_closed: Undo = {}  # changes since the last commit, up to the last `applied`
        self._undo_open: Undo = {}  # changes since the last `applied`
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
        return StagedTables(items, index=index, term=term)

    def install(self, staged: Staged) -> tuple[int, int]:
        require(isinstance(staged, StagedTables), "installs what this backend did not stage", staged)
        assert isinstance(staged, StagedTables)
        self._tables = staged.tables
        self._reader = TablesView(self._tables)
        self._undo_open.clear()
        self._undo_closed.clear()
        self._point = staged.point
        self._bytes = size_bytes(self._tables)
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
            revert(self._tables, undo)
            undo.clear()
        self._point = self._durable
        self._waiting.clear()
        self._commit_wanted = False
        self._views.clear()
        self._bytes = size_bytes(self._tables)

    def _commit(self) -> None:
        """Callbacks come last: one may commit again."""
        self._commit_wanted = False
        self._undo_closed.clear()
        write_point(self._tables, self._point)
        self._durable = self._point
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()
