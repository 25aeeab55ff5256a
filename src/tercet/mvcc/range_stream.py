"""RangeStream: a Range in many messages, so that neither side holds the whole answer.

The revision is fixed at the start; what is written meanwhile is not seen. The size of a message follows that of its
KeyValues: ten keys first, then twice as many while messages are small. All messages merged are the answer of a Range; only
the last one has header, `more` and `count`. A compaction that overtakes the revision ends the stream, since its pace is the
client's.

With a sort_target other than KEY and no order, each message is sorted by it, as in etcd 3.7. Departs in: etcd continues after
the last key of the sorted message, and so loses some keys and sends others twice.
Source: etcd 3.7 KV.RangeStream, by its behaviour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet.errors import COMPACTED, require
from tercet.mvcc.encoding import paste_kvs, strip_kv
from tercet.mvcc.range_count import RangeCount
from tercet.mvcc.range_read import bounds, count_field
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import BYTES_SHIFT, FETCH, VISIT, Budget, Steps
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import paste_field

_FIRST_KEYS: Final = 10
_KEYS_MAX: Final = 20_480  # of a message: the last step sorts and joins them, 15 ms
_CHUNK: Final = 64  # keys visited between two looks at the budget
_MORE: Final = b"\x18\x01"
_ORDERS: Final[dict[int, Callable[[kv_pb2.KeyValue], int | bytes]]] = {
    rpc_pb2.RangeRequest.VERSION: lambda kv: kv.version,
    rpc_pb2.RangeRequest.CREATE: lambda kv: kv.create_revision,
    rpc_pb2.RangeRequest.MOD: lambda kv: kv.mod_revision,
    rpc_pb2.RangeRequest.VALUE: lambda kv: kv.value,
}


class RangeStream(Steps):
    """The messages of one stream, each made by steps of its own: when `step` returns False, `message` is complete.

    is_over: the message is the last one.
    """

    __slots__ = (
        "_bytes_max",
        "_count",
        "_counting",
        "_end",
        "_header",
        "_keeps_lease",
        "_keys",
        "_keys_only",
        "_kvs",
        "_left",
        "_limit",
        "_more",
        "_order",
        "_places",
        "_start",
        "_txn",
        "is_over",
        "message",
    )

    def __init__(self, txn: ReadTxn, request: rpc_pb2.RangeRequest, *, header: bytes, bytes_max: int) -> None:
        """header: the encoded ResponseHeader field (with its tag) for the last message; bytes_max: the size to aim at."""
        self._txn = txn
        self._header = header
        self._bytes_max = bytes_max
        self._start, self._end = bounds(request.key, request.range_end)
        self._limit = -1 if request.count_only else max(0, request.limit)
        self._keys_only = request.keys_only
        self._order = None if request.sort_order else _ORDERS.get(int(request.sort_target))
        self._keeps_lease = request.sort_target == rpc_pb2.RangeRequest.VALUE and not request.sort_order  # with keys_only
        self._counting: RangeCount | None = RangeCount(txn, self._start, self._end)
        self._count = 0
        self._left = 0  # keys still to be sent
        self._more = False
        self._keys = _FIRST_KEYS  # in this message
        self._kvs: list[bytes] = []
        self._places: list[tuple[int | bytes, int]] = []  # of these by the sort target, each with its number
        self.message = b""
        self.is_over = False

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        counting = self._counting
        if counting is not None:
            if counting.step(budget):
                return True
            self._counting = None
            self._begin(counting.count)
        wanted = min(self._keys, self._left)
        while len(self._kvs) < wanted:
            if budget.left <= 0:
                return True
            self._gather(min(_CHUNK, budget.left, wanted - len(self._kvs)), budget)
        self._left -= wanted
        self._close_message()
        return False

    def pin(self) -> None:
        self._txn.pin()

    def unpin(self) -> None:
        self._txn.unpin()

    def check_revision(self, compact_revision: int) -> None:
        """Call before each message. Raises COMPACTED if a compaction has overtaken the stream."""
        if self._txn.revision < compact_revision:
            raise COMPACTED

    def _begin(self, count: int) -> None:
        self._count = count
        if self._limit >= 0:
            self._left = min(count, self._limit) if self._limit > 0 else count
            self._more = self._left < count

    def _gather(self, visits: int, budget: Budget) -> None:
        entries, last = self._txn.index.range_at(self._start, self._end, self._txn.bound, visits)
        budget.left -= visits * VISIT
        for key, entry in entries:
            self._take(self._txn.fetch(entry), budget)
            self._start = key + b"\0"
            if budget.left <= 0:
                return
        require(last is not None or bool(entries), "a range ends before its count", self._txn.revision, self._left)
        if last is not None:
            self._start = last + b"\0"

    def _take(self, kv: bytes, budget: Budget) -> None:
        budget.left -= FETCH + (len(kv) >> BYTES_SHIFT)
        if self._order is not None:
            budget.left -= FETCH
            self._places.append((self._order(kv_pb2.KeyValue.FromString(kv)), len(self._kvs)))
        if self._keys_only:
            budget.left -= FETCH
            kv = strip_kv(kv, lease=self._keeps_lease)
        self._kvs.append(kv)

    def _close_message(self) -> None:
        kvs, self._kvs = self._kvs, []
        places, self._places = self._places, []
        if places:
            kvs = [kvs[number] for _, number in sorted(places)]
        chunk = paste_kvs(2, kvs)
        if len(chunk) < self._bytes_max // 2:
            self._keys = min(_KEYS_MAX, 2 * self._keys)
        elif len(chunk) > self._bytes_max * 2:
            self._keys = max(1, self._keys // 2)
        self.is_over = not self._left
        if self.is_over:
            chunk = self._header + chunk + (_MORE if self._more else b"") + count_field(self._count)
        self.message = paste_field(1, chunk)
