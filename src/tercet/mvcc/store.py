"""The store: applies key-value requests to the history of keys and answers reads.

Deterministic, on one thread, without clock or I/O of its own: every member applies the same requests in the same order and
reaches the same bytes and the same answers. Each request that changes a key gets one revision (write_txn.py).

Answers are the encoded response without its header (field 1), which the caller puts in front. Only a RequestError is raised,
and then nothing was written.
Invariants: `revision` never decreases, not over a compaction or a restart either; a key in the index is in the backend.
Source: etcd server/storage/mvcc/kvstore.go and server/etcdserver/txn, by their behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tercet.errors import COMPACTED, FUTURE_REVISION
from tercet.mvcc import range_stream, txn
from tercet.mvcc.compaction import Compaction
from tercet.mvcc.counts import Counts
from tercet.mvcc.encoding import encode_revision_key
from tercet.mvcc.events import Event
from tercet.mvcc.loading import FINISHED_COMPACTION, SCHEDULED_COMPACTION, Loaded
from tercet.mvcc.ranges import Ranges, read_revision
from tercet.mvcc.write_txn import Leases, NoLeases, WriteTxn
from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Backend, Bucket


class Store:
    """History of keys over a backend; owner of the index.

    loaded: what `Loaded` read from the same backend in another thread; without it, it is read here.
    """

    __slots__ = (
        "_compaction",
        "_write",
        "backend",
        "compact_revision",
        "counts",
        "finished_compact_revision",
        "index",
        "ranges",
        "revision",
    )

    def __init__(
        self, backend: Backend, *, leases: Leases | None = None, loaded: Loaded | None = None, counts: Counts | None = None
    ) -> None:
        loaded = Loaded(backend) if loaded is None else loaded
        leases = NoLeases() if leases is None else leases
        self.backend = backend
        self.counts = Counts() if counts is None else counts
        self.index = loaded.index
        self.ranges = Ranges(loaded.index, backend)
        self.revision = loaded.revision
        self._write = WriteTxn(loaded.index, self.ranges, backend, leases, self.counts, revision=loaded.revision)
        self.finished_compact_revision = loaded.finished_compaction
        self.compact_revision = max(loaded.scheduled_compaction, loaded.finished_compaction)
        for key, lease_id in loaded.leased.items():
            leases.attach(key, lease_id)
        self._compaction: Compaction | None = None
        if loaded.scheduled_compaction > loaded.finished_compaction:
            self._compaction = Compaction(self.index, backend, loaded.scheduled_compaction)

    def listen(self, listener: Callable[[Sequence[Event]], None]) -> None:
        """Call `listener` with the events of each request that makes any, once it is complete."""
        self._write.listener = listener

    # Requests.

    def put(self, request: rpc_pb2.PutRequest) -> bytes:
        """Raises LEASE_NOT_FOUND, or KEY_NOT_FOUND for ignore_value or ignore_lease."""
        before = self.counts.operations
        body = self._write.put(request)
        self._end(before)
        return body

    def range(self, request: rpc_pb2.RangeRequest) -> bytes:
        """Raises FUTURE_REVISION or COMPACTED."""
        self.counts.ranges += 1
        return self.ranges.answer(request, self.revision, self.compact_revision)

    def range_stream(self, request: rpc_pb2.RangeRequest, *, header: bytes, bytes_max: int) -> Iterator[bytes]:
        """Encoded RangeStreamResponses, made one by one; this call fixes the revision.

        header: the encoded ResponseHeader field (with its tag) as of this call, for the last message.
        bytes_max: the size of a message to aim at. Raises FUTURE_REVISION or COMPACTED, the latter also from the iterator.
        """
        revision = read_revision(request.revision, self.revision, self.compact_revision)
        return range_stream.messages(
            self.ranges, request, revision, self.revision, header, bytes_max, compacted=lambda: self.compact_revision
        )

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> bytes:
        before = self.counts.operations
        body = self._write.delete_range(request)
        self._end(before)
        return body

    def txn(self, request: rpc_pb2.TxnRequest) -> bytes:
        """Raises FUTURE_REVISION, COMPACTED, LEASE_NOT_FOUND or KEY_NOT_FOUND, of the first operation that fails."""
        plan = txn.decide(self.ranges, request)
        txn.check(self._write, plan, self.compact_revision)
        before = self.counts.operations
        body = txn.run(self._write, plan, self.compact_revision)
        self._end(before)
        return body

    def delete_keys(self, keys: Sequence[bytes]) -> None:
        """Delete those of `keys` that exist, in the order given, as one request: for the revocation of a lease."""
        before = self.counts.operations
        for key in keys:
            self._write.delete_key(key)
        self._end(before)

    def _end(self, operations_before: int) -> None:
        if self.counts.operations > operations_before + 1:
            self.counts.txns += 1
        self.revision = self._write.end()

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
        self._compaction = Compaction(self.index, self.backend, revision)

    def compaction_step(self, limit: int = 1000) -> bool:
        """Remove a slice of what was compacted: a few milliseconds. True: call again.

        Between requests only; its writes become durable with the next commit. When it is done, `finished_compact_revision`
        is `compact_revision`.
        """
        compaction = self._compaction
        if compaction is None:
            return False
        if compaction.step(limit):
            return True
        self.backend.put(Bucket.META, FINISHED_COMPACTION, encode_revision_key(compaction.revision, 0))
        self.finished_compact_revision = compaction.revision
        self._compaction = None
        return False

    def hash_revision(self, requested: int) -> int:
        """The revision of a HashKV of `requested`; 0 is the current one. Raises COMPACTED or FUTURE_REVISION."""
        if requested == 0:
            return self.revision
        if requested < self.compact_revision:
            raise COMPACTED
        if requested > self.revision:
            raise FUTURE_REVISION
        return requested
