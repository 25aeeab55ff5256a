"""The writes of one request: puts and deletes that share one revision.

Each write is stored under (main, sub): `main` is the revision of the request, `sub` counts its writes. A request may hold many
operations (Txn); each sees the writes of those before it. `end` closes the request: its revision becomes the store's, unless
nothing was written. One object serves one request after the other, since a Put is too short to pay for a new one.

Invariants: between requests `written` is 0; a key in the index is in the backend.
Source: etcd server/storage/mvcc/kvstore_txn.go, storeTxnWrite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from tercet.errors import KEY_NOT_FOUND, LEASE_NOT_FOUND
from tercet.mvcc.counts import Counts
from tercet.mvcc.encoding import (
    FIRST_SUB,
    TOMBSTONE,
    encode_deleted,
    encode_key_value,
    encode_revision_key,
    encode_tombstone,
    paste_kvs,
)
from tercet.mvcc.events import Event
from tercet.mvcc.key_index import KeyIndex
from tercet.mvcc.ranges import Ranges, bounds
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import paste_field, varint
from tercet.storage.interfaces import Backend, Bucket


class Leases(Protocol):
    """What the store needs of the leases (lease.Lessor)."""

    @property
    def leased(self) -> Mapping[bytes, int]:
        """The lease of each key that has one."""
        ...

    def lease_exists(self, lease_id: int) -> bool: ...
    def attach(self, key: bytes, lease_id: int) -> None: ...
    def detach(self, key: bytes) -> None: ...


class NoLeases:
    """For a store without a lessor: no lease exists."""

    leased: Mapping[bytes, int] = MappingProxyType({})

    def lease_exists(self, lease_id: int) -> bool:
        return False

    def attach(self, key: bytes, lease_id: int) -> None: ...

    def detach(self, key: bytes) -> None: ...


class WriteTxn:
    """Put and delete on behalf of the request being applied.

    main: the revision that its writes get.
    listener: called by `end` with the events of a request that wrote anything; set it before the first request.
    """

    __slots__ = ("_backend", "_counts", "_events", "_ranges", "index", "leases", "listener", "main", "written")

    def __init__(
        self, index: KeyIndex, ranges: Ranges, backend: Backend, leases: Leases, counts: Counts, *, revision: int
    ) -> None:
        """revision: the store's current one."""
        self.index = index
        self._ranges = ranges
        self._backend = backend
        self.leases = leases
        self._counts = counts
        self._events: list[Event] = []
        self.listener: Callable[[Sequence[Event]], None] | None = None
        self.main = revision + 1
        self.written = 0

    @property
    def revision(self) -> int:
        """The revision as an operation of this request sees it: the request's own, once it has written anything."""
        return self.main if self.written else self.main - 1

    def end(self) -> int:
        """Close the request. Returns the store's revision from now on."""
        if self.written:
            self.main += 1
            self.written = 0
            if self.listener is not None:
                events, self._events = self._events, []
                self.listener(events)
        return self.main - 1

    # Operations. Each returns the body of its response, without the header.

    def range(self, request: rpc_pb2.RangeRequest, compact_revision: int) -> bytes:
        """Raises FUTURE_REVISION or COMPACTED."""
        self._counts.ranges += 1
        return self._ranges.answer(request, self.revision, compact_revision)

    def put(self, request: rpc_pb2.PutRequest) -> bytes:
        """Raises LEASE_NOT_FOUND, or KEY_NOT_FOUND for ignore_value or ignore_lease; then nothing was written."""
        lease = request.lease
        if lease and not self.leases.lease_exists(lease):
            raise LEASE_NOT_FOUND
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            return self._put_over(request)
        self._put(request.key, request.value, lease)
        return b""

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> bytes:
        self._counts.deletes += 1
        if request.prev_kv:
            self._counts.ranges += 1
        if not request.range_end:
            keys = [request.key] if request.key in self.index.current else []
        else:
            keys = list(self.index.keys(*bounds(request.key, request.range_end)))
        if not keys:
            return b""
        current = self.index.current
        previous = self._ranges.fetch([current[key][:17] for key in keys]) if request.prev_kv else []
        self._delete(keys)
        return b"\x10" + varint(len(keys)) + paste_kvs(3, previous)

    def delete_key(self, key: bytes) -> None:
        """Delete one key, if it exists."""
        if key in self.index.current:
            self._counts.deletes += 1
            self._delete([key])

    def _put_over(self, request: rpc_pb2.PutRequest) -> bytes:
        """A Put that reads the key-value it replaces."""
        self._counts.ranges += 1
        previous = self._ranges.get_current(request.key)
        value, lease = request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            if previous is None:
                raise KEY_NOT_FOUND
            kept = kv_pb2.KeyValue.FromString(previous)
            value = kept.value if request.ignore_value else value
            lease = kept.lease if request.ignore_lease else lease
        self._put(request.key, value, lease)
        return paste_field(2, previous) if request.prev_kv and previous is not None else b""

    def _put(self, key: bytes, value: bytes, lease: int) -> None:
        revision, sub = self.main, self.written
        self._counts.puts += 1
        self._counts.put_bytes += len(key) + len(value)
        revision_key = encode_revision_key(revision, sub) if sub else revision.to_bytes(8, "big") + FIRST_SUB
        mod = varint(revision)
        create, version = self.index.put(key, revision_key, mod)
        kv = encode_key_value(key, create, mod, version, value, lease)
        self._backend.put(Bucket.KEY, revision_key, kv)
        self.written = sub + 1
        if lease or key in self.leases.leased:
            self._attach_lease(key, lease)
        if self.listener is not None:
            self._events.append(Event(revision, sub, key, kv, False))

    def _attach_lease(self, key: bytes, lease: int) -> None:
        """A key belongs to the lease of its last Put, or to none."""
        held = self.leases.leased.get(key, 0)
        if held != lease:
            if held:
                self.leases.detach(key)
            if lease:
                self.leases.attach(key, lease)

    def _delete(self, keys: list[bytes]) -> None:
        """keys: sorted and existing, with no other existing key between them."""
        revision, first = self.main, self.written
        revision_keys = [encode_revision_key(revision, sub) for sub in range(first, first + len(keys))]
        self.index.delete_many(keys, revision_keys)
        self.written = first + len(keys)
        leased = self.leases.leased
        for key, revision_key in zip(keys, revision_keys, strict=True):
            self._backend.put(Bucket.KEY, revision_key + TOMBSTONE, encode_tombstone(key))
            if key in leased:
                self.leases.detach(key)
        if self.listener is not None:
            mod = varint(revision)
            for sub, key in enumerate(keys, first):
                self._events.append(Event(revision, sub, key, encode_deleted(key, mod), True))
