"""The store: applies key-value requests to the history of keys and answers reads.

Deterministic, on one thread, without clock or I/O of its own: every member applies the same requests in the same order and
reaches the same bytes and the same answers. Each request that changes a key gets one revision (write_txn.py).

What costs little is done at once and returned as bytes: the encoded response without its header (field 1), which the caller
puts in front. Anything else is returned as an object to be driven in slices (work.py): an `Apply` for a request of the log,
an `Answer` for a read. Only a RequestError is raised, and then nothing was written.
Invariants: `revision` never decreases, not over a compaction or a restart either; a key in the index is in the backend.
Source: etcd server/storage/mvcc/kvstore.go and server/etcdserver/txn, by their behaviour.
"""

from __future__ import annotations

from typing import Final

from tercet.containers import SortedKeys
from tercet.errors import COMPACTED, FUTURE_REVISION
from tercet.mvcc.compaction import Compaction
from tercet.mvcc.counts import Counts
from tercet.mvcc.delete import DeleteApply, KeysDelete
from tercet.mvcc.encoding import encode_revision_key
from tercet.mvcc.events import WriteListener
from tercet.mvcc.loading import FINISHED_COMPACTION, SCHEDULED_COMPACTION, Loaded
from tercet.mvcc.range_read import RangeRead, bounds, read_revision
from tercet.mvcc.range_stream import RangeStream
from tercet.mvcc.read_txn import Pins, ReadTxn
from tercet.mvcc.small_requests import SmallPut, SmallRange, SmallTxn
from tercet.mvcc.txn import TxnApply, TxnRead
from tercet.mvcc.work import Answer, Apply
from tercet.mvcc.write_txn import Leases, NoLeases, WriteTxn
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint
from tercet.storage.interfaces import Backend, Bucket

_COUNT_ONE: Final = b"\x20\x01"
_KV: Final = b"\x12"
_PREV_KV: Final = 2
_LARGE_BYTES: Final = 64 << 10  # larger values count as work


