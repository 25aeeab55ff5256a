"""The store: what a key-value request does to the history of keys, and what it is answered.

Pure semantics, on one thread: no clock, no chance, no waiting. Every member applies the same requests in the same order
and must come to the same bytes and the same answers. Each request that changes a key makes one revision, shared by all its
changes; a change is filed in the backend under (revision, sub), where sub counts the changes of the request.

Answers are the encoded response without its header (field 1), which the caller pastes in front. Only a RequestError is
raised, and then nothing was written.
Invariants: `revision` never goes back, not even over a compaction and a restart; a key named by the index is in the
backend.
Source: etcd server/storage/mvcc (kvstore_txn.go) and server/etcdserver/txn, by their behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from tercet.errors import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND
from tercet.mvcc import range_stream, txn
from tercet.mvcc.compaction import Compaction
from tercet.mvcc.counts import Counts
from tercet.mvcc.encoding import (
    FIRST_SUB,
    TOMBSTONE,
    encode_deleted,
    encode_key_value,
    encode_revision_key,
    encode_tombstone,
    paste_pairs,
)
from tercet.mvcc.loading import FINISHED_COMPACTION, SCHEDULED_COMPACTION, Loaded
from tercet.mvcc.ranges import Ranges, bounds, read_revision
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import paste_field, varint
from tercet.storage.interfaces import Backend, Bucket


class Leases(Protocol):
    """What the store asks of the leases (lease.Lessor)."""

    @property
    def leased(self) -> Mapping[bytes, int]:
        """The lease of each key that has one."""
        ...

    def lease_exists(self, lease_id: int) -> bool: ...
    def attach(self, key: bytes, lease_id: int) -> None: ...
    def detach(self, key: bytes) -> None: ...


class NoLeases:
    """For a store that is used alone: no lease exists."""

    leased: Mapping[bytes, int] = MappingProxyType({})

    def lease_exists(self, lease_id: int) -> bool:
        return False

    def attach(self, key: bytes, lease_id: int) -> None: ...

    def detach(self, key: bytes) -> None: ...


class Change(NamedTuple):
    """One change of a request, for watchers. `pair` is the KeyValue that they are shown, encoded."""

    revision: int
    sub: int
    key: bytes
    pair: bytes
    is_delete: bool


class Store:
    """History of keys over a backend; owner of the index.

    loaded: what `Loaded` read from the same backend, where that was done in another thread; otherwise it is read here.
    listener: told the changes of each request that made any, after it is complete; set it before the first request.
    """

    __slots__ = (
        "_compaction",
        "_written",
        "backend",
        "changes",
        "compact_revision",
        "counts",
        "finished_compact_revision",
        "index",
        "leases",
        "listener",
        "ranges",
        "revision",
    )

    def __init__(
        self, backend: Backend, *, leases: Leases | None = None, loaded: Loaded | None = None, counts: Counts | None = None
    ) -> None:
        loaded = Loaded(backend) if loaded is None else loaded
        self.backend = backend
        self.leases: Leases = NoLeases() if leases is None else leases
        self.counts = Counts() if counts is None else counts
        self.index = loaded.index
        self.ranges = Ranges(loaded.index, backend)
        self.revision = loaded.revision
        self.finished_compact_revision = loaded.finished_compaction
        self.compact_revision = max(loaded.scheduled_compaction, loaded.finished_compaction)
        self._written = 0  # changes of the request that runs
        self.changes: list[Change] = []
        self.listener: Callable[[Sequence[Change]], None] | None = None
        for key, lease_id in loaded.leased.items():
            self.leases.attach(key, lease_id)
        self._compaction: Compaction | None = None
        if loaded.scheduled_compaction > loaded.finished_compaction:
            self._compaction = Compaction(self.index, backend, loaded.scheduled_compaction)

    # Requests.

    def put(self, request: rpc_pb2.PutRequest) -> bytes:
        """Raises LEASE_NOT_FOUND, or KEY_NOT_FOUND for ignore_value or ignore_lease."""
        before = self.counts.operations
        body = self.put_operation(request)
        self._close_request(before)
        return body

    def range(self, request: rpc_pb2.RangeRequest) -> bytes:
        """Raises FUTURE_REVISION or COMPACTED."""
        self.counts.ranges += 1
        return self.ranges.answer(request, self.revision, self.compact_revision)

    def range_stream(self, request: rpc_pb2.RangeRequest, *, header: bytes, bytes_max: int) -> Iterator[bytes]:
        """Encoded RangeStreamResponses, made as they are asked for; the revision is fixed by this call.

        header: the encoded ResponseHeader field (with its tag) of this moment, for the last message.
        bytes_max: the size of a message to aim at. Raises FUTURE_REVISION or COMPACTED, the latter also from the iterator.
        """
        revision = read_revision(request.revision, self.revision, self.compact_revision)
        return range_stream.messages(self, request, revision, header, bytes_max)

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> bytes:
        before = self.counts.operations
        body = self.delete_operation(request)
        self._close_request(before)
        return body

    def txn(self, request: rpc_pb2.TxnRequest) -> bytes:
        """Raises FUTURE_REVISION, COMPACTED, LEASE_NOT_FOUND or KEY_NOT_FOUND, of the first operation that cannot be done."""
        plan = txn.decide(self, request)
        txn.check(self, plan)
        before = self.counts.operations
        body = txn.run(self, plan)
        self._close_request(before)
        return body

    def delete_keys(self, keys: Sequence[bytes]) -> None:
        """Delete those of `keys` that live, in the order given, as one request: for a lease that ends."""
        before = self.counts.operations
        for key in keys:
            if key in self.index.current:
                self.counts.deletes += 1
                self._delete([key])
        self._close_request(before)

    def compact(self, revision: int) -> None:
        """Refuse reads below `revision` from now on; `compaction_step` removes what they could have seen.

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

        Between requests only; what it writes is durable with the next commit. When it is done, `finished_compact_revision`
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

    def hash_revision(self, asked: int) -> int:
        """The revision that a HashKV of `asked` is for; 0 is now. Raises COMPACTED or FUTURE_REVISION."""
        if asked == 0:
            return self.revision
        if asked < self.compact_revision:
            raise COMPACTED
        if asked > self.revision:
            raise FUTURE_REVISION
        return asked

    # Operations: the parts of a request, each seeing the writes of those before it.

    @property
    def txn_revision(self) -> int:
        """The revision as the running request sees it: its own, once it has changed anything."""
        return self.revision + 1 if self._written else self.revision

    def range_operation(self, request: rpc_pb2.RangeRequest) -> bytes:
        self.counts.ranges += 1
        return self.ranges.answer(request, self.txn_revision, self.compact_revision)

    def put_operation(self, request: rpc_pb2.PutRequest) -> bytes:
        lease = request.lease
        if lease and not self.leases.lease_exists(lease):
            raise LEASE_NOT_FOUND
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            return self._put_over(request)
        self._put(request.key, request.value, lease)
        return b""

    def _put_over(self, request: rpc_pb2.PutRequest) -> bytes:
        """A Put that needs the pair it replaces."""
        self.counts.ranges += 1
        prior = self.ranges.pair(request.key)
        value, lease = request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            if prior is None:
                raise KEY_NOT_FOUND
            kept = kv_pb2.KeyValue.FromString(prior)
            value = kept.value if request.ignore_value else value
            lease = kept.lease if request.ignore_lease else lease
        self._put(request.key, value, lease)
        return paste_field(2, prior) if request.prev_kv and prior is not None else b""

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        revision, sub = self.revision + 1, self._written
        self.counts.puts += 1
        self.counts.put_bytes += len(key) + len(value)
        revision_key = encode_revision_key(revision, sub) if sub else revision.to_bytes(8, "big") + FIRST_SUB
        mod = varint(revision)
        create, version = self.index.put(key, revision_key, mod)
        pair = encode_key_value(key, create, mod, version, value, lease)
        self.backend.put(Bucket.KEY, revision_key, pair)
        self._written = sub + 1
        if lease or key in self.leases.leased:
            self._attach_lease(key, lease)
        if self.listener is not None:
            self.changes.append(Change(revision, sub, key, pair, False))

    def _attach_lease(self, key: bytes, lease: int) -> None:
        """A key belongs to the lease of its last Put, or to none."""
        held = self.leases.leased.get(key, 0)
        if held != lease:
            if held:
                self.leases.detach(key)
            if lease:
                self.leases.attach(key, lease)

    def delete_operation(self, request: rpc_pb2.DeleteRangeRequest) -> bytes:
        self.counts.deletes += 1
        if request.prev_kv:
            self.counts.ranges += 1
        if not request.range_end:
            keys = [request.key] if request.key in self.index.current else []
        else:
            keys = list(self.index.keys(*bounds(request.key, request.range_end)))
        if not keys:
            return b""
        current = self.index.current
        prior = self.ranges.fetch([current[key][:17] for key in keys]) if request.prev_kv else []
        self._delete(keys)
        return b"\x10" + varint(len(keys)) + paste_pairs(3, prior)

    def _delete(self, keys: list[bytes]) -> None:
        """`keys` live, rise, and have no other living key between them."""
        revision, first = self.revision + 1, self._written
        revision_key = [encode_revision_key(revision, sub) for sub in range(first, first + len(keys))]
        self.index.delete_many(keys, revision_key)
        self._written = first + len(keys)
        leased = self.leases.leased
        for key, filed in zip(keys, revision_key, strict=True):
            self.backend.put(Bucket.KEY, filed + TOMBSTONE, encode_tombstone(key))
            if key in leased:
                self.leases.detach(key)
        if self.listener is not None:
            mod = varint(revision)
            for sub, key in enumerate(keys, first):
                self.changes.append(Change(revision, sub, key, encode_deleted(key, mod), True))

    def _close_request(self, operations_before: int) -> None:
        if self.counts.operations > operations_before + 1:
            self.counts.txns += 1
        if self._written:
            self.revision += 1
            self._written = 0
            if self.listener is not None:
                changes, self.changes = self.changes, []
                self.listener(changes)
