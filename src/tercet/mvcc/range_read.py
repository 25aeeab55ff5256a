"""One Range request, read in slices.

    scan    visit the keys of the range, a slice at a time; what is wanted in the order of visits goes into the answer at once
    sort    only for an order other than that of keys: take sorted records (sorted_runs.py), fetch their values
    count   only where `limit` ended the scan early and the revision is old (range_count.py)

`count` is the number of keys in the whole range, whatever `limit` and the filters are. For the newest revision the index
knows it without a walk.

Invariant: the answer is that of the revision of the ReadTxn, however long it takes.
Source: etcd server/etcdserver/txn/range.go, by its behaviour. Departs in: ties of a sort keep the order of keys (etcd's sort is
not stable).
"""

from __future__ import annotations

import sys
from typing import Final

from tercet.errors import COMPACTED, FUTURE_REVISION
from tercet.mvcc.encoding import REVISION_BYTES, encode_key_value, main_of, strip_kv, value_in
from tercet.mvcc.key_index import create_revision_in, has_details, version_in
from tercet.mvcc.pieces import Pieces
from tercet.mvcc.range_count import RangeCount
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.sorted_runs import SortedRuns, sortable_bytes, sortable_int
from tercet.mvcc.work import BYTES_SHIFT, FETCH, VISIT, Answer, Budget
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import varint

_Request = rpc_pb2.RangeRequest
_KEY: Final = int(_Request.KEY)
_VERSION: Final = int(_Request.VERSION)
_MOD: Final = int(_Request.MOD)
_VALUE: Final = int(_Request.VALUE)
_NONE: Final = int(_Request.NONE)
_DESCEND: Final = int(_Request.DESCEND)

_CHUNK: Final = 64  # keys visited between two looks at the budget
_LIMIT_MAX: Final = sys.maxsize - 1
_MORE: Final = b"\x18\x01"
_KV: Final = b"\x12"

_SCANNING, _SORTING, _COUNTING, _DONE = range(4)


