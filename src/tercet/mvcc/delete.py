"""Deletions that may take several slices: a range of keys, or the keys of a lease."""

from __future__ import annotations

from typing import Final

from tercet.containers import SortedKeys
from tercet.mvcc.encoding import REVISION_BYTES
from tercet.mvcc.stored_kvs import StoredKvs
from tercet.mvcc.work import WRITE, Answer, Apply, Budget, Steps
from tercet.mvcc.write_txn import WriteTxn
from tercet.proto.wire import varint

_CHUNK: Final = 256
_CHUNK_BYTES: Final = 256 << 10  # of names
_NAMES_SHIFT: Final = 8  # one unit for each 256 bytes: the tombstone, its event and the index copy a name, 3 us a KiB
PREV_KVS: Final = 3


class RangeDelete(Steps):
    """Delete the keys of a range, as one operation of a request.

    deleted: how many so far. previous: their revision keys before the deletion, one after the other, if `remember`.
    """

    __slots__ = ("_end", "_remember", "_start", "_write", "deleted", "previous")

    def __init__(self, write: WriteTxn, start: bytes, end: bytes | None, *, remember: bool) -> None:
        self._write = write
        self._start = start
        self._end = end
        self._remember = remember
        self.deleted = 0
        self.previous = bytearray()

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        write = self._write
        while True:
            chunk = max(1, min(_CHUNK, budget.left // WRITE))
            found = write.index.keys(self._start, self._end, chunk)
            keys, size = _some_of(found)
            if keys:
                if self._remember:
                    for key in keys:
                        entry = write.index.entry(key)
                        assert entry is not None
                        self.previous += entry[:REVISION_BYTES]
                write.delete(keys)
                self.deleted += len(keys)
                budget.left -= len(keys) * WRITE + (size >> _NAMES_SHIFT)
            if len(keys) == len(found) < chunk:
                return False
            self._start = keys[-1] + b"\0"
            if budget.left <= 0:
                return True


class DeleteApply(Apply):
    """A DeleteRange request."""

    __slots__ = ("_before", "_deleting", "_end", "_prev_kv", "_start", "_write")

    def __init__(self, write: WriteTxn, start: bytes, end: bytes | None, *, prev_kv: bool) -> None:
        self._write = write
        self._start = start
        self._end = end
        self._prev_kv = prev_kv
        self._before = write.read()
        self._deleting: RangeDelete | None = None
        self.is_awaited = False

    def step(self, budget: Budget) -> bool:
        deleting = self._deleting
        if deleting is None:
            self._write.count_deletes(1, prev_kv=self._prev_kv)
            remember = self._prev_kv and self.is_awaited
            deleting = self._deleting = RangeDelete(self._write, self._start, self._end, remember=remember)
        if deleting.step(budget):
            return True
        self._write.end()
        return False

    def outcome(self) -> bytes | Answer:
        deleting = self._deleting
        assert deleting is not None
        body = deleted_field(deleting.deleted)
        if not deleting.previous:
            return body
        return StoredKvs(self._before, deleting.previous, PREV_KVS, body)


class KeysDelete(Apply):
    """Delete given keys in their order, those of a revoked lease, as one request."""

    __slots__ = ("_keys", "_start", "_write")

    def __init__(self, write: WriteTxn, keys: SortedKeys) -> None:
        """keys: may change only by these deletions."""
        self._write = write
        self._keys = keys
        self._start = b""
        self.is_awaited = False

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        write = self._write
        while budget.left > 0:
            count = max(1, min(_CHUNK, budget.left // WRITE))
            found = self._keys.first(self._start, None, count)
            chunk, size = _some_of(found)
            existing = [key for key in chunk if key in write.index]
            if existing:
                write.count_deletes(len(existing))
                write.delete(existing)
            if len(chunk) == len(found) < count:
                write.end()
                return False
            self._start = chunk[-1] + b"\0"
            budget.left -= len(chunk) * WRITE + (size >> _NAMES_SHIFT)
        return True

    def outcome(self) -> bytes:
        return b""


def _some_of(keys: list[bytes]) -> tuple[list[bytes], int]:
    """As many of the first keys as may be deleted together, one at least, and the bytes of their names."""
    size = sum([len(key) for key in keys])
    if size <= _CHUNK_BYTES:
        return keys, size
    size = count = 0
    for key in keys:
        if count and size + len(key) > _CHUNK_BYTES:
            break
        size += len(key)
        count += 1
    return keys[:count], size


def deleted_field(count: int) -> bytes:
    """The field `deleted` of a DeleteRangeResponse."""
    return b"\x10" + varint(count) if count else b""