class Store:
    """History of keys over a backend; owner of the index.

    loaded: what `Loaded` read from the same backend in another thread; without it, it is read here.
    pins: the revisions that reads in progress need.
    is_replaced: an installed snapshot has brought another store: reads of this one cannot go on.
    """

    __slots__ = (
        "_compaction",
        "_write",
        "backend",
        "bytes_in_vain",
        "compact_revision",
        "counts",
        "finished_compact_revision",
        "index",
        "is_replaced",
        "pins",
    )

    def __init__(
        self, backend: Backend, *, leases: Leases | None = None, loaded: Loaded | None = None, counts: Counts | None = None
    ) -> None:
        loaded = Loaded(backend) if loaded is None else loaded
        leases = NoLeases() if leases is None else leases
        self.backend = backend
        self.counts = Counts() if counts is None else counts
        self.bytes_in_vain = 0  # of large values that `range` read before it left them to steps; set back by its caller
        self.index = loaded.index
        self.is_replaced = False
        self.pins = Pins()
        self._write = WriteTxn(loaded.index, backend, leases, self.counts, self.pins)
        self.finished_compact_revision = loaded.finished_compaction
        self.compact_revision = max(loaded.scheduled_compaction, loaded.finished_compaction)
        loaded.attach_leases(leases)
        self._compaction: Compaction | None = None
        if loaded.scheduled_compaction > loaded.finished_compaction:
            self._compaction = Compaction(self.index, backend, loaded.scheduled_compaction, self.counts)

    @property
    def revision(self) -> int:
        """Of the last request that is complete."""
        return self.index.main - 1

    def watch_writes(self, listener: WriteListener) -> None:
        """Tell `listener` of each request that writes, once it is complete."""
        self._write.listener = listener

    # Requests of the log.

    def put(self, request: rpc_pb2.PutRequest) -> bytes:
        """Raises LEASE_NOT_FOUND, or KEY_NOT_FOUND for ignore_value or ignore_lease."""
        write = self._write
        # Read first: a damaged record leaves the request unapplied (replica/apply.py).
        kv = self._read(self.revision).get(request.key) if request.prev_kv else None
        write.put(request)
        write.end()
        return b"" if kv is None else paste_field(_PREV_KV, kv)

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> DeleteApply:
        return DeleteApply(self._write, *bounds(request.key, request.range_end), prev_kv=request.prev_kv)

    def txn(self, request: rpc_pb2.TxnRequest) -> TxnApply:
        """Its steps raise FUTURE_REVISION, COMPACTED, LEASE_NOT_FOUND or KEY_NOT_FOUND, of the first operation that fails."""
        return TxnApply(self._write, request, self.compact_revision)

    def small_put(self, put: SmallPut) -> None:
        """Raises LEASE_NOT_FOUND."""
        put.apply(self._write)

    def small_txn(self, txn: SmallTxn) -> bytes | None:
        """Returns None for a Txn that turns out to read: `txn` applies it. Raises LEASE_NOT_FOUND."""
        return txn.apply(self._write)

    def delete_keys(self, keys: SortedKeys) -> Apply:
        """Delete those of `keys` that exist, in key order, as one request: for the revocation of a lease."""
        return KeysDelete(self._write, keys)

    def compact(self, revision: int) -> None:
        """Refuse reads below `revision` from now on; `compaction_step` removes what only they could return.

        Raises COMPACTED (at or below the last one, or negative) or FUTURE_REVISION.
        """
        if revision <= self.compact_revision:
            raise COMPACTED
        if revision > self.revision:
            raise FUTURE_REVISION
        self.backend.put(Bucket.META, SCHEDULED_COMPACTION, encode_revision_key(revision, 0))
        self.compact_revision = revision
        self._compaction = Compaction(self.index, self.backend, revision, self.counts)

    # Reads.

    def range(self, request: rpc_pb2.RangeRequest, *, at_once: bool = True) -> bytes | Answer:
        """One key is answered at once, unless its value is large. Raises FUTURE_REVISION or COMPACTED.

        at_once: False leaves one key to the answer's steps, too.
        """
        self.counts.ranges += 1
        revision = self.index.main - 1
        if request.revision > 0:
            revision = read_revision(request.revision, revision, self.compact_revision)
        if (
            request.range_end
            or request.count_only
            or request.keys_only
            or request.min_mod_revision
            or request.max_mod_revision
            or request.min_create_revision
            or request.max_create_revision
        ):
            return RangeRead(self._read(revision), request)
        if at_once and revision == self.index.main - 1 and (body := self._range_of_one(request.key)) is not None:
            return body
        return RangeRead(self._read(revision), request)

    def small_range(self, request: SmallRange, *, at_once: bool = True) -> bytes | Answer:
        """See `range`."""
        self.counts.ranges += 1
        body = self._range_of_one(request.key) if at_once else None
        return RangeRead(self._read(self.revision), request.request()) if body is None else body

    def _range_of_one(self, key: bytes) -> bytes | None:
        """The hottest read: one key, as it is now. None: it takes more than that."""
        index = self.index
        if index.written:
            return None
        entry = index.entry(key)
        if entry is None:
            return b""
        kv = self.backend.get(Bucket.KEY, entry[:17])
        if kv is None:
            return None
        if len(kv) > _LARGE_BYTES:
            self.bytes_in_vain += len(kv)
            return None
        return _KV + varint(len(kv)) + kv + _COUNT_ONE

    def read_txn(self, request: rpc_pb2.TxnRequest) -> Answer:
        """A Txn that only reads (check.is_read_only). Its steps raise FUTURE_REVISION or COMPACTED."""
        return TxnRead(self._read(self.revision), request, self.compact_revision, self.counts)

    def range_stream(self, request: rpc_pb2.RangeRequest, *, header: bytes, bytes_max: int) -> RangeStream:
        """Raises FUTURE_REVISION or COMPACTED. Call its `check_revision` before each message.

        header: the encoded ResponseHeader field (with its tag) as of this call; bytes_max: the size of a message to aim at.
        """
        revision = read_revision(request.revision, self.revision, self.compact_revision)
        return RangeStream(self._read(revision), request, header=header, bytes_max=bytes_max)

    def get_at(self, key: bytes, revision: int) -> bytes | None:
        """The encoded KeyValue of `key` at a revision that is not compacted; None if it did not exist."""
        return self._read(revision).get(key)

    def _read(self, revision: int) -> ReadTxn:
        return ReadTxn(self.index, self.backend, self.pins, revision)

    def hash_revision(self, requested: int) -> int:
        """The revision of a HashKV of `requested`; 0 is the current one. Raises COMPACTED or FUTURE_REVISION.

        A negative one is hashed as it is, as in etcd: no entry is old enough to count.
        """
        if requested == 0:
            return self.revision
        if 0 < requested < self.compact_revision:
            raise COMPACTED
        if requested > self.revision:
            raise FUTURE_REVISION
        return requested

    # Compaction, after `compact`.

    @property
    def unfinished_compaction(self) -> int:
        """The revision of the compaction whose superseded revisions are being removed; 0: none."""
        return self._compaction.revision if self._compaction is not None else 0

    def compaction_step(self, limit: int = 1000) -> bool:
        """Remove a slice of what was compacted: a few milliseconds. True: call again.

        Between requests only; its writes become durable with the next commit. When it is done, `finished_compact_revision`
        is `compact_revision`. While a read in progress needs what would be removed, nothing is.
        """
        compaction = self._compaction
        if compaction is None:
            return False
        if not self.pins.allow(compaction.revision) or compaction.step(limit):
            return True
        self.backend.put(Bucket.META, FINISHED_COMPACTION, encode_revision_key(compaction.revision, 0))
        self.finished_compact_revision = compaction.revision
        self._compaction = None
        return False
