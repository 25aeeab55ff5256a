"""What does a Range answer: which pairs, in which order, and how many are there in all?

Three steps: find where the pairs are filed (the index), fetch them (the backend), dress them (filter, sort, cut, strip).
The common request skips the third: stored pairs are pasted into the answer unparsed. `count` speaks of the whole range,
whatever `limit` is, and is known without a walk for the newest revision.

Pages of a long list are all read at the revision of the first page. Their `count` would need a walk over all keys of the
range at that revision; where little has changed since, it is the count of now, corrected by what the backend's history
says was changed.
Source: etcd server/etcdserver/txn/range.go, by its behaviour. Departs in: ties of a sort keep the order of keys (etcd's
are unstable).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NoReturn

from tercet.errors import COMPACTED, FUTURE_REVISION, InvariantViolation, require
from tercet.mvcc.encoding import encode_key_value, encode_revision_key, key_of, paste_kvs, strip_kv
from tercet.mvcc.key_index import KeyIndex
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import varint
from tercet.storage.interfaces import Backend, Bucket

_Request = rpc_pb2.RangeRequest
_MORE = b"\x18\x01"
_ONE_PAIR, _COUNT = b"\x12", b"\x20"
_COUNT_ONE = b"\x20\x01"
_LIMIT_MAX = sys.maxsize - 1  # one more is looked for, to know whether there is more, and must still be a length
_WALK_PER_CHANGE = 8  # keys walked in the time that one change of the backend's history takes to read


def bounds(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """[start, end) of a request; None: no end. An empty range_end means the key alone, `\\0` all keys from it on."""
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == b"\0" else range_end


def read_revision(asked: int, now: int, compacted: int) -> int:
    """The revision to read at; `asked` <= 0 is now. Raises FUTURE_REVISION or COMPACTED."""
    if asked <= 0:
        return now
    if asked > now:
        raise FUTURE_REVISION
    if asked < compacted:
        raise COMPACTED
    return asked


class Ranges:
    """Reads for one store."""

    __slots__ = ("_backend", "index")

    def __init__(self, index: KeyIndex, backend: Backend) -> None:
        self.index = index
        self._backend = backend

    def answer(self, request: rpc_pb2.RangeRequest, now: int, compacted: int) -> bytes:
        """The body of a RangeResponse, without its header. Raises FUTURE_REVISION or COMPACTED."""
        asked = request.revision
        revision = now if asked <= 0 else read_revision(asked, now, compacted)
        if request.count_only:
            return count_field(self.count(*bounds(request.key, request.range_end), revision, now))
        if request.keys_only or _is_filtered(request):
            if revision == now and not _is_filtered(request) and not _is_sorted(request):
                return self._answer_bare(request)
            return self._answer_dressed(request, revision, now)
        if not request.range_end:  # the hottest read: one key, nothing else asked
            key = request.key
            pair = self.get_current(key) if revision == now else self.get_at(key, revision)
            return _ONE_PAIR + varint(len(pair)) + pair + _COUNT_ONE if pair is not None else b""
        if _is_sorted(request):
            return self._answer_dressed(request, revision, now)
        limit = min(request.limit, _LIMIT_MAX)
        revision_key, count = self.find(*bounds(request.key, request.range_end), revision, now, limit + 1 if limit > 0 else 0)
        if 0 < limit < len(revision_key):
            return paste_kvs(2, self.fetch(revision_key[:limit]), _MORE + count_field(count))
        return paste_kvs(2, self.fetch(revision_key), count_field(count))

    def get_current(self, key: bytes) -> bytes | None:
        """The pair of `key` now, encoded."""
        entry = self.index.current.get(key)
        if entry is None:
            return None
        return self._backend.get(Bucket.KEY, entry[:17]) or self._lost(entry[:17])

    def get_at(self, key: bytes, revision: int) -> bytes | None:
        """The pair that `key` had at `revision`, encoded; `revision` must not be compacted."""
        revision_key = self.index.get_at(key, revision)
        if revision_key is None:
            return None
        return self._backend.get(Bucket.KEY, revision_key) or self._lost(revision_key)

    def _lost(self, revision_key: bytes) -> NoReturn:
        raise InvariantViolation(f"the index knows a revision that the backend does not have: {revision_key.hex()}")

    def fetch(self, revision_key: list[bytes]) -> list[bytes]:
        """The encoded pairs, in the order asked."""
        pairs: Any = self._backend.get_many(Bucket.KEY, revision_key)
        require(None not in pairs, "the index knows a revision that the backend does not have")
        return pairs  # type: ignore[no-any-return]

    def find(self, start: bytes, end: bytes | None, revision: int, now: int, limit: int) -> tuple[list[bytes], int]:
        """Where the pairs of a range are filed, in key order, at most `limit` (0: all), and how many there are in all."""
        if revision == now:
            return self.index.range_current(start, end, limit), self.index.count(start, end)
        then = self.index.range_at(start, end, revision)
        found = [revision_key for _, revision_key in (islice(then, limit) if limit > 0 else then)]
        if limit <= 0 or len(found) < limit:
            return found, len(found)
        return found, self.count(start, end, revision, now)

    def count(self, start: bytes, end: bytes | None, revision: int, now: int) -> int:
        """Keys of [start, end) that lived at `revision`."""
        count = self.index.count(start, end)
        if revision == now:
            return count
        touched = self._touched_since(start, end, revision, changes_max=count // _WALK_PER_CHANGE)
        if touched is None:
            return sum(1 for _ in self.index.range_at(start, end, revision))
        current, at = self.index.current, self.index.get_at
        return count + sum((at(key, revision) is not None) - (key in current) for key in touched)

    def _touched_since(self, start: bytes, end: bytes | None, revision: int, changes_max: int) -> set[bytes] | None:
        """Keys of the range that changed after `revision`; None if history since then is longer than `changes_max`."""
        touched: set[bytes] = set()
        for _, pair in self._backend.scan(Bucket.KEY, encode_revision_key(revision + 1, 0)):
            if changes_max <= 0:
                return None
            changes_max -= 1
            key = key_of(pair)
            if start <= key and (end is None or key < end):
                touched.add(key)
        return touched

    def _answer_bare(self, request: rpc_pb2.RangeRequest) -> bytes:
        """Keys only, now and in their order: all that is told is in the index."""
        start, end = bounds(request.key, request.range_end)
        limit, count, describe = request.limit, self.index.count(start, end), self.index.describe
        keys = self.index.keys(start, end)
        pairs = [encode_key_value(key, *describe(key), b"", 0) for key in (islice(keys, limit) if limit > 0 else keys)]
        return paste_kvs(2, pairs, (_MORE if 0 < limit < count else b"") + count_field(count))

    def _answer_dressed(self, request: rpc_pb2.RangeRequest, revision: int, now: int) -> bytes:
        """Any request: filters, orders, keys only."""
        limit, ordered, filtered = min(request.limit, _LIMIT_MAX), _is_sorted(request), _is_filtered(request)
        # A named order looks at the whole range before the limit cuts; a target alone orders only what the limit let through.
        early = limit > 0 and request.sort_order == _Request.NONE and not filtered
        revision_key, count = self.find(*bounds(request.key, request.range_end), revision, now, limit + 1 if early else 0)
        pairs = self.fetch(revision_key)
        if filtered or ordered:
            pairs = _dress(request, pairs)
        more = 0 < limit < len(pairs)
        if more:
            del pairs[limit:]
        if request.keys_only:
            pairs = strip(request, pairs)
        return paste_kvs(2, pairs, (_MORE if more else b"") + count_field(count))


def strip(request: rpc_pb2.RangeRequest, pairs: Sequence[bytes]) -> list[bytes]:
    """What `keys_only` leaves of pairs; their leases go too, unless they were sorted by value."""
    return [strip_kv(pair, lease=request.sort_target == _Request.VALUE) for pair in pairs]


def count_field(count: int) -> bytes:
    return _COUNT + varint(count) if count else b""


def _is_filtered(request: rpc_pb2.RangeRequest) -> bool:
    return bool(
        request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision
    )


def _is_sorted(request: rpc_pb2.RangeRequest) -> bool:
    """Whether the order is another than that of the keys."""
    return request.sort_target in _SORT_KEYS or request.sort_order == _Request.DESCEND


def _dress(request: rpc_pb2.RangeRequest, pairs: list[bytes]) -> list[bytes]:
    """Filtered and sorted. Ties stay in the order of keys."""
    kept = [(kv_pb2.KeyValue.FromString(pair), pair) for pair in pairs]
    if low := request.min_mod_revision:
        kept = [item for item in kept if item[0].mod_revision >= low]
    if high := request.max_mod_revision:
        kept = [item for item in kept if item[0].mod_revision <= high]
    if low := request.min_create_revision:
        kept = [item for item in kept if item[0].create_revision >= low]
    if high := request.max_create_revision:
        kept = [item for item in kept if item[0].create_revision <= high]
    descending = request.sort_order == _Request.DESCEND
    sort_key = _SORT_KEYS.get(request.sort_target)
    if sort_key is not None:
        kept.sort(key=lambda item: sort_key(item[0]), reverse=descending)
    elif descending:
        kept.reverse()
    return [pair for _, pair in kept]


_SORT_KEYS: dict[int, Callable[[kv_pb2.KeyValue], Any]] = {
    _Request.VERSION: lambda kv: kv.version,
    _Request.CREATE: lambda kv: kv.create_revision,
    _Request.MOD: lambda kv: kv.mod_revision,
    _Request.VALUE: lambda kv: kv.value,
}