def bounds(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """[start, end) of a request; None: no end. An empty range_end means the key alone, `\\0` all keys from it on."""
    if not range_end:
        return key, key + b"\0"
    return key, None if range_end == b"\0" else range_end


def read_revision(requested: int, current: int, compacted: int) -> int:
    """The revision to read at; `requested` <= 0 is the current one. Raises FUTURE_REVISION or COMPACTED."""
    if requested <= 0:
        return current
    if requested > current:
        raise FUTURE_REVISION
    if requested < compacted:
        raise COMPACTED
    return requested


class RangeRead(Answer):
    """The answer to one Range."""

    __slots__ = (
        "_count",
        "_counting",
        "_descending",
        "_end",
        "_existing",
        "_filtered",
        "_found",
        "_keys_only",
        "_kv_bytes",
        "_limit",
        "_max_create",
        "_max_mod",
        "_min_create",
        "_min_mod",
        "_more",
        "_phase",
        "_pieces",
        "_runs",
        "_scan_limit",
        "_start",
        "_target",
        "_unsorted",
        "range",
        "txn",
    )

    def __init__(self, txn: ReadTxn, request: rpc_pb2.RangeRequest) -> None:
        self.txn = txn
        self.range = bounds(request.key, request.range_end)
        self._start, self._end = self.range
        # Keys in the range at this revision, whatever the filters. -1: not known yet.
        self._count = txn.index.count(self._start, self._end) if txn.is_newest else -1
        self._counting: RangeCount | None = None
        self._limit = min(request.limit, _LIMIT_MAX) if request.limit > 0 else 0
        self._keys_only = request.keys_only
        self._min_mod, self._max_mod = request.min_mod_revision, request.max_mod_revision
        self._min_create, self._max_create = request.min_create_revision, request.max_create_revision
        self._filtered = bool(self._min_mod or self._max_mod or self._min_create or self._max_create)
        self._target = int(request.sort_target)
        self._descending = int(request.sort_order) == _DESCEND
        self._runs = SortedRuns(keep=self._limit) if self._target != _KEY else None
        # A named order sees the whole range before the limit cuts it; a target alone sorts only what the limit let through.
        is_cut_early = self._runs is None or (int(request.sort_order) == _NONE and not self._filtered)
        self._scan_limit = self._limit + 1 if self._limit and is_cut_early else 0
        self._existing = 0  # keys seen by the scan
        self._found = 0  # of these, those that pass the filters
        self._unsorted = 0  # of these, those still to be taken from `_runs`
        self._more = False
        self._kv_bytes = 0
        self._pieces = Pieces()
        self.parts = []
        self._phase = _SCANNING
        if request.count_only:
            self._begin_count()

    @property
    def size_bytes(self) -> int:
        """What it holds in memory so far."""
        return self._kv_bytes + (self._runs.size_bytes if self._runs is not None else 0)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if self._phase == _SCANNING:
            self._scan(budget)
        if self._phase == _SORTING:
            self._sort(budget)
        if self._phase == _COUNTING:
            assert self._counting is not None
            if not self._counting.step(budget):
                self._finish(self._counting.count)
        return self._phase != _DONE

    def pin(self) -> None:
        self.txn.pin()

    def unpin(self) -> None:
        self.txn.unpin()

    def discard(self, budget: Budget) -> bool:
        return self._runs is not None and self._runs.discard(budget)

    # Scan.

    def _scan(self, budget: Budget) -> None:
        """Visit keys until the budget is used up, the limit is reached, or the range ends."""
        reverse = self._descending and self._runs is None
        while budget.left > 0:
            visits = min(_CHUNK, budget.left)
            if self._scan_limit and not self._filtered:
                visits = min(visits, self._scan_limit - self._found)
            entries, last = self.txn.index.range_at(self._start, self._end, self.txn.bound, visits, reverse=reverse)
            budget.left -= visits * VISIT
            for key, entry in entries:
                self._take(key, entry, budget)
                if self._found == self._scan_limit != 0:
                    self._end_scan()
                    return
                if budget.left <= 0:
                    self._go_on_after(key, reverse=reverse)
                    return
            if last is None:
                if self._count < 0:
                    self._count = self._existing
                self._end_scan()
                return
            self._go_on_after(last, reverse=reverse)

    def _go_on_after(self, key: bytes, *, reverse: bool) -> None:
        if reverse:
            self._end = key
        else:
            self._start = key + b"\0"

    def _take(self, key: bytes, entry: bytes, budget: Budget) -> None:
        """Add a key of the range to the answer, or to what is to be sorted, if it passes the filters."""
        self._existing += 1
        if self._filtered and not self._passes(entry, budget):
            return
        self._found += 1
        if self._runs is not None:
            self._runs.add(self._record(key, entry, budget))
        elif self._found == self._scan_limit:
            self._more = True
        else:
            self._add_kv(key, entry, budget)

    def _passes(self, entry: bytes, budget: Budget) -> bool:
        mod = main_of(entry)
        if (self._min_mod and mod < self._min_mod) or (self._max_mod and mod > self._max_mod):
            return False
        if not self._min_create and not self._max_create:
            return True
        if has_details(entry):
            create = create_revision_in(entry)
        else:
            create = kv_pb2.KeyValue.FromString(self._fetch(entry, budget)).create_revision
        return (not self._min_create or create >= self._min_create) and (not self._max_create or create <= self._max_create)

    def _add_kv(self, key: bytes, entry: bytes, budget: Budget) -> None:
        """The next KeyValue of the answer."""
        if self._keys_only and self._target != _VALUE and has_details(entry):  # the index knows all that is asked for
            kv = encode_key_value(key, entry[25:], varint(main_of(entry)), version_in(entry), b"", 0)
            budget.left -= len(kv) >> BYTES_SHIFT
        else:
            kv = self._fetch(entry, budget)
            if self._keys_only:
                kv = strip_kv(kv, lease=self._target == _VALUE)  # the lease is kept where the sort had to read the value
        self._pieces.add(_KV + varint(len(kv)))
        self._pieces.add(kv)
        self._kv_bytes += len(kv)

    def _end_scan(self) -> None:
        if self._runs is None:
            self._begin_count()
            return
        self._more = 0 < self._limit < self._found
        self._unsorted = self._limit if self._more else self._found
        self._phase = _SORTING

    # Sort.

    def _record(self, key: bytes, entry: bytes, budget: Budget) -> bytes:
        """What the sort compares, then the position in key order, so that ties keep it, then the revision key."""
        target, descending = self._target, self._descending
        if target == _MOD:
            compared = sortable_int(main_of(entry), descending=descending)
        elif target == _VALUE:
            kv = self._fetch(entry, budget)
            compared = sortable_bytes(value_in(kv, key), descending=descending)
        elif has_details(entry):
            number = version_in(entry) if target == _VERSION else create_revision_in(entry)
            compared = sortable_int(number, descending=descending)
        else:
            parsed = kv_pb2.KeyValue.FromString(self._fetch(entry, budget))
            compared = sortable_int(parsed.version if target == _VERSION else parsed.create_revision, descending=descending)
        return compared + self._found.to_bytes(8, "big") + entry[:REVISION_BYTES]

    def _fetch(self, entry: bytes, budget: Budget) -> bytes:
        kv = self.txn.fetch(entry)
        budget.left -= FETCH + (len(kv) >> BYTES_SHIFT)
        return kv

    def _sort(self, budget: Budget) -> None:
        assert self._runs is not None
        while self._unsorted and budget.left > 0:
            self._add_kv(b"", self._runs.next()[-REVISION_BYTES:], budget)
            self._unsorted -= 1
        if not self._unsorted:
            self._runs = None
            self._begin_count()

    # Count.

    def _begin_count(self) -> None:
        if self._count >= 0:
            self._finish(self._count)
            return
        self._counting = RangeCount(self.txn, *self.range)
        self._phase = _COUNTING

    def _finish(self, count: int) -> None:
        self._pieces.add((_MORE if self._more else b"") + count_field(count))
        self._pieces.join()
        self.parts = self._pieces.parts
        self._phase = _DONE


def count_field(count: int) -> bytes:
    """The field `count` of a RangeResponse."""
    return b"\x20" + varint(count) if count else b""
