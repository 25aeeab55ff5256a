"""The simplest Backend: one sorted dictionary per bucket, and a copy of the last commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sortedcontainers import SortedDict

from tercet.storage.interfaces import Bucket, ReadView

Buckets = dict[Bucket, SortedDict]


class DictView:
    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        return self._buckets[bucket].get(key)

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        entries = self._buckets[bucket]
        for key in entries.irange(start, end, inclusive=(True, False)):
            yield key, entries[key]

    def close(self) -> None: ...


class DictBackend(DictView):
    def __init__(self, buckets: Buckets | None = None) -> None:
        super().__init__(buckets or {bucket: SortedDict() for bucket in Bucket})
        self._durable = _copy(self._buckets)
        self._closed = (0, _copy(self._buckets))
        self.applied_index = 0

    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        self._buckets[bucket][key] = value

    def delete(self, bucket: Bucket, key: bytes) -> None:
        self._buckets[bucket].pop(key, None)

    def applied(self, index: int, term: int) -> None:
        self._closed = (index, _copy(self._buckets))

    def commit(self, then: Callable[[], None] | None = None) -> None:
        self.commit_now()
        if then is not None:
            then()

    def commit_now(self) -> None:
        self.applied_index, self._durable = self._closed

    def view(self, then: Callable[[ReadView], None]) -> None:
        then(DictView(self._closed[1]))

    def size(self) -> int:
        return sum(len(key) + len(value) for entries in self._buckets.values() for key, value in entries.items())

    def size_in_use(self) -> int:
        return self.size()

    def close(self) -> None: ...

    # For tests.

    def snapshot(self) -> DictView:
        """A view of all writes, committed or not."""
        return DictView(_copy(self._buckets))

    def after_crash(self) -> DictBackend:
        """The backend as a process finds it after a crash: only what was committed."""
        return DictBackend(_copy(self._durable))

    def reopened(self) -> DictBackend:
        """The backend as a process finds it after a clean shutdown."""
        return DictBackend(_copy(self._buckets))


def _copy(buckets: Buckets) -> Buckets:
    return {bucket: entries.copy() for bucket, entries in buckets.items()}
